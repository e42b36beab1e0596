import { basename, resolve } from 'node:path'
import {
  CaptureError,
  type CaptureOptions,
  cachedSnapshot,
  captureFirmware,
  planCapture,
  qemuVersion,
  snapshotCache,
} from '@trapdoor/capture'
import { checkSnapshotFolder, writeSnapshot } from '@trapdoor/snapshot'
import { type Command, Option } from 'commander'
import { LINUX_MAP } from '../capture/linux-map.ts'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'

/** What Debian's package ovmf brings. */
const DEFAULT_FIRMWARE = '/usr/share/OVMF/OVMF_CODE_4M.fd'
const DEFAULT_TIMEOUT = 300

interface CaptureCommandOptions {
  readonly output?: string
  readonly variables?: string
  readonly board?: 'pc' | 'q35'
  readonly memory?: number
  readonly cpu?: string
  readonly smm?: boolean
  readonly architecture?: 'x64' | 'ia32'
  readonly driver?: readonly string[]
  readonly qemu?: readonly string[]
  readonly start?: 'kernel' | 'disk'
  readonly vectors?: true
  readonly timeout: number
}

const EXPLANATION = `
The firmware boots in QEMU until an application that stands for the operating system has left
boot services. What is then in memory, in the flash, in devices and in the processor is written as a
snapshot. The same firmware gives the same bytes.
Needs: apt-get install --no-install-recommends qemu-system-x86 ovmf
(ovmf-ia32 for 32-bit firmware, gcc and libc6-dev for --vectors).
`

/** Adds `trapdoor capture`. `finish` is told the exit code. */
export function addCaptureCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  program
    .command('capture')
    .description('boot a real firmware in QEMU and keep it as a snapshot')
    .argument('[firmware]', `image of the firmware (default: ${DEFAULT_FIRMWARE})`)
    .option(
      '-o, --output <folder>',
      'folder to write (default: one in the cache, if it is not there yet)',
    )
    .option('--variables <file>', 'variable store (default: the one that belongs to the firmware)')
    .addOption(new Option('--board <board>', 'board (default: q35)').choices(['pc', 'q35']))
    .addOption(numberOption('--memory <MiB>', 'memory of the machine (default: 512)'))
    .option('--cpu <model>', 'what QEMU gets as -cpu (default: max,la57=off)')
    .option('--smm', 'the firmware needs system-management mode (default: what its package says)')
    .option('--no-smm', 'it does not')
    .addOption(
      new Option('--architecture <name>', 'what the firmware is built for').choices([
        'x64',
        'ia32',
      ]),
    )
    .option(
      '--driver <file>',
      'EFI driver that the UEFI shell loads first; may be repeated',
      collect,
    )
    .option('--qemu <argument>', 'one more argument for QEMU; may be repeated', collect)
    .option(
      '--vectors',
      'then call every runtime service, as Linux maps them, and record what each call does; `trapdoor replay` runs the recording again',
    )
    .addOption(
      new Option(
        '--start <way>',
        'how the firmware gets the application (default: kernel, with drivers disk)',
      ).choices(['kernel', 'disk']),
    )
    .addOption(numberOption('--timeout <seconds>', 'when to give up').default(DEFAULT_TIMEOUT))
    .addHelpText('after', EXPLANATION)
    .action(async (firmware: string | undefined, options: CaptureCommandOptions) => {
      const plan = planCapture(captureOptions(firmware ?? DEFAULT_FIRMWARE, options, io.cwd))
      const output = options.output === undefined ? undefined : resolve(io.cwd, options.output)
      if (output !== undefined) await checkSnapshotFolder(output)
      // Who has no QEMU is told so, and not that it starts.
      await qemuVersion()
      const patience = { timeout: options.timeout, signal: io.signal }
      io.stderr.write(`${plan.name}: starting ${basename(plan.firmware.code.path)} in QEMU\n`)
      const { changed } = plan.firmware.variables ?? plan.firmware.code
      if (changed !== undefined) {
        io.stderr.write(
          `${plan.name}: Secure Boot is switched off in a copy of the variable store, as nobody has signed what stands for the operating system: ${changed}\n`,
        )
      }
      const folder = await (output === undefined
        ? cachedSnapshot(plan, patience, snapshotCache(io.env))
        : captureInto(output))
      io.stdout.write(`${folder}\n`)
      finish(ExitCode.Ok)

      async function captureInto(target: string): Promise<string> {
        await writeSnapshot(target, await captureFirmware(plan, patience))
        return target
      }
    })
}

function captureOptions(
  firmware: string,
  options: CaptureCommandOptions,
  cwd: string,
): CaptureOptions {
  const { variables, driver, vectors, output: _output, timeout: _timeout, ...rest } = options
  return {
    ...rest,
    firmware: resolve(cwd, firmware),
    variables: variables === undefined ? undefined : resolve(cwd, variables),
    drivers: driver?.map((file) => resolve(cwd, file)),
    calls: vectors === true ? LINUX_MAP : undefined,
  }
}

function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value]
}

function numberOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text: string) => {
    if (/^[1-9]\d{0,6}$/.test(text)) return Number(text)
    throw new CaptureError('CAPTURE_BAD_OPTION', {
      expected: `a whole number for ${flags}`,
      found: `"${text}"`,
    })
  })
}
