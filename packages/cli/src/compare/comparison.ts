import { formatAddress } from '@trapdoor/core'
import { type CaseResult, firmwareLabel } from '@trapdoor/harness'
import { distinct, some, withoutAddresses } from '../matrix/axes.ts'
import { OUTCOME_MARKS } from '../matrix/outcome.ts'
import { alignColumns, formatBytes, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import type { RangeDifference } from './ranges.ts'

const MOST_RANGES = 24

/**
 * Which cells end differently, those with the same outcomes for the same reasons together. Each row of `cells` is one cell under every strategy.
 */
export function renderOutcomeDifferences(
  cells: readonly (readonly CaseResult[])[],
  width: number,
  paint: Paint,
): string[] {
  const groups = new Map<string, (readonly CaseResult[])[]>()
  for (const row of cells) {
    if (row.every(({ outcome }) => outcome === row[0]!.outcome)) continue
    const key = row
      .map(({ outcome, reason }) =>
        outcome === 'ok' ? outcome : `${outcome} ${withoutAddresses(reason)}`,
      )
      .join('\n')
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  if (groups.size === 0) {
    return [`  the same in ${cells.length === 1 ? 'the one cell' : `all ${cells.length} cells`}`]
  }
  const all = axesOf(cells)
  const indent = '      '
  const lines: string[] = []
  for (const rows of groups.values()) {
    const sides = rows[0]!
    const own = axesOf(rows)
    const where = [
      some(own.scenarios, all.scenarios, 'scenarios'),
      some(own.firmware, all.firmware, 'firmware variants'),
      some(own.memoryMaps, all.memoryMaps, 'memory maps'),
    ].join(' · ')
    lines.push(
      `  ${sides.map((side) => mark(side, paint)).join(' against ')} in ${plural(rows.length, 'cell')}`,
      ...wrap(where, width, indent).map((line) => paint('dim', line)),
    )
    for (const side of sides) {
      // How one works is of no interest beside why another does not.
      if (side.outcome !== 'ok') {
        lines.push(...wrap(`${side.strategy}: ${side.reason}`, width, indent))
      }
    }
  }
  return lines
}

/** The names on the axes of some rows, but for the strategies. */
function axesOf(rows: readonly (readonly CaseResult[])[]): {
  readonly scenarios: string[]
  readonly firmware: string[]
  readonly memoryMaps: string[]
} {
  const first = rows.map(([result]) => result!)
  return {
    scenarios: distinct(first.map(({ scenario }) => scenario)),
    firmware: distinct(first.map(({ quirks }) => firmwareLabel(quirks))),
    memoryMaps: distinct(first.map(({ memoryMap }) => memoryMap)),
  }
}

function mark({ outcome, strategy }: CaseResult, paint: Paint): string {
  const { glyph, style } = OUTCOME_MARKS[outcome]
  return `${strategy} ${paint(style, `${glyph} ${outcome}`)}`
}

/** The addresses that not all map, or not all in the same way. Of two it says who does what; of more it is a table. */
export function renderRangeDifferences(
  names: readonly string[],
  differences: readonly RangeDifference[],
  all: boolean,
): string[] {
  if (differences.length === 0) return ['  the same ranges with the same rights']
  const shown = all ? differences : differences.slice(0, MOST_RANGES)
  const rows = shown.map((difference) => {
    const { start, bytes, mappings } = difference
    const range = `  ${formatAddress(start)}-${formatAddress(start + BigInt(bytes) - 1n)}`
    const rest = names.length === 2 ? [describePair(names, mappings)] : describeEach(mappings)
    return [range, formatBytes(bytes), ...rest]
  })
  const head = names.length === 2 ? [] : [['', '', ...names]]
  const rest = differences.length - shown.length
  return [
    ...alignColumns([...head, ...rows], [1]),
    ...(rest > 0 ? [`  and ${rest} more (--all shows them)`] : []),
  ]
}

function describePair(
  names: readonly string[],
  [first, second]: RangeDifference['mappings'],
): string {
  if (first === undefined) {
    return `only ${names[1]}: ${second!.rights} → ${formatAddress(second!.physical)}`
  }
  if (second === undefined) {
    return `only ${names[0]}: ${first.rights} → ${formatAddress(first.physical)}`
  }
  const moved =
    first.physical === second.physical
      ? ''
      : `, at ${formatAddress(first.physical)} and ${formatAddress(second.physical)}`
  return `both: ${first.rights} and ${second.rights}${moved}`
}

/** Rights of each, with the physical address where that is not the same for all. */
function describeEach(mappings: RangeDifference['mappings']): string[] {
  const places = new Set(mappings.flatMap((mapping) => mapping?.physical ?? []))
  return mappings.map((mapping) => {
    if (mapping === undefined) return '-'
    return places.size === 1
      ? mapping.rights
      : `${mapping.rights} → ${formatAddress(mapping.physical)}`
  })
}
