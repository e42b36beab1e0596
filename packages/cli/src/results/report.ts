import { type Results, serializeResults, type Surprise } from '@trapdoor/harness'
import type { CliIo } from '../io.ts'
import { renderFailures } from '../matrix/failures.ts'
import { renderSummary } from '../matrix/summary.ts'
import { renderTables } from '../matrix/table.ts'
import { createPaint } from '../text/paint.ts'
import { renderJunit } from './junit.ts'

/** The forms that results can be printed in. */
export const REPORTERS = ['tree', 'json', 'junit'] as const

/** Name of a form. */
export type Reporter = (typeof REPORTERS)[number]

/** What a report needs beside the results. */
export interface ReportOptions {
  readonly io: CliIo
  readonly surprises: readonly Surprise[]
  /** Name of the file of expected outcomes, where there is one. */
  readonly expected: string | undefined
  /** The command that explains a case. */
  readonly explain: (caseId: string) => string
}

/** Results as text. */
export function renderReport(reporter: Reporter, results: Results, options: ReportOptions): string {
  if (reporter === 'json') return serializeResults(results)
  if (reporter === 'junit') return renderJunit(results, options.surprises)
  const { io, surprises, expected, explain } = options
  const paint = createPaint(io)
  const width = Math.max(60, io.columns ?? 100)
  const surprising = new Set(expected === undefined ? [] : surprises.map(({ result }) => result.id))
  const sections = [
    renderTables(results, { paint, width, surprising }),
    renderFailures(results, { paint, width, explain }),
    renderSummary(results, { paint, surprises, expected }),
  ]
  return `${sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')}\n`
}
