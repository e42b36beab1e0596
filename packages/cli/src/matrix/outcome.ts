import { type Outcome, OUTCOMES } from '@trapdoor/harness'
import type { Style } from '../text/paint.ts'

/** How an outcome is shown: never by its colour alone. */
export interface OutcomeMark {
  readonly glyph: string
  readonly style: Style
  /** For somebody who meets the word for the first time. */
  readonly meaning: string
}

/** The marks of all outcomes. */
export const OUTCOME_MARKS: Readonly<Record<Outcome, OutcomeMark>> = {
  fault: { glyph: '✗', style: ['red', 'bold'], meaning: 'the machine is dead' },
  corrupt: {
    glyph: '≠',
    style: ['magenta', 'bold'],
    meaning:
      'it went on, with something wrong: memory read or overwritten that is somebody else’s, or a CPU that is not as it was',
  },
  hang: { glyph: '∞', style: ['yellow', 'bold'], meaning: 'it never came back' },
  degraded: { glyph: '~', style: 'yellow', meaning: 'it survived, but services are lost or wrong' },
  refused: { glyph: '–', style: 'cyan', meaning: 'the kernel declined, as it says it would' },
  ok: { glyph: '✓', style: 'green', meaning: 'everything worked' },
}

/** The worst of some outcomes. */
export function worstOutcome(outcomes: readonly Outcome[]): Outcome {
  return OUTCOMES.find((outcome) => outcomes.includes(outcome)) ?? 'ok'
}
