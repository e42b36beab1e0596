import { nameHint, toolVersion } from '@trapdoor/harness'
import { Command, CommanderError } from 'commander'
import { addCaptureCommand } from './commands/capture.ts'
import { addCompareCommand } from './commands/compare.ts'
import { addExplainCommand } from './commands/explain.ts'
import { addGuestCommand } from './commands/guest.ts'
import { addInitCommand } from './commands/init.ts'
import { addInspectCommand } from './commands/inspect.ts'
import { addListCommand } from './commands/list.ts'
import { addRecommendCommand } from './commands/recommend.ts'
import { addReplayCommand } from './commands/replay.ts'
import { addRunCommand } from './commands/run.ts'
import { addShowCommand } from './commands/show.ts'
import { addVerifyCommand } from './commands/verify.ts'
import { formatError } from './error-text.ts'
import { ExitCode } from './exit-code.ts'
import type { CliIo } from './io.ts'
import { createPaint } from './text/paint.ts'

const EXAMPLES = `
Examples:
  trapdoor run --memory-map dmesg.txt         every firmware, strategy and scenario on this machine
  trapdoor run -f none,Q06 --scenario kexec   a part of it
  trapdoor explain dmesg/none/legacy-virtual/kexec
  trapdoor compare legacy-virtual private-efi-pgd

Exit codes:
  0 as expected   1 a case did not end as expected   2 wrong usage or input   130 interrupted
`

/** The `trapdoor` command: runs `args` (without the program's name) and returns the exit code. Never throws, never exits. */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let code: number = ExitCode.Ok
  const program = createProgram(args, io, (finished) => {
    code = finished
  })
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    if (io.signal?.aborted === true) return ExitCode.Interrupted
    if (error instanceof CommanderError) {
      // Help and errors of usage are printed by then.
      return error.exitCode === 0 ? ExitCode.Ok : ExitCode.Usage
    }
    io.stderr.write(formatError(error, io.cwd, createPaint(io)))
    return ExitCode.Usage
  }
}

function createProgram(
  args: readonly string[],
  io: CliIo,
  finish: (code: number) => void,
): Command {
  const paint = createPaint(io)
  const program = new Command('trapdoor')
    .description('which page-table strategy survives on which firmware, and why')
    .version(toolVersion())
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => io.columns ?? 100,
      getErrHelpWidth: () => io.columns ?? 100,
      outputError: (text, write) => {
        write(
          `${paint(['red', 'bold'], 'error')} TRAPDOOR_USAGE: ${text.replace(/^error: /, '').trimEnd()}\n${usageHint(text, program, args)}`,
        )
      },
    })
    .addHelpText('after', EXAMPLES)
  addRunCommand(program, io, finish)
  addExplainCommand(program, io, finish)
  addCompareCommand(program, io, finish)
  addRecommendCommand(program, io, finish)
  addInspectCommand(program, io, finish)
  addVerifyCommand(program, io, finish)
  addReplayCommand(program, io, finish)
  addGuestCommand(program, io, finish)
  addCaptureCommand(program, io, finish)
  addListCommand(program, io, finish)
  addShowCommand(program, io, finish)
  addInitCommand(program, io, finish)
  return program
}

/** The nearest option of the command that was meant, or the nearest command, for a mistyped one. */
function usageHint(text: string, program: Command, args: readonly string[]): string {
  const [, kind, word] = /unknown (option|command) '([^']+)'/.exec(text) ?? []
  if (word === undefined) return ''
  let meant = program
  for (const arg of args) meant = meant.commands.find((each) => each.name() === arg) ?? meant
  const names =
    kind === 'command'
      ? program.commands.map((each) => each.name())
      : meant.options.map(({ long }) => long ?? '').filter(Boolean)
  return `  hint: ${nameHint(word, [...new Set(names)])}\n`
}
