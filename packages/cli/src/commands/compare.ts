import { formatAddress, type MappedRange } from '@trapdoor/core'
import {
  type CaseEnvironment,
  type CaseResult,
  type CaseSpec,
  createEnvironment,
  HarnessError,
  planCases,
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
    throw new HarnessError('HARNESS_UNKNOWN_NAME', {
      expected: 'two strategies or more',
      found: `"${strategies.join(' ')}" alone`,
      hint: '`trapdoor list strategies` shows them',
    })
  }
  const config = await configOf(options, io)
  const filters = filtersOf(options)
  const columns = strategies.map((strategy) => {
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
  const differences = compareRanges(specs.map((spec) => rangesOf(environment, spec)))
  const differs = cells.some((row) => row.some(({ outcome }) => outcome !== row[0]!.outcome))
  io.stdout.write(
    options.json === true
      ? toJson(names, cells, differences)
      : render(names, cells, differences, { options, io, where: specs[0]! }),
  )
  return differs && options.failOnDifference === true ? ExitCode.Finding : ExitCode.Ok
}

function render(
  names: readonly string[],
  cells: readonly (readonly CaseResult[])[],
  differences: readonly RangeDifference[],
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
      ...renderRangeDifferences(names, differences, options.all === true),
    ],
  ]
  return `${sections.map((lines) => lines.join('\n')).join('\n\n')}\n`
}

/** Addresses are hexadecimal strings. */
function toJson(
  strategies: readonly string[],
  cells: readonly (readonly CaseResult[])[],
  differences: readonly RangeDifference[],
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
    ranges: differences.map(({ start, bytes, mappings }) => ({
      start: formatAddress(start),
      bytes,
      mappings: mappings.map((mapping) =>
        mapping === undefined
          ? null
          : { physical: formatAddress(mapping.physical), rights: mapping.rights },
      ),
    })),
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

/** What the tables map that firmware ran under, in the first kernel. */
function rangesOf(environment: CaseEnvironment, spec: CaseSpec): readonly MappedRange[] {
  const survey = traceCase(environment, spec).surveys.find(({ usedForCalls }) => usedForCalls)
  return survey?.ranges ?? []
}
