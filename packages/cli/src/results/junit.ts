import type { CaseResult, Results, Surprise } from '@trapdoor/harness'
import junit, { type Builder } from 'junit-report-builder'
import { distinct } from '../matrix/axes.ts'

function suiteName({ memoryMap, strategy }: CaseResult): string {
  return `${memoryMap}/${strategy}`
}

/** JUnit XML: a suite for each memory map and strategy; a case fails that did not end as expected. */
export function renderJunit(results: Results, surprises: readonly Surprise[]): string {
  // The types of the package describe its default export inside of what it really exports.
  const builder = (junit as unknown as Builder).newBuilder().name('trapdoor')
  const expected = new Map(surprises.map(({ result, expected: wanted }) => [result.id, wanted]))
  for (const name of distinct(results.cases.map(suiteName))) {
    const suite = builder.testSuite().name(name)
    for (const result of results.cases) {
      if (suiteName(result) !== name) continue
      const testCase = suite.testCase().className(name.replace('/', '.')).name(result.id)
      const wanted = expected.get(result.id)
      if (wanted === undefined) continue
      testCase.failure(
        `expected ${wanted}, was ${result.outcome}: ${result.reason}`,
        result.outcome,
      )
      if (result.findings.length > 0) {
        testCase.standardOutput(
          result.findings.map(({ rule, message }) => `${rule}: ${message}`).join('\n'),
        )
      }
    }
  }
  return `${builder.build()}\n`
}
