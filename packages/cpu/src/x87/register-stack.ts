import type { FloatingPointState } from '@trapdoor/core'

import {
  BEFORE_COMPUTATION,
  type FloatEnvironment,
  FloatException,
} from '../floating-point/environment.ts'
import { EXTENDED, indefinite } from '../floating-point/format.ts'

/** Bits of the status word beside the exceptions (SDM Vol. 1, figure 8-4). */
export const Fsw = {
  StackFault: 0x40,
  /** An exception is pending that is not masked. */
  ErrorSummary: 0x80,
  C0: 0x100,
  C1: 0x200,
  C2: 0x400,
  C3: 0x4000,
  Busy: 0x8000,
} as const

const TOP_SHIFT = 11
const TOP_MASK = 7 << TOP_SHIFT
const EXCEPTIONS = 0x3f
/** Bits of a significand that the precision control leaves (SDM Vol. 1, table 8-2); the reserved value is taken as all. */
const PRECISIONS = [24, undefined, 53, undefined] as const
/** What an unmasked overflow takes from an exponent (SDM Vol. 1, 8.5.4). */
const BIAS_ADJUSTMENT = 24_576

/** How the precision control bears on an operation: it does so on additions, multiplications, divisions and square roots (SDM Vol. 1, 8.1.5.2). */
export type PrecisionUse = 'controlled' | 'full'

/** The x87 register stack of a CPU, with numbers as 80 bits. */
export class RegisterStack {
  readonly state: FloatingPointState

  constructor(state: FloatingPointState) {
    this.state = state
  }

  /** Which of R0 to R7 is ST(0). */
  get top(): number {
    return (this.state.statusWord >> TOP_SHIFT) & 7
  }

  set top(value: number) {
    const { state } = this
    state.statusWord = (state.statusWord & ~TOP_MASK) | ((value & 7) << TOP_SHIFT)
  }

  isEmpty(index: number): boolean {
    return ((this.state.tags >> this.#register(index)) & 1) === 0
  }

  read(index: number): bigint {
    const { registers } = this.state
    const at = this.#register(index) * 4
    const low = BigInt(registers[at]! >>> 0)
    const high = BigInt(registers[at + 1]! >>> 0)
    return (BigInt(registers[at + 2]! & 0xffff) << 64n) | (high << 32n) | low
  }

  /** Writes a register, which is not empty then. */
  write(index: number, bits: bigint): void {
    const { state } = this
    const register = this.#register(index)
    state.registers[register * 4] = Number(BigInt.asIntN(32, bits))
    state.registers[register * 4 + 1] = Number(BigInt.asIntN(32, bits >> 32n))
    state.registers[register * 4 + 2] = Number((bits >> 64n) & 0xffffn)
    state.tags |= 1 << register
  }

  /** Empties a register, which keeps its bits. */
  free(index: number): void {
    this.state.tags &= ~(1 << this.#register(index))
  }

  pop(): void {
    this.free(0)
    this.top = this.top + 1
  }

  /** C0 to C3, as bits of {@link Fsw}; `mask` are those that change. */
  setConditions(mask: number, value: number): void {
    const { state } = this
    state.statusWord = (state.statusWord & ~mask) | (value & mask)
  }

  /** What rules an operation, with nothing found yet. */
  environment(use: PrecisionUse = 'full'): FloatEnvironment {
    const { controlWord } = this.state
    return {
      rounding: (controlWord >> 10) & 3,
      masks: controlWord & EXCEPTIONS,
      precision: use === 'controlled' ? PRECISIONS[(controlWord >> 8) & 3] : undefined,
      denormalsAreZero: false,
      flushToZero: false,
      biasAdjustment: BIAS_ADJUSTMENT,
      flags: 0,
      roundedUp: false,
    }
  }

  /** Notes what an operation found, in the status word: C1 says that it rounded up. Returns whether its result counts, which an exception before the computation prevents that is not masked. */
  settle({ flags, masks, roundedUp }: FloatEnvironment): boolean {
    const isComputed = (flags & BEFORE_COMPUTATION & ~masks) === 0
    this.setConditions(Fsw.C1, isComputed && roundedUp ? Fsw.C1 : 0)
    this.#note(isComputed ? flags : flags & BEFORE_COMPUTATION)
    return isComputed
  }

  /** Notes a stack overflow or underflow, an invalid operation whose C1 says which. Returns whether the masked response follows: the real indefinite as result. */
  stackFault(kind: 'overflow' | 'underflow'): boolean {
    this.setConditions(Fsw.C1, kind === 'overflow' ? Fsw.C1 : 0)
    this.#note(FloatException.Invalid | Fsw.StackFault)
    return (this.state.controlWord & FloatException.Invalid) !== 0
  }

  /** Pushes a number. A full stack is an overflow, which gives the real indefinite where it is masked. */
  push(bits: bigint): void {
    let value = bits
    if (!this.isEmpty(7)) {
      if (!this.stackFault('overflow')) return
      value = indefinite(EXTENDED)
    }
    this.top = this.top - 1
    this.write(0, value)
  }

  /** Works out the error summary again, after a change of flags or masks. */
  summarise(): void {
    const { state } = this
    const isPending = (state.statusWord & ~state.controlWord & EXCEPTIONS) !== 0
    const summary = Fsw.ErrorSummary | Fsw.Busy
    state.statusWord = isPending ? state.statusWord | summary : state.statusWord & ~summary
  }

  #note(flags: number): void {
    this.state.statusWord |= flags
    this.summarise()
  }

  #register(index: number): number {
    return (this.top + index) & 7
  }
}
