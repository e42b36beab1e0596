import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { CPU_MODELS, type CpuModelName, formatAddress, ZEN3 } from '@trapdoor/core'
import { CpuError } from '@trapdoor/cpu'
import {
  DEFAULT_MEMORY_BYTES,
  GuestError,
  type GuestMachine,
  type GuestOutcome,
  loadGuest,
  readMultibootImage,
  runGuest,
} from '@trapdoor/guest'
import { type Command, Option } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { wholeNumber } from '../options.ts'

interface GuestCommandOptions {
  readonly cpu: CpuModelName
  readonly memory: number
  readonly append?: string
  readonly module?: string
  readonly maxInstructions: number
}

/** Instructions between two looks at whether the user has interrupted. */
const SLICE = 5_000_000
const MIB = 2 ** 20
/** An exit port of kvm-unit-tests' says so when all of its tests were skipped (lib/report.c, `report_summary`). */
const ALL_SKIPPED = 77

/** Adds `trapdoor guest`. `finish` is told the exit code. */
export function addGuestCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  program
    .command('guest')
    .description('run a Multiboot image on the emulated CPU')
    .argument('<file>', 'ELF with a Multiboot header, or a flat image whose header has addresses')
    .addOption(
      new Option('--cpu <model>', 'the CPU model that it runs on')
        .choices(Object.keys(CPU_MODELS))
        .default(ZEN3.name),
    )
    .addOption(
      new Option('--memory <bytes>', 'its memory, a multiple of 1 MiB: 268435456, 256M or 1G')
        .default(DEFAULT_MEMORY_BYTES, `${DEFAULT_MEMORY_BYTES / MIB}M`)
        .argParser(memorySize),
    )
    .option('--append <arguments>', 'what follows the file name on its command line')
    .option('--module <file>', 'a file that the loader puts beside it, as QEMU does with -initrd')
    .addOption(
      new Option('--max-instructions <number>', 'stop it after so many')
        .default(Infinity, 'none')
        .argParser((text) =>
          wholeNumber(text, /^[1-9]\d{0,14}$/, 'a number of instructions from 1'),
        ),
    )
    .addHelpText(
      'after',
      '\nExit codes: 0, the guest wrote 0 to the exit port 0xf4, or switched itself off; 1, it wrote something else, crashed, hung or was stopped;\n2, the file is no Multiboot image, or comes to an instruction that is missing; 130, interrupted.\n',
    )
    .action(async (file: string, options: GuestCommandOptions) => {
      finish(await runToEnd(file, options, io))
    })
}

async function runToEnd(file: string, options: GuestCommandOptions, io: CliIo): Promise<number> {
  const serial = new SerialOutput(io)
  const guest = loadGuest(readMultibootImage(await readInput(file, io), file), {
    file,
    features: CPU_MODELS[options.cpu],
    memoryBytes: options.memory,
    transmit: (byte) => {
      serial.write(byte)
    },
    ...(options.append === undefined ? {} : { append: options.append }),
    ...(options.module === undefined
      ? {}
      : { modules: [{ bytes: await readInput(options.module, io), commandLine: options.module }] }),
  })
  const outcome = await runInSlices(guest, options.maxInstructions, file, io)
  serial.flush()
  if (outcome === 'interrupted') return ExitCode.Interrupted
  const count = guest.cpu.instructions.toLocaleString('en-US')
  io.stderr.write(`guest: ${describe(outcome)} after ${count} instructions\n`)
  const isGood =
    (outcome.kind === 'exit' && outcome.value === 0) ||
    (outcome.kind === 'reset' && outcome.type === 'shutdown')
  return isGood ? ExitCode.Ok : ExitCode.Finding
}

/** Runs a guest to its end; between slices the user can interrupt. */
async function runInSlices(
  guest: GuestMachine,
  maxInstructions: number,
  file: string,
  io: CliIo,
): Promise<GuestOutcome | 'interrupted'> {
  for (;;) {
    const left = maxInstructions - guest.cpu.instructions
    const outcome = runSlice(guest, Math.min(left, SLICE), file)
    if (outcome.kind !== 'instruction-limit' || left <= SLICE) return outcome
    await new Promise((resume) => setImmediate(resume))
    if (io.signal?.aborted === true) return 'interrupted'
  }
}

function runSlice(guest: GuestMachine, instructions: number, file: string): GuestOutcome {
  try {
    return runGuest(guest, instructions)
  } catch (error) {
    if (!(error instanceof CpuError)) throw error
    throw new GuestError('GUEST_NOT_RUNNABLE', {
      file,
      expected: 'instructions that the interpreter has',
      found: error.message.replace(/^expected .*, found /, ''),
      hint: 'packages/cpu/README.md lists what is there',
    })
  }
}

function describe(outcome: GuestOutcome): string {
  if (outcome.kind === 'exit') {
    return outcome.value === ALL_SKIPPED
      ? `exited with ${outcome.value} (kvm-unit-tests: everything was skipped)`
      : `exited with ${outcome.value}`
  }
  if (outcome.kind === 'reset') {
    return outcome.type === 'shutdown' ? 'switched itself off' : `reset (${outcome.type})`
  }
  if (outcome.kind === 'triple-fault') {
    return `${outcome.fault.message}, at ${formatAddress(outcome.rip)},`
  }
  if (outcome.kind === 'hang') {
    return outcome.interrupts === 'off'
      ? `hang: HLT with interrupts off before ${formatAddress(outcome.rip)}`
      : `hang: HLT before ${formatAddress(outcome.rip)}, and no interrupt will come,`
  }
  return 'stopped, as --max-instructions has it,'
}

async function readInput(file: string, io: CliIo): Promise<Uint8Array> {
  try {
    return await readFile(resolve(io.cwd, file))
  } catch (error) {
    throw new GuestError('GUEST_UNREADABLE', {
      file,
      expected: 'a file that can be read',
      found: (error as NodeJS.ErrnoException).code ?? String(error),
    })
  }
}

/** 1048576, 256M, 1G. */
function memorySize(text: string): number {
  const [, digits, unit] = /^(\d{1,15})([KMG]?)$/i.exec(text) ?? []
  const scale = { '': 1, K: 2 ** 10, M: MIB, G: 2 ** 30 }[unit?.toUpperCase() ?? '']
  const bytes = digits === undefined ? Number.NaN : Number(digits) * scale!
  const isUsable = bytes % MIB === 0 && bytes >= 2 * MIB && bytes <= 2 ** 40
  return wholeNumber(
    isUsable ? String(bytes) : text,
    isUsable ? /^\d+$/ : /^$/,
    'a multiple of 1 MiB from 2 MiB to 1 TiB, such as 268435456, 256M or 1G',
  )
}

/** The guest's serial line as text, written when a line is whole. */
class SerialOutput {
  readonly #io: CliIo
  readonly #decoder = new TextDecoder()
  #bytes: number[] = []

  constructor(io: CliIo) {
    this.#io = io
  }

  write(byte: number): void {
    this.#bytes.push(byte)
    if (byte === 0x0a) this.flush()
  }

  flush(): void {
    if (this.#bytes.length === 0) return
    this.#io.stdout.write(this.#decoder.decode(Uint8Array.from(this.#bytes), { stream: true }))
    this.#bytes = []
  }
}
