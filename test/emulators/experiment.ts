import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { type Case, randomCase } from './cases/case.ts'
import { Random } from './cases/random.ts'
import { TableSet } from './cases/table-set.ts'
import { PAGE_BYTES } from './cases/table.ts'
import { buildImage, type GuestImage, readRecord, resultRecord, type Trial } from './guest/image.ts'
import { RESULT_BYTES } from './guest/layout.ts'
import { describeEnding } from './wording.ts'
import { applyFaults, type KnownFault } from './known-faults.ts'
import type { Emulator, GuestMemory } from './machines/emulator.ts'
import { Model, type Outcome } from './model.ts'

/** A case in which an emulator did not do what was expected of it. */
export interface Difference {
  readonly index: number
  readonly trial: Prediction
  readonly theirs: Reading
}

/** What an emulator did. */
export type Reading = ReturnType<typeof readRecord>

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

/** Differences that are kept. All are counted. */
const KEPT = 10

/**
 * Runs random cases on an emulator and on our machine and compares what comes out. What a case is depends on the seed, the emulator and the case's index, not
 * on which other cases run.
 */
export class Experiment {
  readonly emulator: Emulator
  readonly differences: Difference[] = []
  readonly strayChanges: StrayChange[] = []
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
  async run(first: number, end: number, onProgress: (compared: number) => void): Promise<void> {
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
    const model = new Model(features, emulator.accessedFlags, tables)
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

  async #execute(run: Run, onProgress: (compared: number) => void): Promise<void> {
    await mkdir(this.#directory)
    try {
      const memory = await this.emulator.run(run.image, this.#directory)
      this.#compare(run, memory)
    } finally {
      await rm(this.#directory, { recursive: true })
    }
    onProgress(this.compared)
  }

  #compare(run: Run, memory: GuestMemory): void {
    this.#compareTables(run, memory.tables)
    for (const [at, trial] of run.trials.entries()) {
      this.compared++
      const ending = describeEnding(trial.ours)
      this.endings.set(ending, (this.endings.get(ending) ?? 0) + 1)
      const found = memory.results.subarray(at * RESULT_BYTES, (at + 1) * RESULT_BYTES)
      if (found.equals(resultRecord(trial.expected))) {
        for (const fault of trial.faults) {
          this.faultUses.set(fault, this.faultUses.get(fault)! + 1)
        }
        continue
      }
      this.differing++
      if (this.differences.length < KEPT) {
        this.differences.push({
          index: run.first + at,
          trial,
          theirs: readRecord(found),
        })
      }
    }
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
      if (tables.roots.includes(table) && index === guestIndex) continue
      this.strayChanges.push({ first, address: table.address + (at % PAGE_BYTES), was, is })
    }
  }
}
