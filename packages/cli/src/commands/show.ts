import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { HarnessError, parseResults, surprises } from '@trapdoor/harness'
import { type Command, Option } from 'commander'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type Reporter, REPORTERS, renderReport } from '../results/report.ts'

/** Adds `trapdoor show`. `finish` is told the exit code. */
export function addShowCommand(program: Command, io: CliIo, finish: (code: number) => void): void {
  program
    .command('show')
    .description('print results that an earlier run wrote')
    .argument('[file]', 'the results', 'results.json')
    .addOption(
      new Option('-r, --reporter <name>', 'what to print').choices(REPORTERS).default('tree'),
    )
    .action(async (file: string, { reporter }: { reporter: Reporter }) => {
      const path = resolve(io.cwd, file)
      const results = parseResults(await readText(path), path)
      io.stdout.write(
        renderReport(reporter, results, {
          io,
          surprises: surprises(results.cases, new Map()),
          expected: undefined,
          explain: (id) => `trapdoor explain ${id}`,
        }),
      )
      finish(ExitCode.Ok)
    })
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new HarnessError('HARNESS_UNREADABLE_FILE', {
      expected: 'results of an earlier run',
      found: cause instanceof Error ? cause.message : String(cause),
      hint: '`trapdoor run` writes results.json',
      file,
      cause,
    })
  }
}
