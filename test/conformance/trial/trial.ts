import { AccessKind, FAULT, PageFault } from '@trapdoor/core'

import { KINDS, verbOf } from './core-access.ts'
import type { Manuals } from '../runner/manuals.ts'
import { AccessBit } from '../oracle/access-rights.ts'
import { type RegisterState, translationState } from '../oracle/register-state.ts'
import { NO_FAULT, Path, type TranslationOracle } from '../oracle/translation.ts'
import { LOW_TABLES, PagingStructures } from './paging-structures.ts'
import { Processor, type ProcessorOptions } from './processor.ts'
import type { Recorder } from '../runner/recorder.ts'
import { describeAccess, describeOutcome, describePath, describeState } from './wording.ts'

/** How a trial is set up. */
export interface TrialOptions extends ProcessorOptions {
  /** Frames of the tables by depth. */
  readonly tables?: readonly number[]
  /** Every how many-th combination goes through the processor's own entrance, which raises exceptions. Default 4093. */
  readonly throughCpuEvery?: number
}

/** After so many exceptions only the entrance without them is used: each is an entry of the machine's log. */
const EXCEPTIONS_AT_MOST = 100_000

/**
 * A processor, page tables of one linear address in its memory, and the oracle: {@link check} is one combination. It compares whether the access faults, the
 * error code, CR2, the physical address, and every entry afterwards.
 */
export class Trial {
  readonly structures: PagingStructures
  readonly processor: Processor
  oracle: TranslationOracle
  readonly #manuals: Manuals
  readonly #recorder: Recorder
  readonly #every: number
  #untilCpu: number
  #exceptions = 0
  #linear = 0n
  #linearHigh = 0
  #linearLow = 0
  readonly #expected: Path = new Path()
  #foundFrame = 0
  #trouble = ''

  constructor(
    state: RegisterState,
    manuals: Manuals,
    recorder: Recorder,
    options: TrialOptions = {},
  ) {
    const tables = options.tables ?? LOW_TABLES
    this.#manuals = manuals
    this.#recorder = recorder
    this.#every = options.throughCpuEvery ?? 4093
    this.#untilCpu = this.#every
    this.processor = new Processor(state, PagingStructures.root(state.structure, tables), options)
    this.structures = new PagingStructures(this.processor.machine.memory, state.structure, tables)
    this.oracle = manuals.translation(translationState(state))
  }

  /** Changes the registers. */
  apply(state: RegisterState): void {
    this.processor.apply(state)
    this.oracle = this.#manuals.translation(translationState(state))
  }

  /** Turns to another linear address, given as signed halves. */
  select(linearHigh: number, linearLow: number): void {
    this.#linear = (BigInt(linearHigh >>> 0) << 32n) | BigInt(linearLow >>> 0)
    this.#linearHigh = linearHigh
    this.#linearLow = linearLow
    this.structures.select(linearHigh, linearLow)
  }

  /** Makes memory hold `path`, and has the processor forget what it cached of it. */
  place(path: Path): void {
    const rootChanged = this.structures.place(path)
    const { cpu } = this.processor
    if (rootChanged && this.processor.state.structure === 'PAE') cpu.writeCr3(cpu.cr3)
    cpu.mmu.flushAll()
  }

  /** One combination: an access through the entries of `path`. With `twice`, a supervisor's read goes before it and may leave a TLB entry. */
  check(path: Path, access: number, twice = false): void {
    this.place(path)
    if (twice) {
      this.oracle.predict(this.structures.current, this.#linearLow, 0)
      this.oracle.mark(this.structures.current)
      this.processor.cpu.mmu.translate(this.#linearHigh, this.#linearLow, AccessKind.Read)
    }
    this.checkAccess(access, () =>
      twice ? `${this.#describe(path)}, read before` : this.#describe(path),
    )
  }

  /** An access through the entries that are in memory, whatever the processor has cached of them. */
  checkAccess(access: number, describe: () => string): void {
    const { oracle, structures } = this
    const errorCode = oracle.predict(structures.current, this.#linearLow, access)
    this.#expected.copy(structures.current)
    oracle.mark(this.#expected)
    structures.current.copy(this.#expected)
    const found = this.#access(access)
    this.#recorder.combinations++
    if (
      found === errorCode &&
      (found !== NO_FAULT || this.#foundFrame === oracle.frame) &&
      this.#trouble === '' &&
      structures.matches()
    )
      return
    const entries = structures.readBack()
    this.#recorder.differ(() =>
      [
        `${describe()}, ${describeAccess(access)}`,
        `expected ${describeOutcome(errorCode, oracle.frame)}; ${this.#describePath(this.#expected)}`,
        `found    ${describeOutcome(found, this.#foundFrame)}; ${this.#describePath(entries)}${this.#trouble}`,
      ].join('\n    '),
    )
    this.#trouble = ''
  }

  #describePath(path: Path): string {
    return describePath(this.processor.state.structure, path)
  }

  #describe(path: Path): string {
    return `${describeState(this.processor.state)}\n    at 0x${this.#linear.toString(16)}: ${this.#describePath(path)}`
  }

  #access(access: number): number {
    if (--this.#untilCpu > 0 || this.#exceptions > EXCEPTIONS_AT_MOST) {
      const { mmu } = this.processor.cpu
      const frame = mmu.translate(this.#linearHigh, this.#linearLow, KINDS[access]!)
      if (frame === FAULT) return mmu.errorCode
      this.#foundFrame = frame
      return NO_FAULT
    }
    this.#untilCpu = this.#every
    return this.#accessThroughCpu(access)
  }

  #accessThroughCpu(access: number): number {
    const { cpu } = this.processor
    const offset = 0x123n
    const address = this.#linear | offset
    cpu.cpl = (access & (AccessBit.User | AccessBit.Implicit)) !== 0 ? 3 : 0
    cpu.cr2 = 0n
    try {
      const physical = cpu.translate(address, verbOf(access), {
        implicit: (access & AccessBit.Implicit) !== 0,
      })
      this.#foundFrame = Math.floor(physical / 4096)
      if (physical % 4096 !== Number(offset)) this.#trouble = `; at byte ${physical} of memory`
      if (cpu.cr2 !== 0n) this.#trouble = '; CR2 written without a fault'
      return NO_FAULT
    } catch (error) {
      if (!(error instanceof PageFault)) throw error
      this.#exceptions++
      if (cpu.cr2 !== address || error.address !== address)
        this.#trouble = `; CR2 = 0x${cpu.cr2.toString(16)}`
      return error.errorCode
    }
  }
}
