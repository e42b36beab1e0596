import { z } from 'zod'
import { HarnessError } from '../error.ts'
import { type CaseResult, type Outcome, OUTCOMES } from './results.ts'

/** Outcomes by case id. A case that is not named is expected to be ok. */
export type ExpectedOutcomes = ReadonlyMap<string, Outcome>

/** A case that ended otherwise than expected. */
export interface Surprise {
  readonly result: CaseResult
  readonly expected: Outcome
  /** Whether the case was named among the expected ones. */
  readonly named: boolean
}

const expectedSchema = z.record(z.string(), z.enum(OUTCOMES))

/** Reads a file of expected outcomes. `file` is for errors only. Throws HARNESS_BAD_RESULTS. */
export function parseExpected(text: string, file?: string): ExpectedOutcomes {
  try {
    return new Map(Object.entries(expectedSchema.parse(JSON.parse(text))))
  } catch (cause) {
    throw new HarnessError('HARNESS_BAD_RESULTS', {
      expected: `a JSON object of case ids and outcomes (${OUTCOMES.join(', ')})`,
      found: cause instanceof z.ZodError ? cause.issues[0]!.message : String(cause),
      hint: '`trapdoor run --update-expected` writes it',
      file,
      cause,
    })
  }
}

/** The text of a file of expected outcomes, sorted by case id. */
export function serializeExpected(cases: readonly CaseResult[]): string {
  const entries = cases.map(({ id, outcome }) => [id, outcome] as const)
  const sorted = entries.toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`
}

/** The cases that did not end as expected, in their order. */
export function surprises(cases: readonly CaseResult[], expected: ExpectedOutcomes): Surprise[] {
  return cases
    .map((result) => ({
      result,
      expected: expected.get(result.id) ?? 'ok',
      named: expected.has(result.id),
    }))
    .filter(({ result, expected: outcome }) => result.outcome !== outcome)
}
