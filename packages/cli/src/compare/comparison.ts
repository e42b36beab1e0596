import { formatAddress } from '@trapdoor/core'
import { type CaseResult, firmwareLabel, type StrategyCost } from '@trapdoor/harness'
import { distinct } from '../matrix/axes.ts'
import { OUTCOME_MARKS } from '../matrix/outcome.ts'
import { alignColumns, formatBytes, padEnd, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import type { RangeDifference } from './ranges.ts'

/** The same cell under two strategies. */
export interface CellPair {
  readonly first: CaseResult
  readonly second: CaseResult
}

const MOST_RANGES = 24

/** Which cells end differently, those with the same pair of outcomes in the same scenario together. */
export function renderOutcomeDifferences(
  pairs: readonly CellPair[],
  width: number,
  paint: Paint,
): string[] {
  const groups = new Map<string, CellPair[]>()
  for (const pair of pairs) {
    if (pair.first.outcome === pair.second.outcome) continue
    const key = [pair.first.scenario, pair.first.outcome, pair.second.outcome].join('\n')
    groups.set(key, [...(groups.get(key) ?? []), pair])
  }
  if (groups.size === 0) return [`  the same in all ${plural(pairs.length, 'cell')}`]
  const lines: string[] = []
  const longest = Math.max(...[...groups.values()].map(([pair]) => pair!.first.scenario.length))
  const indent = ' '.repeat(longest + 4)
  for (const cells of groups.values()) {
    const { first, second } = cells[0]!
    const firmware = distinct(cells.map((cell) => firmwareLabel(cell.first.quirks)))
    const maps = distinct(cells.map((cell) => cell.first.memoryMap))
    lines.push(
      `  ${padEnd(first.scenario, longest + 2)}${mark(first, paint)} against ${mark(second, paint)} in ${plural(cells.length, 'cell')}`,
      ...wrap(`${firmware.join(', ')} · ${maps.join(', ')}`, width, indent).map((line) =>
        paint('dim', line),
      ),
    )
    for (const side of [first, second]) {
      if (side.outcome !== 'ok') {
        lines.push(...wrap(`${side.strategy}: ${side.reason}`, width, indent))
      }
    }
  }
  return lines
}

function mark({ outcome, strategy }: CaseResult, paint: Paint): string {
  const { glyph, style } = OUTCOME_MARKS[outcome]
  return `${strategy} ${paint(style, `${glyph} ${outcome}`)}`
}

/** What the two cost, as means over the cells in which both came far enough to call. */
export function renderCosts(
  names: readonly [string, string],
  pairs: readonly CellPair[],
  paint: Paint,
): string[] {
  const costs = pairs
    .map(({ first, second }) => [first.cost, second.cost])
    .filter((pair): pair is [StrategyCost, StrategyCost] => pair[0] !== null && pair[1] !== null)
  if (costs.length === 0) return ['  no cell in which both called a service']
  const mean = (side: 0 | 1, read: (cost: StrategyCost) => number): number =>
    costs.reduce((sum, pair) => sum + read(pair[side]), 0) / costs.length
  const row = (
    label: string,
    read: (cost: StrategyCost) => number,
    format: (value: number) => string,
  ): string[] => {
    const values = [format(mean(0, read)), format(mean(1, read))]
    return [`  ${label}`, ...values, values[0] === values[1] ? '' : paint('yellow', 'differs')]
  }
  return alignColumns(
    [
      ['', ...names.map((name) => paint('bold', name)), ''],
      row('page tables', ({ tablePages }) => tablePages * 4096, formatWhole),
      row('mapped while firmware runs', ({ mappedBytes }) => mappedBytes, formatWhole),
      row('writable and executable', (cost) => cost.writableExecutableBytes, formatWhole),
      row('page zero mapped', ({ pageZeroMapped }) => Number(pageZeroMapped), howOften),
      row('CR3 writes a call', ({ perCall }) => perCall.cr3Writes, rounded),
      row('global flushes a call', ({ perCall }) => perCall.globalFlushes, rounded),
      row('TLB misses a call', ({ perCall }) => perCall.tlbMisses, rounded),
      row('page-table reads a call', ({ perCall }) => perCall.walkReferences, rounded),
    ],
    [1, 2],
  )
}

function rounded(value: number): string {
  return String(Math.round(value * 10) / 10)
}

/** A mean of truths, 1 for yes. */
function howOften(value: number): string {
  if (value === 0) return 'no'
  return value === 1 ? 'yes' : 'at times'
}

/** Bytes in a unit that still shows a difference of one page in small amounts. */
function formatWhole(bytes: number): string {
  return bytes < 64 * 2 ** 20 ? `${Math.round(bytes / 1024)} KiB` : formatBytes(Math.round(bytes))
}

/** The addresses that only one of two maps, or that both map differently. */
export function renderRangeDifferences(
  names: readonly [string, string],
  differences: readonly RangeDifference[],
  all: boolean,
): string[] {
  if (differences.length === 0) return ['  the same ranges with the same rights']
  const shown = all ? differences : differences.slice(0, MOST_RANGES)
  const rows = shown.map(({ start, bytes, first, second }) => {
    const range = `  ${formatAddress(start)}-${formatAddress(start + BigInt(bytes) - 1n)}`
    const size = formatBytes(bytes)
    if (first === undefined) {
      return [
        range,
        size,
        `only ${names[1]}: ${second!.rights} → ${formatAddress(second!.physical)}`,
      ]
    }
    if (second === undefined) {
      return [range, size, `only ${names[0]}: ${first.rights} → ${formatAddress(first.physical)}`]
    }
    const moved =
      first.physical === second.physical
        ? ''
        : `, at ${formatAddress(first.physical)} and ${formatAddress(second.physical)}`
    return [range, size, `both: ${first.rights} and ${second.rights}${moved}`]
  })
  const rest = differences.length - shown.length
  return [
    ...alignColumns(rows, [1]),
    ...(rest > 0 ? [`  and ${rest} more (--all shows them)`] : []),
  ]
}
