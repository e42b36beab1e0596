import { FlowControl, Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { conditionOf } from './conditions.ts'

/** A jump that is taken where what it asks for is `wanted`, so many bytes from the beginning of the block. */
interface Jump {
  readonly wanted: boolean
  readonly taken: number
  readonly takenHigh: number
}

/** What is compared: a register with a register, or with an immediate. */
interface Compared {
  readonly word: number
  /** The other register; undefined for an immediate. */
  readonly other: number | undefined
  readonly low: number
  readonly high: number
}

type Form = (compared: Compared, jump: Jump) => Operation

/** Equal, after CMP of 32 bits. */
const equal32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        execution.sub32(first, low)
        if ((first === low) === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const second = general[other]!
        execution.sub32(first, second)
        if ((first === second) === wanted) execution.leave(general, taken, takenHigh)
      }

/** Below: unsigned. */
const below32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        execution.sub32(first, low)
        if (first >>> 0 < low >>> 0 === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const second = general[other]!
        execution.sub32(first, second)
        if (first >>> 0 < second >>> 0 === wanted) execution.leave(general, taken, takenHigh)
      }

const notAbove32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        execution.sub32(first, low)
        if (first >>> 0 <= low >>> 0 === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const second = general[other]!
        execution.sub32(first, second)
        if (first >>> 0 <= second >>> 0 === wanted) execution.leave(general, taken, takenHigh)
      }

/** Less: signed. */
const less32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        execution.sub32(first, low)
        if (first < low === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const second = general[other]!
        execution.sub32(first, second)
        if (first < second === wanted) execution.leave(general, taken, takenHigh)
      }

const notGreater32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        execution.sub32(first, low)
        if (first <= low === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const second = general[other]!
        execution.sub32(first, second)
        if (first <= second === wanted) execution.leave(general, taken, takenHigh)
      }

const equal64: Form = ({ word, other, low, high }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const result = execution.sub64(general[word]!, general[word + 1]!, low, high)
        if (((result | execution.high) === 0) === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const result = execution.sub64(
          general[word]!,
          general[word + 1]!,
          general[other]!,
          general[other + 1]!,
        )
        if (((result | execution.high) === 0) === wanted) execution.leave(general, taken, takenHigh)
      }

const below64: Form = ({ word, other, low, high }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const first = general[word]!
        const firstHigh = general[word + 1]!
        execution.sub64(first, firstHigh, low, high)
        const isBelow = firstHigh === high ? first >>> 0 < low >>> 0 : firstHigh >>> 0 < high >>> 0
        if (isBelow === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const first = general[word]!
        const firstHigh = general[word + 1]!
        const second = general[other]!
        const secondHigh = general[other + 1]!
        execution.sub64(first, firstHigh, second, secondHigh)
        const isBelow =
          firstHigh === secondHigh ? first >>> 0 < second >>> 0 : firstHigh >>> 0 < secondHigh >>> 0
        if (isBelow === wanted) execution.leave(general, taken, takenHigh)
      }

/** The other conditions after CMP of 64 bits, which are rarer. */
const other64 =
  (holds: (execution: Execution) => boolean): Form =>
  ({ word, other, low, high }, { wanted, taken, takenHigh }) =>
  (general, execution) => {
    const secondLow = other === undefined ? low : general[other]!
    const secondHigh = other === undefined ? high : general[other + 1]!
    execution.sub64(general[word]!, general[word + 1]!, secondLow, secondHigh)
    if (holds(execution) === wanted) execution.leave(general, taken, takenHigh)
  }

const zeroTest32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const result = execution.logic32(general[word]! & low)
        if ((result === 0) === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const result = execution.logic32(general[word]! & general[other]!)
        if ((result === 0) === wanted) execution.leave(general, taken, takenHigh)
      }

const signTest32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const result = execution.logic32(general[word]! & low)
        if (result < 0 === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const result = execution.logic32(general[word]! & general[other]!)
        if (result < 0 === wanted) execution.leave(general, taken, takenHigh)
      }

const notGreaterTest32: Form = ({ word, other, low }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const result = execution.logic32(general[word]! & low)
        if (result <= 0 === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const result = execution.logic32(general[word]! & general[other]!)
        if (result <= 0 === wanted) execution.leave(general, taken, takenHigh)
      }

const zeroTest64: Form = ({ word, other, low, high }, { wanted, taken, takenHigh }) =>
  other === undefined
    ? (general, execution) => {
        const resultHigh = general[word + 1]! & high
        const result = execution.logic64(general[word]! & low, resultHigh)
        if (((result | resultHigh) === 0) === wanted) execution.leave(general, taken, takenHigh)
      }
    : (general, execution) => {
        const resultHigh = general[word + 1]! & general[other + 1]!
        const result = execution.logic64(general[word]! & general[other]!, resultHigh)
        if (((result | resultHigh) === 0) === wanted) execution.leave(general, taken, takenHigh)
      }

const signTest64: Form =
  ({ word, other, low, high }, { wanted, taken, takenHigh }) =>
  (general, execution) => {
    const secondLow = other === undefined ? low : general[other]!
    const secondHigh = other === undefined ? high : general[other + 1]!
    const resultHigh = general[word + 1]! & secondHigh
    execution.logic64(general[word]! & secondLow, resultHigh)
    if (resultHigh < 0 === wanted) execution.leave(general, taken, takenHigh)
  }

/** By the even condition codes: the odd ones are their opposites. */
const AFTER_CMP_32: ReadonlyMap<number, Form> = new Map([
  [2, below32],
  [4, equal32],
  [6, notAbove32],
  [12, less32],
  [14, notGreater32],
])
const AFTER_CMP_64: ReadonlyMap<number, Form> = new Map([
  [2, below64],
  [4, equal64],
  [6, other64((execution) => execution.carry || execution.zero)],
  [12, other64((execution) => execution.less)],
  [14, other64((execution) => execution.zero || execution.less)],
])
/** TEST clears CF and OF. */
const AFTER_TEST_32: ReadonlyMap<number, Form> = new Map([
  [4, zeroTest32],
  [6, zeroTest32],
  [8, signTest32],
  [12, signTest32],
  [14, notGreaterTest32],
])
const AFTER_TEST_64: ReadonlyMap<number, Form> = new Map([
  [4, zeroTest64],
  [6, zeroTest64],
  [8, signTest64],
  [12, signTest64],
])

/** One operation for CMP or TEST of registers and immediates, and the conditional jump behind it, in 64-bit mode: what compilers end most blocks with. Undefined for others. */
export function compareAndBranch(
  comparison: DecodedInstruction,
  jump: DecodedInstruction,
): Operation | undefined {
  const { mnemonic } = comparison
  const isComparison = mnemonic === Mnemonic.Cmp
  if (!isComparison && mnemonic !== Mnemonic.Test) return undefined
  if (
    jump.instruction.flowControl !== FlowControl.ConditionalBranch ||
    jump.bits !== 64 ||
    jump.isNarrowNearBranch
  ) {
    return undefined
  }
  const condition = conditionOf(jump.mnemonic)
  if (condition === undefined) return undefined
  const size = comparison.size(0)
  if (size < 4 || !comparison.isRegister(0) || comparison.isMemory(1)) return undefined
  const forms = isComparison
    ? size === 8
      ? AFTER_CMP_64
      : AFTER_CMP_32
    : size === 8
      ? AFTER_TEST_64
      : AFTER_TEST_32
  const form = forms.get(condition & ~1)
  if (form === undefined) return undefined
  const isOther = comparison.isRegister(1)
  const immediate = isOther ? { low: 0, high: 0 } : comparison.immediate(1)
  const compared = {
    word: comparison.register(0).word,
    other: isOther ? comparison.register(1).word : undefined,
    ...immediate,
  }
  const distance = jump.branchDistance
  return form(compared, {
    wanted: (condition & 1) === 0,
    taken: distance | 0,
    takenHigh: distance < 0 ? -1 : 0,
  })
}
