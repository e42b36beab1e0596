import { type CaseResult, firmwareLabel, passes, type RankedStrategy } from '@trapdoor/harness'
import { distinct } from '../matrix/axes.ts'
import { OUTCOME_MARKS } from '../matrix/outcome.ts'
import { formatBytes, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'

/** Reasons that are shown of a strategy. */
const MOST_REASONS = 3

/** The strategies in their order, with why each stands where it does, and the command that shows its worst cell. */
export function renderRanking(
  ranked: readonly RankedStrategy[],
  {
    paint,
    columns,
    explain,
  }: {
    readonly paint: Paint
    readonly columns: number
    readonly explain: (id: string) => string
  },
): string {
  const width = Math.max(60, columns)
  const blocks = ranked.map((strategy, index) => {
    const { label, title, cells, failed, remedy } = strategy
    const mark = passes(strategy) ? paint('green', '✓') : paint('red', '✗')
    const score = `${cells.length - failed.length} of ${plural(cells.length, 'cell')} pass`
    return [
      `${String(index + 1).padStart(2)}. ${mark} ${paint('bold', label)}  ${score}`,
      ...wrap(title, width, '      ').map((line) => paint('dim', line)),
      ...wrap(describeExposure(strategy), width, '      '),
      ...reasonsOf(failed).flatMap((reason) => describeReason(reason, { paint, width, explain })),
      ...(remedy === undefined
        ? []
        : [`      passes with the options of ${paint('bold', remedy)}`]),
    ]
  })
  const best = ranked.filter(passes).map(({ label }) => label)
  const verdict =
    best.length === 0
      ? 'no strategy passes every cell with its default options'
      : `recommended: ${best[0]!}`
  return `${[...blocks.map((lines) => lines.join('\n')), '', verdict].join('\n')}\n`
}

/** Machine-readable form of a ranking. */
export function rankingJson(ranked: readonly RankedStrategy[]): string {
  const document = ranked.map((strategy) => ({
    strategy: strategy.label,
    passes: passes(strategy),
    cells: strategy.cells.length,
    failed: strategy.failed.map(({ id, outcome, reason, findings }) => ({
      id,
      outcome,
      reason,
      rules: findings.map(({ rule }) => rule),
    })),
    cost: strategy.cost ?? null,
    remedy: strategy.remedy ?? null,
  }))
  return `${JSON.stringify(document, undefined, 2)}\n`
}

function describeExposure({ cost }: RankedStrategy): string {
  if (cost === undefined) return 'no cell came far enough to call a service'
  const { perCall } = cost
  return [
    `${wholeBytes(cost.writableExecutableBytes)} writable and executable`,
    cost.pageZeroMapped ? 'page 0 mapped' : 'page 0 not mapped',
    `${wholeBytes(cost.bootServicesBytes)} of boot services exposed`,
    ...(cost.conflictingTypeBytes === 0
      ? []
      : [`${wholeBytes(cost.conflictingTypeBytes)} with conflicting memory types`]),
    `a call: ${rounded(perCall.cr3Writes)} CR3 writes, ${rounded(perCall.globalFlushes)} flushes, ${rounded(perCall.tlbMisses)} TLB misses`,
  ].join(' · ')
}

/** Cells that failed for one reason. */
interface SharedReason {
  readonly cells: readonly CaseResult[]
  readonly rules: readonly string[]
}

/** The most frequent reasons first. */
function reasonsOf(failed: readonly CaseResult[]): SharedReason[] {
  const groups = Map.groupBy(
    failed,
    ({ outcome, findings, reason }) => `${outcome} ${causeOf(outcome, findings) ?? reason}`,
  )
  return [...groups.values()]
    .toSorted((a, b) => b.length - a.length)
    .slice(0, MOST_REASONS)
    .map((cells) => ({
      cells,
      rules: distinct(cells.flatMap(({ outcome, findings }) => causeOf(outcome, findings) ?? [])),
    }))
}

/** The rule that ended a cell as it ended; remarks have no part in that. */
function causeOf(
  outcome: CaseResult['outcome'],
  findings: CaseResult['findings'],
): string | undefined {
  return findings.find((each) => each.outcome === outcome)?.rule
}

function describeReason(
  { cells, rules }: SharedReason,
  {
    paint,
    width,
    explain,
  }: {
    readonly paint: Paint
    readonly width: number
    readonly explain: (id: string) => string
  },
): string[] {
  const [first] = cells
  const { glyph, style } = OUTCOME_MARKS[first!.outcome]
  const where = distinct(cells.map(({ quirks }) => firmwareLabel(quirks)))
  const rule = rules.length === 0 ? '' : ` [${rules.join(' ')}]`
  return [
    ...wrap(
      `${paint(style, `${glyph} ${first!.outcome}`)} in ${plural(cells.length, 'cell')} (${where.join(', ')}): ${first!.reason}${rule}`,
      width,
      '      ',
    ),
    paint('dim', `      ${explain(first!.id)}`),
  ]
}

function rounded(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function wholeBytes(value: number): string {
  return formatBytes(Math.round(value))
}
