import { execa } from 'execa'

/** How a program ended that was run for its processor time. */
export interface TimedRun {
  readonly stdout: string
  /** 124 where the time was over. */
  readonly code: number
  /** Processor time of user code, seconds. */
  readonly cpuSeconds: number
}

/** Runs a program for so many seconds at the most; undefined where it is not installed. */
export async function runTimed(
  program: string,
  args: readonly string[],
  timeLimitSeconds: number,
): Promise<TimedRun | undefined> {
  // The shell tells how much processor time its child has used: `times` prints it, the children's in the second line.
  const script = `timeout ${timeLimitSeconds} "$@" 2>/dev/null; echo "\nexit $?"; times`
  const { stdout, failed } = await execa('sh', ['-c', script, 'sh', program, ...args], {
    reject: false,
    stdin: 'ignore',
    cleanup: true,
    encoding: 'latin1',
  })
  const [, code, minutes, seconds] =
    /\nexit (\d+)\n.*\n(\d+)m([\d.]+)s \d+m[\d.]+s\s*$/.exec(stdout) ?? []
  if (failed || code === undefined || code === '127') return undefined
  return {
    stdout: stdout.slice(0, stdout.lastIndexOf('\nexit ')),
    code: Number(code),
    cpuSeconds: Number(minutes) * 60 + Number(seconds),
  }
}
