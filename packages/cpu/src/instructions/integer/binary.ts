import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { modifier, reader, wideModifier, wideReader } from '../../operands.ts'
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
    if (hot !== undefined && decoded.isRegister(0) && !decoded.isMemory(1) && size >= 4) {
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

/** The same for CMP and TEST, which write no result. */
export function comparisonTranslator(operation: BinaryOperation, hot: HotForms): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    if (decoded.isRegister(0) && !decoded.isMemory(1) && size >= 4) {
      return hotForm(decoded, hot, size === 8)
    }
    if (size === 8) {
      const first = wideReader(decoded, 0)
      const second = wideReader(decoded, 1)
      return (general, execution) => {
        const low = first(general, execution)
        const { high } = execution
        const secondLow = second(general, execution)
        operation.of64(execution, low, high, secondLow, execution.high)
      }
    }
    const first = reader(decoded, 0, size)
    const second = reader(decoded, 1, size)
    if (size === 4) {
      return (general, execution) => {
        operation.of32(execution, first(general, execution), second(general, execution))
      }
    }
    const shift = size === 1 ? 24 : 16
    return (general, execution) => {
      operation.ofSmall(execution, first(general, execution), second(general, execution), shift)
    }
  }
}

function hotForm(decoded: DecodedInstruction, hot: HotForms, isWide: boolean): Operation {
  const forms = decoded.flagsNeeded ? hot : (hot.flagless ?? hot)
  const { word } = decoded.register(0)
  if (decoded.isRegister(1)) {
    const other = decoded.register(1).word
    return isWide ? forms.registers64(word, other) : forms.registers32(word, other)
  }
  const { low, high } = decoded.immediate(1)
  return isWide ? forms.immediate64(word, low, high) : forms.immediate32(word, low)
}

/** Translates NEG, NOT, INC, DEC and the like. */
export function unaryTranslator(operation: {
  readonly of32: (execution: Execution, value: number) => number
  readonly ofSmall: (execution: Execution, value: number, shift: number) => number
  readonly of64: (execution: Execution, low: number, high: number) => number
}): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    if (size === 8) return wideModifier(decoded, operation.of64)
    if (size === 4) return modifier(decoded, 4, operation.of32)
    const shift = size === 1 ? 24 : 16
    return modifier(decoded, size, (execution, value) => operation.ofSmall(execution, value, shift))
  }
}
