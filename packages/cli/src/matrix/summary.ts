import { OUTCOMES, parseStrategyLabel, type Results, type Surprise } from '@trapdoor/harness'
import { plural } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import { OUTCOME_MARKS } from './outcome.ts'

const MOST_SURPRISES = 20

/** What a run comes down to. */
export interface SummaryOptions {
  readonly paint: Paint
  readonly surprises: readonly Surprise[]
  /** Name of the file of expected outcomes; undefined where every case is expected to be ok. */
  readonly expected: string | undefined
}

/** The totals, and every case that did not end as the file of expected outcomes says. */
export function renderSummary(results: Results, options: SummaryOptions): string[] {
  const { paint, surprises, expected } = options
  const totals = OUTCOMES.toReversed()
    .filter((outcome) => results.totals[outcome] > 0)
    .map((outcome) => paint(OUTCOME_MARKS[outcome].style, `${results.totals[outcome]} ${outcome}`))
  const lines = [
    ...renderSwaps(results),
    `${paint('bold', plural(results.cases.length, 'case'))}: ${totals.join(', ')}`,
  ]
  if (expected === undefined) return lines
  if (surprises.length === 0) return [...lines, paint('green', `all as expected in ${expected}`)]
  lines.push(
    paint(['red', 'bold'], `${plural(surprises.length, 'case')} not as expected in ${expected}:`),
    ...surprises
      .slice(0, MOST_SURPRISES)
      .map(
        ({ result, expected: wanted, named }) =>
          `  ${result.id}  ${named ? `expected ${wanted}` : 'not in that file'}, was ${result.outcome}`,
      ),
  )
  if (surprises.length > MOST_SURPRISES) {
    lines.push(`  and ${surprises.length - MOST_SURPRISES} more, all in the results`)
  }
  lines.push(paint('dim', '  --update-expected writes what is'))
  return lines
}

/** Columns whose kernels ran another strategy than the one that the column is named after, in all of its cases, as the command line chooses. In one case alone the first kernel may be another's by design, and die. */
function renderSwaps(results: Results): string[] {
  const columns = Map.groupBy(results.cases, ({ strategy }) => strategy)
  return [...columns].flatMap(([strategy, cases]) => {
    const { name } = parseStrategyLabel(strategy)
    const ran = [...new Set(cases.flatMap(({ kernel }) => kernel.ran))]
    if (ran.length === 0 || ran.includes(name)) return []
    const { commandLine } = cases[0]!.kernel
    return [`${strategy} did not run: the command line "${commandLine}" chose ${ran.join(', ')}`]
  })
}
