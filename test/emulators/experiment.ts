import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { type Case, randomCase } from './cases/case.ts'
import { Random } from './cases/random.ts'
import { TableSet } from './cases/table-set.ts'
import { PAGE_BYTES } from './cases/table.ts'
import { buildImage, type GuestImage } from './guest/image.ts'
import { RESULT_BYTES } from './guest/layout.ts'
import { type Reading, readRecord, resultRecord, type Trial } from './guest/records.ts'
import { applyFaults, type KnownFault } from './known-faults.ts'
import type { Emulator, GuestMemory } from './machines/emulator.ts'
import { Model, type Outcome } from './model.ts'
import { describeEnding } from './wording.ts'

/** A case, what was expected of an emulator, and what it did. */
export interface Comparison {
  readonly index: number
  readonly trial: Prediction
  readonly theirs: Reading
}

/** An entry that an emulator changed though no case's translation reads it. */
export interface StrayChange {
  /** The first case of the run. */
  readonly first: number
  /** Physical address of the eight bytes. */
  readonly address: number
  readonly was: bigint
  readonly is: bigint
}

/** Which cases an experiment runs. */
export interface Selection {
  readonly seed: number
  readonly first: number
  readonly count: number
}

/** A trial whose expected outcome is that of our machine but for known faults of the emulator. */
export interface Prediction extends Trial {
  readonly ours: Outcome
  readonly faults: readonly KnownFault[]
}

/** Cases that go through an emulator at once, as they share their tables. */
interface Run {
  readonly first: number
  readonly tables: TableSet
  readonly trials: readonly Prediction[]
  readonly image: GuestImage
}

/** Every other run, the lower tables of our machine lie in a flat window and the upper ones do not. */
const FLAT_WINDOW = 3 * 2 ** 30
/** Differences that are kept, of each kind. All are counted. */
const KEPT = 10

/**
 * Runs random cases on an emulator and on our machine and compares what comes out. What a case is depends on the seed, the emulator and the case's index, not
 * on which other cases run.
 */
export class Experiment {
  readonly emulator: Emulator
  /** The first cases that were not as expected. */
  readonly differences: Comparison[] = []
  /** The last case that was compared. */
  latest: Comparison | undefined
  /** The first entries that no case should have changed. */
  readonly strayChanges: StrayChange[] = []
  /** How many there were. */
  straying = 0
  /** Cases that were compared. */
  compared = 0
  /** Cases that were not as expected. */
  differing = 0
  /** In how many cases each known fault of the emulator showed. */
  readonly faultUses: Map<KnownFault, number>
  /** How many cases ended how, by our machine. */
  readonly endings: Map<string, number> = new Map()
  readonly #seed: number
  readonly #knownFaults: readonly KnownFault[]
  readonly #directory: string

  /** `directory` is an existing folder for the files of the guests. */
  constructor(
    emulator: Emulator,
    knownFaults: readonly KnownFault[],
    seed: number,
    directory: string,
  ) {
    this.emulator = emulator
    this.#knownFaults = knownFaults.filter((fault) => fault.emulator === emulator.name)
    this.faultUses = new Map(this.#knownFaults.map((fault) => [fault, 0]))
    this.#seed = seed
    this.#directory = join(directory, emulator.name)
  }

  /** Runs the cases from index `first` up to `end` (exclusive). While the emulator works on some, the next are prepared. */
  async run(
    first: number,
    end: number,
    onProgress: (experiment: Experiment) => void,
  ): Promise<void> {
    const { casesPerRun } = this.emulator
    let pending: Promise<void> = Promise.resolve()
    for (let at = first; at < end;) {
      const until = Math.min(end, (Math.floor(at / casesPerRun) + 1) * casesPerRun)
      const run = this.#prepare(at, until)
      await pending
      pending = this.#execute(run, onProgress)
      // It is waited for in the next round; should that not come, a failure must not go by unheard.
      pending.catch(() => {})
      at = until
    }
    await pending
  }

  #prepare(first: number, end: number): Run {
    const { emulator } = this
    const { casesPerRun, layouts, features, places } = emulator
    const number = Math.floor(first / casesPerRun)
    const stream = [this.#seed, emulator.stream]
    const tables = new TableSet(
      new Random(...stream, number),
      layouts[number % layouts.length]!,
      places,
    )
    const flatWindow = number % 2 === 0 ? 0 : FLAT_WINDOW
    const model = new Model(features, emulator.accessedFlags, tables, flatWindow)
    const trials: Prediction[] = []
    for (let index = first; index < end; index++) {
      const subject = randomCase(new Random(...stream, number, index), tables, features)
      trials.push(this.#expect(model, subject))
    }
    const { pku, pks } = features
    return { first, tables, trials, image: buildImage(tables, trials, { pku, pks }) }
  }

  #expect(model: Model, subject: Case): Prediction {
    const ours = model.run(subject)
    const rerun = (changes: Partial<Case>) => model.run({ ...subject, ...changes })
    const { outcome, faults } = applyFaults(this.#knownFaults, { subject, ours, rerun })
    return { subject, ours, faults, expected: outcome }
  }

  async #execute(run: Run, onProgress: (experiment: Experiment) => void): Promise<void> {
    await mkdir(this.#directory)
    try {
      const memory = await this.emulator.run(run.image, this.#directory)
      this.#compare(run, memory)
    } finally {
      await rm(this.#directory, { recursive: true })
    }
    onProgress(this)
  }

  #compare(run: Run, memory: GuestMemory): void {
    this.#compareTables(run, memory.tables)
    for (const [at, trial] of run.trials.entries()) {
      const ending = describeEnding(trial.ours)
      this.endings.set(ending, (this.endings.get(ending) ?? 0) + 1)
      const found = memory.results.subarray(at * RESULT_BYTES, (at + 1) * RESULT_BYTES)
      if (found.equals(resultRecord(trial.expected))) {
        for (const fault of trial.faults) this.faultUses.set(fault, this.faultUses.get(fault)! + 1)
        continue
      }
      this.differing++
      if (this.differences.length < KEPT) this.differences.push(comparison(run, at, found))
    }
    this.compared += run.trials.length
    this.latest = comparison(run, run.trials.length - 1, memory.results.subarray(-RESULT_BYTES))
  }

  /** The guest puts back what the entries on the way held: what has changed nonetheless is an entry that no translation should have touched. */
  #compareTables({ first, tables, image }: Run, found: Buffer): void {
    const { start, length } = image.tables
    const before = image.bytes.subarray(start, start + length)
    if (found.equals(before)) return
    for (let at = 0; at < length; at += 8) {
      const was = before.readBigUInt64LE(at)
      const is = found.readBigUInt64LE(at)
      if (was === is) continue
      const table = tables.tables[Math.floor(at / PAGE_BYTES)]!
      const { entryBytes, guestIndex } = tables.layout
      const index = Math.floor((at % PAGE_BYTES) / entryBytes)
      // The guest's own entry is no case's.
      if (entryBytes === 8 && tables.roots.includes(table) && index === guestIndex) continue
      this.straying++
      if (this.strayChanges.length >= KEPT) continue
      this.strayChanges.push({ first, address: table.address + (at % PAGE_BYTES), was, is })
    }
  }
}

function comparison(run: Run, at: number, found: Buffer): Comparison {
  return { index: run.first + at, trial: run.trials[at]!, theirs: readRecord(found) }
}
