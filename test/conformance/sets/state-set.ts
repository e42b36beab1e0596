import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { RegisterState } from '../oracle/register-state.ts'
import { highTables, LOW_TABLES } from '../trial/paging-structures.ts'
import { Trial, type TrialOptions } from '../trial/trial.ts'

/** A set of which each chunk is the processors and modes of one group, and one trial runs the same product in each state of the group. */
export interface StateSet {
  readonly name: string
  readonly title: string
  /** States, in groups that differ in nothing that a processor cannot change while it runs: each group is a chunk. */
  groups(size: Size): readonly (readonly RegisterState[])[]
  /** Runs every combination of entries and accesses in the state that the trial is in. */
  combinations(trial: Trial, size: Size): void
  readonly options?: TrialOptions
}

/** Makes a {@link ConformanceSet} of it. Every other group has its tables above 4 GiB. */
export function stateSet(set: StateSet): ConformanceSet {
  return {
    name: set.name,
    title: set.title,
    chunks: (size) => set.groups(size).length,
    run(chunk, size, recorder, manuals) {
      const states = set.groups(size)[chunk]!
      const [first] = states
      if (first === undefined) throw new Error('a group without states')
      const wide = first.structure === '4-level' || first.structure === '5-level'
      const tables = wide && chunk % 2 === 1 ? highTables(first.physicalAddressBits) : LOW_TABLES
      const trial = new Trial(first, manuals, recorder, {
        tables,
        ...(chunk % 4 === 0 ? { flatWindow: 32 << 20 } : {}),
        ...set.options,
      })
      for (const state of states) {
        trial.apply(state)
        set.combinations(trial, size)
      }
    },
  }
}
