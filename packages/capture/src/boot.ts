import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ARCHITECTURES, efiStatusName } from '@trapdoor/uefi'
import { decodeRecord, type HandOverRecord, RECORD_SIZE } from './application/record.ts'
import { CaptureError } from './error.ts'
import { type CapturePlan, planArguments } from './plan.ts'
import { MachineFile } from './qemu/command.ts'
import { type EmulatedMachine, type Patience, withMachine } from './qemu/machine.ts'
import { compilePlugin } from './vectors/trace-plugin.ts'

/** Names of the application on a removable disk (UEFI 2.10, 3.5.1.1). */
const REMOVABLE = { x64: 'EFI/BOOT/BOOTX64.EFI', ia32: 'EFI/BOOT/BOOTIA32.EFI' } as const
/** Of the files on the disk: the same in each capture, as their directory lies in memory. */
const FILE_TIME = new Date('2024-01-01T00:00:00Z')

/**
 * Boots the firmware of a plan and lets `work` have the machine where the operating system takes over: ExitBootServices has returned, and not one instruction more of the firmware has run. Throws what
 * {@link withMachine} throws, and CAPTURE_REFUSED.
 */
export function bootToHandOver<Result>(
  plan: CapturePlan,
  patience: Patience,
  work: (machine: EmulatedMachine, record: HandOverRecord) => Promise<Result>,
): Promise<Result> {
  return withMachine(
    patience,
    async (directory) => {
      await fillFolder(directory, plan)
      if (plan.calls !== undefined) await compilePlugin(directory)
      return planArguments(plan)
    },
    async (machine) => work(machine, await runToHandOver(machine, plan)),
  )
}

async function fillFolder(
  directory: string,
  { firmware, application, drivers, needs }: CapturePlan,
): Promise<void> {
  await writeFile(join(directory, MachineFile.Code), firmware.code.bytes)
  if (firmware.variables !== undefined) {
    await writeFile(join(directory, MachineFile.Variables), firmware.variables.bytes)
  }
  await writeFile(join(directory, MachineFile.Application), application.file)
  if (needs.start === 'kernel') return
  const files = new Map<string, Uint8Array | string>(
    drivers.map(({ bytes }, index) => [`driver${index}.efi`, bytes]),
  )
  if (drivers.length === 0) {
    files.set(REMOVABLE[application.architecture], application.file)
  } else {
    files.set(MachineFile.Application, application.file)
    files.set('startup.nsh', shellScript([...files.keys()]))
  }
  for (const [name, contents] of files) {
    const path = join(directory, MachineFile.Disk, name)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, contents)
    for (let each = path; each !== directory; each = dirname(each)) {
      await utimes(each, FILE_TIME, FILE_TIME)
    }
  }
}

/** Loads the drivers and starts the application, which comes last. */
function shellScript(files: readonly string[]): string {
  const drivers = files.slice(0, -1).map((file) => `load ${file}`)
  return ['@echo -off', 'fs0:', ...drivers, files.at(-1)!, ''].join('\r\n')
}

async function runToHandOver(
  { gdb }: EmulatedMachine,
  { application, firmware }: CapturePlan,
): Promise<HandOverRecord> {
  const { handedOver, refused } = application
  await gdb.setBreakpoint(BigInt(handedOver))
  await gdb.setBreakpoint(BigInt(refused))
  await gdb.run()
  const place = await gdb.readRegister('rip')
  const record = decodeRecord(
    await gdb.readMemory(BigInt(application.record), RECORD_SIZE),
    ARCHITECTURES[firmware.architecture],
  )
  await gdb.removeBreakpoint(BigInt(handedOver))
  await gdb.removeBreakpoint(BigInt(refused))
  if (place === BigInt(handedOver)) return record
  throw new CaptureError('CAPTURE_REFUSED', {
    expected: 'ExitBootServices to return EFI_SUCCESS',
    found: `${efiStatusName(record.status)} in ${record.attempts} attempts`,
    file: firmware.code.path,
  })
}
