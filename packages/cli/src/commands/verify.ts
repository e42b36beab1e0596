import { resolve } from 'node:path'
import { type VerifiedBoot, verifyFolder } from '@trapdoor/harness'
import type { Command } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type ConfigOptions, configOf, withConfigFile } from '../options.ts'
import { createPaint } from '../text/paint.ts'
import { renderVerdict, unexplained, unread } from '../verify/verdict.ts'

interface VerifyOptions extends ConfigOptions {
  readonly json?: true
}

/** Adds `trapdoor verify`. `finish` is told the exit code. */
export function addVerifyCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command('verify')
    .description('hold the model against boots of real kernels')
    .argument(
      '<folder>',
      'what one boot left (command.txt, boot1.dmesg.gz, …), or a folder of such',
    )
  withConfigFile(command)
    .option('--json', 'print the comparison as JSON')
    .action(async (folder: string, options: VerifyOptions) => {
      const { registry } = await configOf(options, io)
      const boots = verifyFolder(resolve(io.cwd, folder), registry.strategies.values())
      io.stdout.write(
        options.json === true
          ? `${JSON.stringify(boots, undefined, 2)}\n`
          : renderVerdict(boots, createPaint(io), io.columns ?? 100),
      )
      finish(exitCodeOf(boots))
    })
}

/** Input that cannot be read outweighs differences elsewhere: not everything was compared. */
function exitCodeOf(boots: readonly VerifiedBoot[]): number {
  if (unread(boots) > 0) return ExitCode.Usage
  return unexplained(boots) === 0 ? ExitCode.Ok : ExitCode.Finding
}
