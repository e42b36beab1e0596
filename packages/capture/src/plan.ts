import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { SNAPSHOT_FORMAT_VERSION } from '@trapdoor/snapshot'
import type { Architecture, MemoryDescriptor } from '@trapdoor/uefi'
import { type HandOverApplication, handOverApplication } from './application/hand-over.ts'
import { CaptureError } from './error.ts'
import { findFirmware, type Firmware, type ImageFile, readDriver } from './firmware/firmware.ts'
import { type MachineChoice, type MachineNeeds, qemuArguments } from './qemu/command.ts'
import { LOG_ARGUMENTS } from './vectors/device-log.ts'
import { pluginArguments } from './vectors/trace-plugin.ts'

/** What to capture, and on which machine. */
export interface CaptureOptions {
  /** Path of the firmware's image, such as /usr/share/OVMF/OVMF_CODE_4M.fd. */
  readonly firmware: string
  /** Path of the variable store to start with. Default: the one that belongs to the firmware. */
  readonly variables?: string | undefined
  /** What the firmware is built for. Default: what its package or its name says. */
  readonly architecture?: 'x64' | 'ia32' | undefined
  /** Whether the firmware needs system-management mode. Default: what its package or its name says. */
  readonly smm?: boolean | undefined
  /** Default: q35, the only one that has SMM for firmware. */
  readonly board?: 'pc' | 'q35' | undefined
  /** MiB, from 128 to 2048. Default: 512. */
  readonly memory?: number | undefined
  /** Default: max,la57=off. */
  readonly cpu?: string | undefined
  /** More arguments for QEMU, such as -device and its value. */
  readonly qemu?: readonly string[] | undefined
  /** Paths of EFI drivers that the UEFI shell loads first, in order. */
  readonly drivers?: readonly string[] | undefined
  /** Whether and how runtime services are called afterwards, and what they do is recorded. Default: not. */
  readonly calls?: CallPlan | undefined
  /** Whether the application is handed to the firmware by QEMU's -kernel, or found on a disk. Default: kernel, but with drivers, which the shell of a disk's startup.nsh loads. */
  readonly start?: 'kernel' | 'disk' | undefined
}

/** How runtime services are called. */
export interface CallPlan {
  /** The map for SetVirtualAddressMap that an operating system makes of the firmware's: the regions that it passes, in its order, with virtual addresses. */
  readonly virtualMap: (
    memoryMap: readonly MemoryDescriptor[],
    architecture: Architecture['name'],
  ) => readonly MemoryDescriptor[]
  /** Tells one `virtualMap` from another, such as "linux-6.1". */
  readonly rule: string
}

/** What will be done, with everything that decides on the result. */
export interface CapturePlan {
  /** Short, such as "q35-OVMF_CODE_4M-512M". */
  readonly name: string
  readonly firmware: Firmware
  readonly drivers: readonly ImageFile[]
  readonly application: HandOverApplication
  readonly machine: MachineChoice
  readonly needs: MachineNeeds
  readonly calls: CallPlan | undefined
}

const LEAST_MEMORY = 128
/** Below the hole that PCs have under 4 GiB, so that memory is in one piece. */
const MOST_MEMORY = 2048

/** Reads the files and decides what was left open. Throws a CaptureError. */
export function planCapture(options: CaptureOptions): CapturePlan {
  const firmware = findFirmware(options)
  const { board = 'q35', memory = 512, cpu = 'max,la57=off' } = options
  if (!Number.isInteger(memory) || memory < LEAST_MEMORY || memory > MOST_MEMORY) {
    throw new CaptureError('CAPTURE_BAD_OPTION', {
      expected: `from ${LEAST_MEMORY} to ${MOST_MEMORY} MiB of memory`,
      found: String(memory),
    })
  }
  if (board === 'pc' && firmware.smm) {
    throw new CaptureError('CAPTURE_BAD_OPTION', {
      expected: 'board q35 for a firmware with system-management mode',
      found: 'pc',
      file: firmware.code.path,
    })
  }
  const drivers = (options.drivers ?? []).map((path) => readDriver(path, firmware.architecture))
  const start = options.start ?? (drivers.length > 0 ? 'disk' : 'kernel')
  if (start === 'kernel' && drivers.length > 0) {
    throw new CaptureError('CAPTURE_BAD_OPTION', {
      expected: 'a start from disk, as drivers are loaded by the shell',
      found: 'a start by -kernel',
    })
  }
  const loaded = drivers.map(({ path }) => `+${nameOf(path)}`).join('')
  const application = handOverApplication(firmware.architecture)
  return {
    name: `${board}-${nameOf(firmware.code.path)}${loaded}-${memory}M`,
    firmware,
    drivers,
    application,
    machine: { board, memory, cpu, extra: options.qemu ?? [] },
    needs: { smm: firmware.smm, separateVariables: firmware.variables !== undefined, start },
    calls: options.calls,
  }
}

/** The arguments of QEMU. */
export function planArguments({ machine, needs, calls, application }: CapturePlan): string[] {
  const { caller } = application
  const recording =
    calls === undefined || caller === undefined
      ? []
      : [...LOG_ARGUMENTS, ...pluginArguments(caller)]
  return [...qemuArguments(machine, needs), ...recording]
}

/** What decides on the bytes of a snapshot, as a number of 64 hexadecimal digits: the files, the machine, QEMU's version and the version of the form. */
export function planKey(plan: CapturePlan, qemu: string): string {
  const hash = createHash('sha256')
  const parts = [
    String(SNAPSHOT_FORMAT_VERSION),
    qemu,
    plan.name,
    plan.firmware.architecture,
    plan.firmware.code.sha256,
    plan.firmware.variables?.sha256 ?? 'none',
    createHash('sha256').update(plan.application.file).digest('hex'),
    plan.calls?.rule ?? 'not called',
    ...planArguments(plan),
    ...plan.drivers.map(({ sha256 }) => sha256),
  ]
  for (const part of parts) hash.update(`${part}\0`)
  return hash.digest('hex')
}

function nameOf(path: string): string {
  return basename(path).replace(/\.(?:fd|bin|efi)$/i, '')
}
