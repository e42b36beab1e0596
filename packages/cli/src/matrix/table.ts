import type { MemoryMapSummary, Outcome, Results } from '@trapdoor/harness'
import { flow, formatBytes, padEnd, plural, visibleWidth, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import { arrange, type Matrix, scenarioLetters } from './axes.ts'
import { OUTCOME_MARKS, worstOutcome } from './outcome.ts'

/** Warnings of a memory map that are worth printing with the matrix. */
const MOST_WARNINGS = 3

/** How the matrix is drawn. */
export interface TableOptions {
  readonly paint: Paint
  /** Columns to stay within, as far as possible. */
  readonly width: number
  /** Case ids to point out, because they ended otherwise than expected. */
  readonly surprising: ReadonlySet<string>
}

/** How wide things are when all fits; `gap` is what stands between two glyphs. */
interface Measures {
  readonly label: number
  readonly column: number
  readonly gap: string
  readonly perBlock: number
}

/**
 * One table for each memory map: firmware down, strategies across, and in each cell one glyph for each scenario and the
 * word of the worst. Memory maps with the same outcome in every cell share one table.
 */
export function renderTables(results: Results, options: TableOptions): string[] {
  const matrix = arrange(results)
  const labels = rowLabels(results, matrix)
  const measures = measure(matrix, [...labels.values()], options.width)
  const lines = [...legend(results, matrix, options), '']
  for (const group of mapsOfOneKind(matrix)) {
    for (const id of group) {
      const summary = results.memoryMaps.find((map) => map.id === id)
      lines.push(mapHeading(id, summary, options.paint), ...mapWarnings(summary, options))
    }
    if (group.length > 1) {
      lines.push(options.paint('dim', 'the same outcome in every cell:'))
    }
    for (let first = 0; first < matrix.strategies.length; first += measures.perBlock) {
      const strategies = matrix.strategies.slice(first, first + measures.perBlock)
      lines.push(...headings(strategies, matrix, measures, options.paint))
      for (const firmware of matrix.firmware) {
        const cells = strategies.map((strategy) =>
          cellText(group[0]!, firmware, strategy, matrix, measures, options),
        )
        const label = padEnd(`  ${labels.get(firmware)!}`, measures.label)
        lines.push((label + cells.map((cell) => padEnd(cell, measures.column)).join('')).trimEnd())
      }
      lines.push('')
    }
  }
  return lines.slice(0, -1)
}

/** What the reader of a map found odd, the first few. */
function mapWarnings(
  summary: MemoryMapSummary | undefined,
  { paint, width }: TableOptions,
): string[] {
  const warnings = summary?.warnings ?? []
  const shown = warnings
    .slice(0, MOST_WARNINGS)
    .flatMap((warning) => wrap(`warning ${warning}`, width, '  '))
  const rest = warnings.length - MOST_WARNINGS
  const more = rest > 0 ? [`  and ${plural(rest, 'more warning')}: trapdoor inspect map`] : []
  return [...shown, ...more].map((line) => paint('yellow', line))
}

function mapHeading(id: string, summary: MemoryMapSummary | undefined, paint: Paint): string {
  if (summary === undefined) return paint('bold', id)
  const firmware = summary.architecture === 'ia32' ? 'ia32 firmware, ' : ''
  const facts = `${firmware}${plural(summary.descriptors, 'descriptor')}, ${summary.runtimeDescriptors} of them runtime, ${formatBytes(summary.bytesOfRam)} of memory`
  return `${paint('bold', id)}  ${paint('dim', facts)}`
}

function rowLabels(results: Results, matrix: Matrix): Map<string, string> {
  const names = new Map(results.legend.quirks.map(({ id, name }) => [id, `${id} ${name}`]))
  return new Map(matrix.firmware.map((label) => [label, names.get(label) ?? label]))
}

/** In a narrow terminal names are broken first, then the spaces between glyphs go, then the columns stand in several blocks. */
function measure(matrix: Matrix, labels: readonly string[], width: number): Measures {
  const { strategies, scenarios } = matrix
  const label = Math.max(...labels.map((each) => each.length)) + 4
  const columnWith = (gap: string): number =>
    Math.max(
      columnFor(strategies.flatMap(headingWords)),
      scenarios.length + gap.length * (scenarios.length - 1) + ' degraded'.length + 2,
    )
  const room = width - label + 2
  const gap = columnWith(' ') * strategies.length <= room ? ' ' : ''
  const share = Math.floor(room / strategies.length)
  const column = Math.max(columnWith(gap), Math.min(share, columnFor(strategies)))
  return { label, column, gap, perBlock: Math.max(1, Math.floor(room / column)) }
}

/** Width of a column that these words fit into, with the space after it. */
function columnFor(words: readonly string[]): number {
  return Math.max(...words.map((word) => word.length)) + 2
}

/** A strategy's name in pieces that may stand below one another. */
function headingWords(strategy: string): string[] {
  return strategy.split(/(?<=[-:,])/)
}

function headings(
  strategies: readonly string[],
  matrix: Matrix,
  { label, column, gap }: Measures,
  paint: Paint,
): string[] {
  const stacks = strategies.map((strategy) => {
    const lines = ['']
    for (const word of headingWords(strategy)) {
      const last = lines.at(-1)!
      if (last !== '' && last.length + word.length > column - 2) lines.push(word)
      else lines[lines.length - 1] = last + word
    }
    return lines
  })
  const height = Math.max(...stacks.map((stack) => stack.length))
  const lines: string[] = []
  for (let row = 0; row < height; row++) {
    const words = stacks.map((stack) => stack[row - height + stack.length] ?? '')
    lines.push(' '.repeat(label) + words.map((word) => padEnd(word, column)).join(''))
  }
  const letters = [...scenarioLetters(matrix.scenarios).values()].join(gap)
  const letterRow = strategies.map(() => padEnd(letters, column)).join('')
  return [
    ...lines.map((line) => paint('bold', line.trimEnd())),
    paint('dim', (' '.repeat(label) + letterRow).trimEnd()),
  ]
}

function cellText(
  memoryMap: string,
  firmware: string,
  strategy: string,
  matrix: Matrix,
  { gap }: Measures,
  { paint, surprising }: TableOptions,
): string {
  const outcomes: Outcome[] = []
  const glyphs = matrix.scenarios.map((scenario) => {
    const result = matrix.cell(memoryMap, firmware, strategy, scenario)
    if (result === undefined) return '·'
    outcomes.push(result.outcome)
    const { glyph, style } = OUTCOME_MARKS[result.outcome]
    const painted = paint(style, glyph)
    return surprising.has(result.id) ? paint('inverse', painted) : painted
  })
  if (outcomes.length === 0) return glyphs.join(gap)
  const worst = worstOutcome(outcomes)
  const word = paint(worst === 'ok' ? 'dim' : OUTCOME_MARKS[worst].style, worst)
  return `${glyphs.join(gap)} ${word}`
}

/** Memory maps in groups of the same outcomes, and of the same surprises. */
function mapsOfOneKind(matrix: Matrix): string[][] {
  const groups = new Map<string, string[]>()
  for (const memoryMap of matrix.memoryMaps) {
    const outcomes = matrix.firmware.flatMap((firmware) =>
      matrix.strategies.flatMap((strategy) =>
        matrix.scenarios.map(
          (scenario) => matrix.cell(memoryMap, firmware, strategy, scenario)?.outcome ?? '',
        ),
      ),
    )
    const key = outcomes.join()
    groups.set(key, [...(groups.get(key) ?? []), memoryMap])
  }
  return [...groups.values()]
}

function legend(results: Results, matrix: Matrix, { paint, width }: TableOptions): string[] {
  const scenarios = [...scenarioLetters(matrix.scenarios)].map(
    ([scenario, letter]) => `${paint('dim', letter)} ${scenario}`,
  )
  const outcomes = (Object.keys(OUTCOME_MARKS) as Outcome[])
    .toReversed()
    .filter((outcome) => results.totals[outcome] > 0)
    .map((outcome) => {
      const { glyph, style } = OUTCOME_MARKS[outcome]
      return `${paint(style, glyph)} ${outcome}`
    })
  const line = `${scenarios.join('  ')}    ${outcomes.join('  ')}`
  if (visibleWidth(line) <= width) return [line]
  return [...flow(scenarios, width), outcomes.join('  ')]
}
