import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa, type Result as Ending } from 'execa'
import { CaptureError } from '../error.ts'
import { MachineFile } from './command.ts'
import { GdbClient } from './gdb-client.ts'

/** The command. */
export const QEMU = 'qemu-system-x86_64'
/** The Debian package that brings it. */
const PACKAGE = 'qemu-system-x86'
const PAGE = 4096
/** What the boot manager says of an image that Secure Boot refuses: EFI_SECURITY_VIOLATION in words (MdePkg/Library/BasePrintLib). */
const SECURITY_VIOLATION = 'Security Violation'
/** Characters of a log that are worth showing. */
const TAIL = 600
/** Physical memory goes through this file, in the machine's folder. */
const MEMORY = 'memory.bin'

/** How long a machine may take, and who may end it. */
export interface Patience {
  /** Seconds of the host's time until the machine is given up. */
  readonly timeout: number
  readonly signal?: AbortSignal | undefined
}

/** A QEMU that stands still, but for the time in which {@link GdbClient.run} waits for it. */
export class EmulatedMachine {
  readonly gdb: GdbClient
  /** Its folder. */
  readonly directory: string

  constructor(gdb: GdbClient, directory: string) {
    this.gdb = gdb
    this.directory = directory
  }

  /** Physical memory from `address` on, as a processor would read it; whole pages. Throws CAPTURE_PROTOCOL. */
  async readPhysical(address: number, pages: number): Promise<Uint8Array> {
    const bytes = pages * PAGE
    const said = await this.gdb.monitor(`pmemsave 0x${address.toString(16)} ${bytes} ${MEMORY}`)
    const read = await readFile(join(this.directory, MEMORY))
    if (read.length === bytes && said.trim() === '') return read
    throw new CaptureError('CAPTURE_PROTOCOL', {
      expected: `${bytes} bytes of memory at 0x${address.toString(16)}`,
      found: said.trim() === '' ? `${read.length} bytes` : said.trim(),
    })
  }
}

/** The version of QEMU, such as "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)". Throws CAPTURE_QEMU_MISSING. */
export async function qemuVersion(): Promise<string> {
  const result = await execa(QEMU, ['--version'], { reject: false })
  if (result.code === 'ENOENT') throw missing()
  return /version (.+)/.exec(result.stdout)?.[1] ?? result.stdout.trim()
}

/**
 * Starts a QEMU in a folder of its own, which `prepare` fills and whose arguments it returns, and lets `work` have it. Afterwards the machine is ended and the folder removed, however it went.
 * Throws what `work` throws; CAPTURE_QEMU_MISSING, CAPTURE_QEMU_FAILED, CAPTURE_TIMEOUT, CAPTURE_INTERRUPTED.
 */
export async function withMachine<Result>(
  patience: Patience,
  prepare: (directory: string) => Promise<readonly string[]>,
  work: (machine: EmulatedMachine) => Promise<Result>,
): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), 'trapdoor-capture-'))
  try {
    const args = await prepare(directory)
    return await runMachine(directory, args, patience, work)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function runMachine<Result>(
  directory: string,
  args: readonly string[],
  { timeout, signal }: Patience,
  work: (machine: EmulatedMachine) => Promise<Result>,
): Promise<Result> {
  const stop = new AbortController()
  const qemu = execa(QEMU, args, {
    cwd: directory,
    stdin: 'pipe',
    buffer: { stdout: false },
    timeout: timeout * 1000,
    cancelSignal: signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]),
    forceKillAfterDelay: 2000,
    reject: false,
  })
  const gdb = new GdbClient(qemu.stdout, qemu.stdin)
  const tellWhyEnded = async (): Promise<void> => {
    const end = await qemu
    if (!stop.signal.aborted) gdb.fail(await whyEnded(end, { directory, timeout, signal }))
  }
  const ended = tellWhyEnded()
  try {
    return await work(new EmulatedMachine(gdb, directory))
  } finally {
    stop.abort()
    await ended
  }
}

/** Why a machine ended that was still needed. */
async function whyEnded(
  end: Pick<Ending, 'exitCode' | 'code' | 'timedOut'> & { readonly stderr: string },
  context: { directory: string; timeout: number; signal: AbortSignal | undefined },
): Promise<CaptureError> {
  if (context.signal?.aborted === true) {
    return new CaptureError('CAPTURE_INTERRUPTED', {
      expected: 'time to finish',
      found: 'an interrupt',
    })
  }
  if (end.code === 'ENOENT') return missing()
  const words = await lastWords(context.directory)
  if (words.includes(SECURITY_VIOLATION)) {
    return new CaptureError('CAPTURE_SECURE_BOOT', {
      expected: 'a firmware that starts the application which stands for the operating system',
      found: 'one that has refused it, as it is not signed with a key of its store',
      hint: 'start with a variable store without enrolled keys: --variables FILE',
    })
  }
  if (end.timedOut) {
    return new CaptureError('CAPTURE_TIMEOUT', {
      expected: `the machine to be done within ${context.timeout} seconds`,
      found: 'that it still ran',
      hint: words,
    })
  }
  return new CaptureError('CAPTURE_QEMU_FAILED', {
    expected: `${QEMU} to run until it is ended`,
    found: `exit code ${end.exitCode ?? 'none'}`,
    hint: `${end.stderr.trim().slice(-TAIL)}\n        ${words}`.trim(),
  })
}

/** The ends of what the firmware printed. */
async function lastWords(directory: string): Promise<string> {
  const tail = async (file: string): Promise<string> => {
    const text = await readFile(join(directory, file), 'latin1').catch(() => '')
    return withoutControls(text).slice(-TAIL).trim()
  }
  const serial = await tail(MachineFile.Serial)
  const debug = await tail(MachineFile.DebugConsole)
  return [
    `the serial console ends with: ${serial === '' ? 'nothing' : serial}`,
    `the debug console ends with: ${debug === '' ? 'nothing' : debug}`,
  ].join('\n        ')
}

/** Text of a terminal without what moves the cursor and changes colours. */
function withoutControls(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replaceAll(/\u001B\[[\d;=]*[A-Za-z]/g, '').replaceAll(/[^\n\u0020-\u007E]/g, '')
}

function missing(): CaptureError {
  return new CaptureError('CAPTURE_QEMU_MISSING', {
    expected: `the command ${QEMU}`,
    found: 'none',
    hint: `apt-get install --no-install-recommends ${PACKAGE} ovmf`,
  })
}
