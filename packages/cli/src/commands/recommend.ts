import { createEnvironment, explainCommand, passes, recommend } from '@trapdoor/harness'
import type { Command } from 'commander'
import { asTyped } from '../command-prefix.ts'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import {
  type ConfigOptions,
  configOf,
  type FilterOptions,
  filtersOf,
  jobsOption,
  withConfigOptions,
  withFilterOptions,
} from '../options.ts'
import { Progress } from '../progress.ts'
import { rankingJson, renderRanking } from '../recommend/ranking.ts'
import { runCases } from '../run/run-cases.ts'
import { createPaint } from '../text/paint.ts'

interface RecommendOptions extends ConfigOptions, FilterOptions {
  readonly json?: true
  readonly jobs?: number
}

const RULE = `
The order: fewer cells that do not end well; then fewer bytes that are writable and executable, page 0 not mapped, less of boot services exposed, fewer
bytes with conflicting memory types; then fewer CR3 writes and flushes, TLB misses and page-table reads a call.
Without --firmware every known quirk counts, each alone, and a firmware without any.
`

/** Adds `trapdoor recommend`. `finish` is told the exit code. */
export function addRecommendCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command('recommend')
    .description('which strategy to take for a machine, and why')
  withFilterOptions(withConfigOptions(command))
    .option('--json', 'print the ranking as JSON')
    .addOption(jobsOption())
    .addHelpText('after', RULE)
    .action(async (options: RecommendOptions) => {
      const config = await configOf(options, io)
      const environment = createEnvironment(config)
      const trials = new Progress(io)
      const ranked = await recommend(environment, filtersOf(options), async (specs, strategy) => {
        const cases = await runCases(environment, specs, {
          io,
          config: options,
          jobs: options.jobs,
          partOf:
            strategy === undefined
              ? undefined
              : { progress: trials, part: `other options of ${strategy}` },
        })
        if (cases === undefined) throw new Error('interrupted')
        return cases
      })
      trials.finish()
      io.stdout.write(
        options.json === true
          ? rankingJson(ranked)
          : renderRanking(ranked, {
              paint: createPaint(io),
              columns: io.columns ?? 100,
              explain: (id) => asTyped(explainCommand(config, id), io),
            }),
      )
      finish(ranked.some(passes) ? ExitCode.Ok : ExitCode.Finding)
    })
}
