import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { MemoryDescriptor } from '@trapdoor/uefi'
import { toMemoryDescriptors } from '../descriptors.ts'
import { IntakeError } from '../error.ts'
import { readMemoryMaps } from '../read-memory-maps.ts'
import { readLines, type SourceLine, unpack } from '../source-text.ts'
import { type KernelLog, readKernelLogs } from './kernel-log.ts'
import { type ObservedLeaf, readPageTables } from './page-tables.ts'
import { readKernelImage } from './iomem.ts'

/** A machine that was booted while somebody looked, as a folder of what its kernels said. */
export interface ObservedBoot {
  /** The folder's name. */
  readonly name: string
  /** The firmware's map at hand-off; undefined where none was printed. */
  readonly firmware: ObservedFirmware | undefined
  /** The emulator's command up to the kernel: two boots that have the same ran on the same machine. */
  readonly machine: string
  /** What follows -cpu, such as "max,la57=off". */
  readonly cpuModel: string
  readonly cpus: number
  /** The kernels that ran, one after the other. */
  readonly kernels: readonly ObservedKernel[]
}

/** What the firmware left in memory. Addresses are physical. */
export interface ObservedFirmware {
  readonly memoryMap: readonly MemoryDescriptor[]
  /** Where the memory attributes table is, and what it says; undefined where there is none. */
  readonly memoryAttributes:
    | { readonly address: number; readonly entries: readonly MemoryDescriptor[] }
    | undefined
}

/** One kernel: how it was started, what it had mapped, how it ended. */
export interface ObservedKernel extends KernelLog {
  /** `boot1`, `boot2` after kexec, `kdump` after a crash. */
  readonly stage: string
  /** Physical bytes of the image, `end` exclusive; undefined where /proc/iomem does not tell. */
  readonly image: { readonly start: number; readonly end: number } | undefined
  /** efi.memmap with virtual addresses; undefined where the kernel has none. */
  readonly runtimeMap: readonly MemoryDescriptor[] | undefined
  /** Every leaf of the EFI page tables, in the order of addresses; undefined where the kernel has none. */
  readonly leaves: readonly ObservedLeaf[] | undefined
}

const STAGES = ['boot1', 'boot2', 'boot3', 'boot4', 'kdump'] as const

/**
 * Reads a folder with `command.txt`, `firmware-map.txt`, and for each kernel `STAGE.dmesg.gz`, `STAGE.runtime-map.txt`, `STAGE.efi-pgd.json`, `STAGE.iomem.txt`.
 * Throws an IntakeError that names file and line where something is missing, cut or not what its name says.
 */
export function readObservedBoot(folder: string): ObservedBoot {
  const command = linesOf(join(folder, 'command.txt'))[0]!.text
  const firmwareFile = join(folder, 'firmware-map.txt')
  const stages = STAGES.filter((stage) => existsSync(join(folder, `${stage}.dmesg.gz`)))
  if (stages.length === 0) {
    throw new IntakeError('INTAKE_EMPTY', {
      file: folder,
      expected: 'the log of a kernel, boot1.dmesg.gz',
      found: 'none',
      hint: 'give the folder of one boot, or one whose subfolders are boots',
    })
  }
  return {
    name: basename(folder),
    firmware: existsSync(firmwareFile) ? readFirmware(firmwareFile) : undefined,
    machine: command.split(' -kernel ')[0]!,
    cpuModel: /\s-cpu\s+(\S+)/.exec(command)?.[1] ?? 'unknown',
    cpus: Number(/\s-smp\s+(\d+)/.exec(command)?.[1] ?? 1),
    kernels: stages.map((stage) => readKernel(folder, stage)),
  }
}

function readFirmware(file: string): ObservedFirmware {
  const bytes = readFileSync(file)
  const { maps } = readMemoryMaps({ file, bytes })
  const map = maps.find(({ kind }) => kind === 'firmware')
  if (map === undefined) {
    throw new IntakeError('INTAKE_NO_MAP', { file, expected: 'a firmware’s map', found: 'none' })
  }
  const attributes = maps.find(({ kind }) => kind === 'memory-attributes')
  const tables = linesOf(file).find(({ text }) => /\bMEMATTR=0x/.test(text))
  const address = /\bMEMATTR=(0x[\da-f]+)/.exec(tables?.text ?? '')?.[1]
  if (attributes !== undefined && address === undefined) {
    throw new IntakeError('INTAKE_INCOMPLETE', {
      file,
      line: attributes.line,
      expected: 'the address of the memory attributes table, MEMATTR=0x…',
      found: 'its entries alone',
    })
  }
  return {
    memoryMap: toMemoryDescriptors(map),
    memoryAttributes:
      attributes === undefined || address === undefined
        ? undefined
        : {
            address: Number(address),
            entries: attributes.entries.map((entry) => ({
              type: entry.type,
              physicalStart: Number(entry.start),
              virtualStart: 0n,
              numberOfPages: Number(entry.pages),
              attribute: entry.attribute ?? 0n,
            })),
          },
  }
}

function readKernel(folder: string, stage: string): ObservedKernel {
  const path = (ending: string): string => join(folder, `${stage}.${ending}`)
  const log = path('dmesg.gz')
  const runtimeMap = path('runtime-map.txt')
  const tables = path('efi-pgd.json')
  const iomem = path('iomem.txt')
  const [kernel] = readKernelLogs(log, linesOf(log))
  return {
    ...kernel!,
    stage,
    image: existsSync(iomem) ? readKernelImage(linesOf(iomem)) : undefined,
    runtimeMap: existsSync(runtimeMap) ? readRuntimeMap(runtimeMap) : undefined,
    leaves: existsSync(tables) ? readPageTables(tables, readFileSync(tables)) : undefined,
  }
}

function readRuntimeMap(file: string): MemoryDescriptor[] {
  const { maps } = readMemoryMaps({ file, bytes: readFileSync(file) })
  return maps[0]!.entries.map((entry) => {
    if (entry.virtualStart === undefined || entry.attribute === null) {
      throw new IntakeError('INTAKE_BAD_ENTRY', {
        file,
        line: entry.line,
        expected: 'a descriptor with its virtual address',
        found: 'one without',
      })
    }
    return {
      type: entry.type,
      physicalStart: Number(entry.start),
      virtualStart: entry.virtualStart,
      numberOfPages: Number(entry.pages),
      attribute: entry.attribute,
    }
  })
}

/** The lines of a text file, gzip unpacked. Throws INTAKE_EMPTY where it is not there. */
export function linesOf(file: string): SourceLine[] {
  if (!existsSync(file)) {
    throw new IntakeError('INTAKE_EMPTY', { file, expected: 'a file', found: 'none' })
  }
  return readLines(file, unpack({ file, bytes: readFileSync(file) }))
}
