import { type CaseResult, firmwareLabel, OUTCOMES, type Results } from '@trapdoor/harness'
import { padEnd, padStart, plural, wrap } from '../text/layout.ts'
import type { Paint } from '../text/paint.ts'
import { arrange, distinct, type Matrix, some, withoutAddresses } from './axes.ts'
import { OUTCOME_MARKS } from './outcome.ts'

const MOST_REASON_LINES = 2

/** Cells that failed in the same way. */
interface FailureGroup {
  readonly first: CaseResult
  readonly cases: CaseResult[]
}

/** How the failures are told. */
export interface FailureOptions {
  readonly paint: Paint
  readonly width: number
  /** The command that explains a case. */
  readonly explain: (caseId: string) => string
}

/** Why cells failed, worst first: a reason that several share stands once, with where it holds and one command that explains it. */
export function renderFailures(results: Results, options: FailureOptions): string[] {
  const groups = groupFailures(results.cases)
  if (groups.length === 0) return []
  const { paint, width, explain } = options
  const matrix = arrange(results)
  const failed = groups.reduce((sum, { cases }) => sum + cases.length, 0)
  const ways = groups.length === 1 ? 'one reason' : `${groups.length} reasons`
  const lines = [paint('bold', `${plural(failed, 'cell')} not ok, for ${ways}`)]
  const most = Math.max(...groups.map(({ cases }) => cases.length))
  const countWidth = String(most).length
  const indent = ' '.repeat(15 + countWidth)
  for (const { first, cases } of groups) {
    const { glyph, style } = OUTCOME_MARKS[first.outcome]
    const head = `  ${paint(style, `${glyph} ${padEnd(first.outcome, 8)}`)} ${padStart(String(cases.length), countWidth)}  `
    const rules = sharedRules(cases)
    const tag = rules.length === 0 ? '' : ` [${rules.join(' ')}]`
    const [reason, ...more] = clip(wrap(first.reason + tag, width, indent))
    lines.push(head + reason!.trimStart(), ...more)
    lines.push(...wrap(whereabouts(cases, matrix), width, indent).map((line) => paint('dim', line)))
    lines.push(`${indent}${paint('cyan', explain(first.id))}`)
  }
  return lines
}

/** The rules that ended every one of the cells as it ended: neither what only some broke nor a remark is why they failed. */
function sharedRules(cases: readonly CaseResult[]): string[] {
  const broken = cases.map(({ findings, outcome }) =>
    distinct(findings.filter((each) => each.outcome === outcome).map(({ rule }) => rule)),
  )
  return broken[0]!
    .filter((rule) => broken.every((rules) => rules.includes(rule)))
    .toSorted((one, other) => one.localeCompare(other, 'en', { numeric: true }))
}

/** The matrix is an overview: `explain` has the rest of a long reason. */
function clip(lines: readonly string[]): string[] {
  return lines.length <= MOST_REASON_LINES
    ? [...lines]
    : [...lines.slice(0, MOST_REASON_LINES - 1), `${lines[MOST_REASON_LINES - 1]} …`]
}

function groupFailures(cases: readonly CaseResult[]): FailureGroup[] {
  const groups = new Map<string, FailureGroup>()
  for (const result of cases) {
    if (result.outcome === 'ok') continue
    const key = `${result.outcome}\n${withoutAddresses(result.reason)}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { first: result, cases: [result] })
    else group.cases.push(result)
  }
  return [...groups.values()].toSorted(
    (a, b) =>
      OUTCOMES.indexOf(a.first.outcome) - OUTCOMES.indexOf(b.first.outcome) ||
      b.cases.length - a.cases.length,
  )
}

function whereabouts(cases: readonly CaseResult[], matrix: Matrix): string {
  const { strategies, scenarios, firmware, memoryMaps } = matrix
  const parts = [
    some(
      cases.map(({ strategy }) => strategy),
      strategies,
      'strategies',
    ),
    some(
      cases.map(({ scenario }) => scenario),
      scenarios,
      'scenarios',
    ),
    some(
      cases.map(({ quirks }) => firmwareLabel(quirks)),
      firmware,
      'firmware variants',
    ),
    some(
      cases.map(({ memoryMap }) => memoryMap),
      memoryMaps,
      'memory maps',
    ),
  ]
  return parts.join(' · ')
}
