import { formatAddress, type MappedRange } from '@trapdoor/core'
import {
  type CaseEnvironment,
  type CaseResult,
  type CaseSpec,
  createEnvironment,
  HarnessError,
  planCases,
  type PluginRegistry,
  strategyLabel,
  traceCase,
} from '@trapdoor/harness'
import type { Command } from 'commander'
import { renderOutcomeDifferences, renderRangeDifferences } from '../compare/comparison.ts'
import { renderCosts } from '../compare/costs.ts'
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
import { runCases } from '../run/run-cases.ts'
import { plural } from '../text/layout.ts'
import { createPaint } from '../text/paint.ts'

interface CompareOptions extends ConfigOptions, FilterOptions {
  readonly all?: true
  readonly failOnDifference?: true
  readonly json?: true
}

/** What is mapped while firmware runs, of those strategies that called it. */
interface MappedComparison {
  readonly names: readonly string[]
  /** Strategies that called no service, so that nobody knows which tables it would have had. */
  readonly unknown: readonly string[]
  readonly differences: readonly RangeDifference[]
}

/** Adds `trapdoor compare`. `finish` is told the exit code. */
export function addCompareCommand(
  program: Command,
  io: CliIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command('compare')
    .description('what differs between strategies')
    .argument('<strategies...>', 'two or more strategies, each as name or name:option=value,…')
  withFilterOptions(withConfigOptions(command))
    .option('-a, --all', 'every mapped range that differs')
    .option('--fail-on-difference', 'exit with 1 when outcomes differ')
    .option('--json', 'print cells, costs and ranges as JSON')
    .action(async (strategies: readonly string[], options: CompareOptions) => {
      finish(await compare(strategies, options, io))
    })
}

async function compare(
  strategies: readonly string[],
  options: CompareOptions,
  io: CliIo,
): Promise<number> {
  if (strategies.length < 2) {
    throw new HarnessError('HARNESS_BAD_ARGUMENT', {
      expected: 'two strategies or more',
      found: `"${strategies.join(' ')}" alone`,
      hint: '`trapdoor list strategies` shows them',
    })
  }
  const config = await configOf(options, io)
  const filters = filtersOf(options)
  const columns = strategies.map((strategy) => {
    refuseOptionsValue(strategy, config.registry)
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
  const all = columns.flat()
  const results = await runCases(environment, all, { io, config: options })
  if (results === undefined) return ExitCode.Interrupted
  const count = columns[0]!.length
  const cells = columns[0]!.map((_, index) =>
    columns.map((_column, column) => results[column * count + index]!),
  )
  const names = columns.map((specs) => strategyLabel(specs[0]!.strategy))
  const specs = columns.map((column) => column[0]!)
  const ranges = specs.map((spec) => rangesOf(environment, spec))
  const known = ranges.flatMap((own, index) => (own === undefined ? [] : [{ own, index }]))
  const mapped: MappedComparison = {
    names: known.map(({ index }) => names[index]!),
    unknown: names.filter((_, index) => ranges[index] === undefined),
    differences: compareRanges(known.map(({ own }) => own)),
  }
  const differs = cells.some((row) => row.some(({ outcome }) => outcome !== row[0]!.outcome))
  io.stdout.write(
    options.json === true
      ? toJson(names, cells, mapped)
      : render(names, cells, mapped, { options, io, where: specs[0]! }),
  )
  return differs && options.failOnDifference === true ? ExitCode.Finding : ExitCode.Ok
}

/** A second word after `--scenario` or `--firmware` is an argument of this command: whoever wrote it meant something else. */
function refuseOptionsValue(word: string, { scenarios, quirks, strategies }: PluginRegistry): void {
  if (strategies.has(word)) return
  const option = scenarios.has(word) ? '--scenario' : quirks.has(word) ? '--firmware' : undefined
  if (option === undefined) return
  throw new HarnessError('HARNESS_BAD_ARGUMENT', {
    expected: 'a strategy',
    found: `"${word}"`,
    hint: `several for one option stand in one word here: ${option} A,${word}`,
  })
}

function render(
  names: readonly string[],
  cells: readonly (readonly CaseResult[])[],
  mapped: MappedComparison,
  { options, io, where }: { options: CompareOptions; io: CliIo; where: CaseSpec },
): string {
  const paint = createPaint(io)
  const width = Math.max(60, io.columns ?? 100)
  const place = `(${where.memoryMapId}, ${where.scenario})`
  const sections = [
    [`${paint('bold', names.join(' against '))}: ${plural(cells.length, 'cell')} each`],
    [paint('bold', 'Outcomes'), ...renderOutcomeDifferences(cells, width, paint)],
    [paint('bold', 'Cost, mean over the cells'), ...renderCosts(names, cells, paint)],
    [
      `${paint('bold', 'Mapped ranges while firmware runs')} ${paint('dim', place)}`,
      ...mapped.unknown.map((name) => `  ${name} called no service here: its tables are not known`),
      ...(mapped.names.length < 2
        ? []
        : renderRangeDifferences(mapped.names, mapped.differences, options.all === true)),
    ],
  ]
  return `${sections.map((lines) => lines.join('\n')).join('\n\n')}\n`
}

/** Addresses are hexadecimal strings. */
function toJson(
  strategies: readonly string[],
  cells: readonly (readonly CaseResult[])[],
  mapped: MappedComparison,
): string {
  const document = {
    strategies,
    cells: cells.flat().map(({ id, strategy, outcome, reason, cost }) => ({
      id,
      strategy,
      outcome,
      reason,
      cost,
    })),
    ranges: mapped.differences.map(({ start, bytes, mappings }) => ({
      start: formatAddress(start),
      bytes,
      mappings: byStrategy(strategies, mapped, mappings).map((mapping) =>
        mapping === undefined
          ? null
          : { physical: formatAddress(mapping.physical), rights: mapping.rights },
      ),
    })),
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

/** One for each strategy, undefined for those whose tables are not known as for those that map nothing there. */
function byStrategy<Mapping>(
  strategies: readonly string[],
  { names }: MappedComparison,
  mappings: readonly (Mapping | undefined)[],
): (Mapping | undefined)[] {
  return strategies.map((strategy) => mappings[names.indexOf(strategy)])
}

/** What the tables map that firmware ran under, in the first kernel; undefined where no service was called. */
function rangesOf(
  environment: CaseEnvironment,
  spec: CaseSpec,
): readonly MappedRange[] | undefined {
  return traceCase(environment, spec).surveys.find(({ usedForCalls }) => usedForCalls)?.ranges
}
