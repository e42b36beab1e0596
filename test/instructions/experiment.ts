import { MissingInstruction } from '@trapdoor/cpu'

import { Random } from '../emulators/cases/random.ts'
import { encode, type Encoding } from './cases/encoding.ts'
import { CaseState } from './cases/state.ts'
import { compareCase, type Difference } from './comparison.ts'
import { describeForm, type Form } from './forms/form.ts'
import type { Model, ModelOutcome } from './model.ts'
import type { HostProcessor } from './native/host.ts'
import {
  COMPLETED,
  emptyRun,
  RecordOffset,
  recordBytes,
  type RecordShape,
  RUN_BYTES,
} from './native/layout.ts'

/** What became of a form. */
export interface FormResult {
  /** The form's line. */
  readonly form: string
  cases: number
  /** Of these, the cases that ended in an exception on the host. */
  exceptions: number
  differing: number
  /** Cases that were not compared, as they wrote beside the window: the fault is the generator's. */
  beside: number
  /** The first case that differed, made as small as possible. */
  first: DifferingCase | undefined
  /** Set where our machine lacks the instruction: its message. */
  missing: string | undefined
}

export interface DifferingCase {
  readonly index: number
  readonly encoding: Encoding
  /** The record before. */
  readonly before: Uint8Array
  readonly shape: RecordShape
  readonly differences: readonly Difference[]
}

/** Which cases are run. */
export interface CaseSelection {
  readonly seed: number
  /** How many cases a form gets, from this index on. */
  readonly count: number
  readonly first: number
}

/** States of registers and memory that each encoding is run with. */
const STATES = 8
const WINDOW_BYTES = 256
/** Instructions with a memory operand of that size need a window around it. */
const WIDE_WINDOW_BYTES = 2048

interface PlannedCase {
  readonly result: FormResult
  readonly encoding: Encoding
  readonly index: number
}

/** What belongs to the cases of a form: `fpu` is for forms with x87 or SSE registers, `wide` for those that store whole states. */
export function recordShape({ fpu, wide }: { fpu: boolean; wide: boolean }): RecordShape {
  return { windowBytes: wide ? WIDE_WINDOW_BYTES : WINDOW_BYTES, fpu }
}

/** Runs random cases of forms on the host's processor and on our machine, and compares. What a case is depends on the seed, its form and its index alone. */
export class Experiment {
  readonly #host: HostProcessor
  readonly #model: Model

  constructor(host: HostProcessor, model: Model) {
    this.#host = host
    this.#model = model
  }

  /** Runs cases of forms that have records of the same shape. Throws {@link HostError}. */
  async run(
    forms: readonly Form[],
    selection: CaseSelection,
    shape: RecordShape,
  ): Promise<FormResult[]> {
    const results = forms.map((form) => newResult(describeForm(form)))
    const planned = forms.flatMap((form, at) => planCases(form, results[at]!, selection))
    const before = emptyRun(shape, planned.length)
    for (const [at, { encoding, index }] of planned.entries()) {
      const random = new Random(selection.seed, hashOf(encoding.form), index, 1)
      new CaseState(encoding, random, shape).write(before, at, shape)
    }
    const after = await this.#host.run(before)
    const bytes = recordBytes(shape)
    for (const [at, one] of planned.entries()) {
      const start = before.byteOffset + RUN_BYTES + at * bytes
      this.#compare(
        one,
        new DataView(before.buffer, start, bytes),
        new DataView(after.buffer, after.byteOffset + at * bytes, bytes),
        shape,
      )
    }
    return results
  }

  /** What differs in one case, whose record may have been changed. */
  async differencesOf(
    encoding: Encoding,
    before: Uint8Array,
    shape: RecordShape,
  ): Promise<Difference[]> {
    const run = emptyRun(shape, 1)
    run.set(before, RUN_BYTES)
    const after = await this.#host.run(run)
    if (after[RecordOffset.Flags] !== 0) return []
    const model = this.#model
    model.lookAtAll()
    const view = new DataView(run.buffer, run.byteOffset + RUN_BYTES, before.length)
    const outcome = model.run(view, shape)
    const differences = compareCase(
      encoding,
      { before: view, after: new DataView(after.buffer, after.byteOffset), shape },
      model,
      outcome,
    )
    model.lookAtAll()
    return differences
  }

  #compare(
    { result, encoding, index }: PlannedCase,
    before: DataView,
    after: DataView,
    shape: RecordShape,
  ): void {
    if (result.missing !== undefined) return
    if (after.getUint8(RecordOffset.Flags) !== 0) {
      result.beside++
      return
    }
    const model = this.#model
    const outcome = this.#runOurs(result, before, shape)
    if (outcome !== undefined) {
      result.cases++
      if (after.getUint8(RecordOffset.Length) !== COMPLETED) result.exceptions++
      const differences = compareCase(encoding, { before, after, shape }, model, outcome)
      if (differences.length > 0) {
        model.lookAtAll()
        result.differing++
        const bytes = new Uint8Array(before.buffer, before.byteOffset, before.byteLength).slice()
        result.first ??= { index, encoding, before: bytes, shape, differences }
      }
    }
    model.restoreData(before.getBigUint64(RecordOffset.Window, true), shape.windowBytes)
  }

  /** Undefined where the instruction is missing, which is noted. */
  #runOurs(result: FormResult, before: DataView, shape: RecordShape): ModelOutcome | undefined {
    try {
      return this.#model.run(before, shape)
    } catch (error) {
      if (!(error instanceof MissingInstruction)) throw error
      result.missing = error.message
      return undefined
    }
  }
}

function newResult(form: string): FormResult {
  return {
    form,
    cases: 0,
    exceptions: 0,
    differing: 0,
    beside: 0,
    first: undefined,
    missing: undefined,
  }
}

function planCases(
  form: Form,
  result: FormResult,
  { seed, first, count }: CaseSelection,
): PlannedCase[] {
  const planned: PlannedCase[] = []
  let encoding: Encoding | undefined
  for (let index = first; index < first + count; index++) {
    if (index % STATES === 0 || encoding === undefined) {
      encoding = encode(form, new Random(seed, hashOf(form), index - (index % STATES), 0))
    }
    if (encoding === undefined) throw new Error(`no encoding of ${describeForm(form)} was found`)
    planned.push({ result, encoding, index })
  }
  return planned
}

/** A number of a form's line (FNV-1a), so that its cases do not depend on which other forms run. */
function hashOf(form: Form): number {
  let hash = 0x811c_9dc5
  for (const character of describeForm(form)) {
    hash = Math.imul(hash ^ character.charCodeAt(0), 0x0100_0193)
  }
  return hash >>> 0
}
