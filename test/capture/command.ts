import { runCli } from '@trapdoor/cli'

/** What a command did. */
export interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs the command line in a folder, as from a terminal. */
export async function trapdoor(
  args: readonly string[],
  options: {
    readonly cwd: string
    readonly env?: Readonly<Record<string, string | undefined>>
    readonly signal?: AbortSignal | undefined
  },
): Promise<Run> {
  let [stdout, stderr] = ['', '']
  const { cwd, env = process.env, signal } = options
  const code = await runCli(args, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    cwd,
    env,
    isTTY: false,
    ...(signal === undefined ? {} : { signal }),
  })
  return { code, stdout, stderr }
}
