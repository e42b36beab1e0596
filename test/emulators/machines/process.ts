import { execa } from 'execa'

import { EmulatorError } from './emulator.ts'

/** Few runs take so long. */
const TIME_LIMIT_MS = 120_000

export interface ProcessOptions {
  readonly directory: string
  /** Debian packages that bring the command. */
  readonly packages: readonly string[]
  /** The exit codes that say that the guest has ended. */
  readonly exitCodes: readonly number[]
  /** How long it may take, in milliseconds; default two minutes. */
  readonly timeLimitMs?: number
  /** Gets the error output piece by piece, which is not kept then. */
  readonly onErrorOutput?: (text: string) => void
}

/** Runs an emulator until it ends, or until it is ended: it never outlives this process. Throws {@link EmulatorError}. */
export async function runEmulator(
  command: string,
  args: readonly string[],
  options: ProcessOptions,
): Promise<void> {
  const { onErrorOutput, timeLimitMs = TIME_LIMIT_MS } = options
  const running = execa(command, args, {
    cwd: options.directory,
    all: true,
    stdin: 'ignore',
    timeout: timeLimitMs,
    forceKillAfterDelay: 2000,
    cleanup: true,
    reject: false,
    buffer: onErrorOutput === undefined,
  })
  if (onErrorOutput !== undefined) {
    running.stderr.setEncoding('latin1').on('data', onErrorOutput)
    running.stdout.resume()
  }
  const result = await running
  // One that is ended for taking too long may still end with a code of its own.
  const { exitCode, timedOut } = result
  if (!timedOut && exitCode !== undefined && options.exitCodes.includes(exitCode)) return
  if (result.code === 'ENOENT') {
    throw new EmulatorError(
      'EMULATOR_MISSING',
      `${command} is not installed`,
      `apt-get install --no-install-recommends ${options.packages.join(' ')}`,
    )
  }
  const found = timedOut
    ? `did not end within ${timeLimitMs / 1000} s`
    : `ended with exit code ${exitCode ?? 'none'} instead of ${options.exitCodes.join(' or ')}`
  const said = (result.all ?? '').trim().split('\n').slice(-12).join('\n')
  throw new EmulatorError('EMULATOR_FAILED', `${command} ${found}`, `it said:\n${said}`)
}
