import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { MemoryOperand } from '../../decode/memory-operand.ts'
import type { Execution } from '../../execution.ts'
import {
  modifier,
  type Read,
  reader,
  readRegister,
  wideModifier,
  wideReader,
} from '../../operands.ts'
import type { Translator } from '../table.ts'

/** An operation of two operands whose result goes to the first, in every size. What is returned has the low bits of the result. */
export interface BinaryOperation {
  readonly of32: (execution: Execution, first: number, second: number) => number
  /** `shift` is 24 for 8 bits, 16 for 16. */
  readonly ofSmall: (execution: Execution, first: number, second: number, shift: number) => number
  readonly of64: (
    execution: Execution,
    low: number,
    high: number,
    secondLow: number,
    secondHigh: number,
  ) => number
}

/** Closures that do one operation alone, for the forms that compilers use most; see {@link binaryTranslator}. `word` and `other` are words of registers. */
export interface HotForms {
  readonly registers32: (word: number, other: number) => Operation
  readonly immediate32: (word: number, value: number) => Operation
  readonly registers64: (word: number, other: number) => Operation
  readonly immediate64: (word: number, low: number, high: number) => Operation
  /** The second operand in memory. */
  readonly memory32: (word: number, memory: MemoryOperand) => Operation
  readonly memory64: (word: number, memory: MemoryOperand) => Operation
  /** The same where nobody looks at the flags. */
  readonly flagless?: {
    readonly registers32: (word: number, other: number) => Operation
    readonly immediate32: (word: number, value: number) => Operation
    readonly registers64: (word: number, other: number) => Operation
    readonly immediate64: (word: number, low: number, high: number) => Operation
  }
}

/** Translates all forms of an operation whose second operand is a register, memory or an immediate. */
export function binaryTranslator(operation: BinaryOperation, hot?: HotForms): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    if (hot !== undefined && decoded.isRegister(0) && size >= 4) {
      return hotForm(decoded, hot, size === 8)
    }
    if (size === 8) {
      const second = wideReader(decoded, 1)
      return wideModifier(decoded, (execution, low, high, general) => {
        const secondLow = second(general, execution)
        return operation.of64(execution, low, high, secondLow, execution.high)
      })
    }
    const second = reader(decoded, 1, size)
    if (size === 4) {
      return modifier(decoded, 4, (execution, value, general) =>
        operation.of32(execution, value, second(general, execution)),
      )
    }
    const shift = size === 1 ? 24 : 16
    return modifier(decoded, size, (execution, value, general) =>
      operation.ofSmall(execution, value, second(general, execution), shift),
    )
  }
}

/** More of {@link HotForms}, for CMP and TEST: of memory, and of 8 and 16 bits, whose `shift` is 24 and 16. */
export interface ComparisonForms extends HotForms {
  readonly memoryImmediate32: (memory: MemoryOperand, value: number) => Operation
  readonly memoryImmediate64: (memory: MemoryOperand, low: number, high: number) => Operation
  readonly memoryRegister32: (memory: MemoryOperand, word: number) => Operation
  readonly memoryRegister64: (memory: MemoryOperand, word: number) => Operation
  readonly immediate8: (read: Read, value: number) => Operation
  readonly memoryImmediateSmall: (memory: MemoryOperand, value: number, shift: number) => Operation
  readonly memorySmall: (memory: MemoryOperand, read: Read, shift: number) => Operation
}

/** The same for CMP and TEST, which write no result. */
export function comparisonTranslator(operation: BinaryOperation, hot: ComparisonForms): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    if (decoded.isMemory(0)) return memoryComparison(decoded, hot)
    if (size >= 4) return hotForm(decoded, hot, size === 8)
    const shift = size === 1 ? 24 : 16
    const first = reader(decoded, 0, size)
    if (size === 1 && decoded.isImmediate(1)) {
      return hot.immediate8(first, decoded.immediate(1).low & 0xff)
    }
    const second = reader(decoded, 1, size)
    return (general, execution) => {
      operation.ofSmall(execution, first(general, execution), second(general, execution), shift)
    }
  }
}

function memoryComparison(decoded: DecodedInstruction, hot: ComparisonForms): Operation {
  const size = decoded.size(0)
  const { memory } = decoded
  const shift = size === 1 ? 24 : 16
  if (decoded.isImmediate(1)) {
    const { low, high } = decoded.immediate(1)
    if (size === 8) return hot.memoryImmediate64(memory, low, high)
    if (size === 4) return hot.memoryImmediate32(memory, low)
    return hot.memoryImmediateSmall(memory, low & (size === 1 ? 0xff : 0xffff), shift)
  }
  const register = decoded.register(1)
  if (size === 8) return hot.memoryRegister64(memory, register.word)
  if (size === 4) return hot.memoryRegister32(memory, register.word)
  return hot.memorySmall(memory, readRegister(register), shift)
}

function hotForm(decoded: DecodedInstruction, hot: HotForms, isWide: boolean): Operation {
  const { word } = decoded.register(0)
  if (decoded.isMemory(1)) {
    const { memory } = decoded
    return isWide ? hot.memory64(word, memory) : hot.memory32(word, memory)
  }
  const forms = decoded.flagsNeeded ? hot : (hot.flagless ?? hot)
  if (decoded.isRegister(1)) {
    const other = decoded.register(1).word
    return isWide ? forms.registers64(word, other) : forms.registers32(word, other)
  }
  const { low, high } = decoded.immediate(1)
  return isWide ? forms.immediate64(word, low, high) : forms.immediate32(word, low)
}

/** An operation of one operand, in every size, as {@link BinaryOperation}. */
export interface UnaryOperation {
  readonly of32: (execution: Execution, value: number) => number
  readonly ofSmall: (execution: Execution, value: number, shift: number) => number
  readonly of64: (execution: Execution, low: number, high: number) => number
  /** Of a register of 32 or 64 bits where nobody looks at the flags. */
  readonly flagless32: (word: number) => Operation
  readonly flagless64: (word: number) => Operation
}

/** Translates NEG, NOT, INC and DEC. */
export function unaryTranslator(operation: UnaryOperation): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    if (decoded.isRegister(0) && size >= 4 && !decoded.flagsNeeded) {
      const { word } = decoded.register(0)
      return size === 8 ? operation.flagless64(word) : operation.flagless32(word)
    }
    if (size === 8) return wideModifier(decoded, operation.of64)
    if (size === 4) return modifier(decoded, 4, operation.of32)
    const shift = size === 1 ? 24 : 16
    return modifier(decoded, size, (execution, value) => operation.ofSmall(execution, value, shift))
  }
}
