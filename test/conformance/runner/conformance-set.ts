import type { Manuals } from './manuals.ts'
import type { Recorder } from './recorder.ts'

/** How much of a product is enumerated: a systematic part in under a minute, or all of it. */
export type Size = 'small' | 'full'

/** One product of dimensions. Its chunks can run in any order and on any thread. */
export interface ConformanceSet {
  readonly name: string
  /** What is multiplied, in one line. */
  readonly title: string
  /** How many chunks there are; none leaves the set out. */
  chunks(size: Size): number
  /** How many combinations there must be, where that is known from elsewhere. */
  combinations?(size: Size): number | undefined
  /** Runs a chunk, from 0, and tells the recorder of each combination. */
  run(chunk: number, size: Size, recorder: Recorder, manuals: Manuals): void
}
