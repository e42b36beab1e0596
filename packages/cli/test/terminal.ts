import { runCli } from '../src/index.ts'

/** What a command left behind. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Surroundings of a command that are not as usual: no terminal, no colours, 100 columns. */
export interface Surroundings {
  readonly cwd: string
  readonly env?: Record<string, string>
  readonly isTTY?: boolean
  readonly columns?: number
  readonly signal?: AbortSignal
}

/** Runs a command in this process. */
export async function trapdoor(args: readonly string[], surroundings: Surroundings): Promise<Ran> {
  let stdout = ''
  let stderr = ''
  const code = await runCli(args, {
    env: {},
    isTTY: false,
    ...surroundings,
    stdout: {
      write: (text) => {
        stdout += text
      },
    },
    stderr: {
      write: (text) => {
        stderr += text
      },
    },
  })
  return { code, stdout, stderr }
}
