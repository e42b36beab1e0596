import {
  type CaseEnvironment,
  type CaseSpec,
  createEnvironment,
  HarnessError,
  planCases,
  runCase,
  strategyLabel,
  traceCase,
} from '@trapdoor/harness'
import type { Command } from 'commander'
import {
  type CellPair,
  renderCosts,
  renderOutcomeDifferences,
  renderRangeDifferences,
} from '../compare/comparison.ts'
import { compareRanges, type RangeDifference } from '../compare/ranges.ts'
import { ExitCode } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import {
  type ConfigOptions,
  configOf,
  type FilterOptions,
  filtersOf,
  withConfigOptions,
  withFilterOptions,
} from '../options.ts'
import { plural } from '../text/layout.ts'
import { createPaint } from '../text/paint.ts'

interface CompareOptions extends ConfigOptions, FilterOptions {
  readonly all?: true
  readonly failOnDifference?: true
}

/** Adds `trapdoor compare`. `finish` is told the exit code. */
export function addCompareCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command('compare')
    .description('what differs between two strategies')
    .argument('<first>', 'strategy, as name or name:option=value,…')
    .argument('<second>', 'strategy')
  withFilterOptions(withConfigOptions(command))
    .option('-a, --all', 'every mapped range that differs')
    .option('--fail-on-difference', 'exit with 1 when outcomes differ')
    .action(async (first: string, second: string, options: CompareOptions) => {
      finish(await compare(first, second, options, io))
    })
}

async function compare(
  first: string,
  second: string,
  options: CompareOptions,
  io: CliIo,
): Promise<number> {
  const config = await configOf(options, io)
  const filters = filtersOf(options)
  const columns = [first, second].map((strategy) => {
    const specs = planCases(config, { ...filters, strategies: [strategy] })
    const labels = new Set(specs.map((spec) => strategyLabel(spec.strategy)))
    if (labels.size === 1) return specs
    throw new HarnessError('HARNESS_UNKNOWN_NAME', {
      expected: 'one strategy on each side',
      found: `"${strategy}", which means ${[...labels].join(' and ')}`,
      hint: 'name its options: name:option=value',
    })
  })
  const environment = createEnvironment(config)
  const pairs: CellPair[] = columns[0]!.map((spec, index) => ({
    first: runCase(environment, spec),
    second: runCase(environment, columns[1]![index]!),
  }))
  const names = [pairs[0]!.first.strategy, pairs[0]!.second.strategy] as const
  const paint = createPaint(io)
  const width = Math.max(60, io.columns ?? 100)
  const [specOne, specOther] = [columns[0]![0]!, columns[1]![0]!]
  const differences = rangesOf(environment, specOne, specOther)
  const where = `${specOne.memoryMapId}, ${specOne.scenario}`
  const sections = [
    [`${paint('bold', `${names[0]} against ${names[1]}`)}: ${plural(pairs.length, 'cell')} each`],
    [paint('bold', 'Outcomes'), ...renderOutcomeDifferences(pairs, width, paint)],
    [paint('bold', 'Cost, mean over the cells'), ...renderCosts(names, pairs, paint)],
    [
      `${paint('bold', 'Mapped ranges while firmware runs')} ${paint('dim', `(${where})`)}`,
      ...renderRangeDifferences(names, differences, options.all === true),
    ],
  ]
  io.stdout.write(`${sections.map((lines) => lines.join('\n')).join('\n\n')}\n`)
  const differs = pairs.some((pair) => pair.first.outcome !== pair.second.outcome)
  return differs && options.failOnDifference === true ? ExitCode.Finding : ExitCode.Ok
}

/** Compares the tables that firmware ran under, in the first kernel of each side. */
function rangesOf(
  environment: CaseEnvironment,
  first: CaseSpec,
  second: CaseSpec,
): RangeDifference[] {
  const [one, other] = [first, second].map((spec) => {
    const survey = traceCase(environment, spec).surveys.find(({ usedForCalls }) => usedForCalls)
    return survey?.ranges ?? []
  })
  return compareRanges(one!, other!)
}
