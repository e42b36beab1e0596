import type { Operation } from './decode/block.ts'
import type {
  DecodedInstruction,
  OperandSize,
  RegisterOperand,
} from './decode/decoded-instruction.ts'
import type { Execution } from './execution.ts'

/** Reads an operand of up to 32 bits: an unsigned number for 8 and 16 bits, a signed one for 32. */
export type Read = (general: Int32Array, execution: Execution) => number
/** Writes an operand of up to 32 bits; a register's upper half becomes 0 for 32 bits, and stays for 8 and 16. */
export type Write = (general: Int32Array, execution: Execution, value: number) => void
/** Reads a 64-bit operand: returns the low half, and leaves the high one in `execution.high`. */
export type ReadWide = (general: Int32Array, execution: Execution) => number
export type WriteWide = (
  general: Int32Array,
  execution: Execution,
  low: number,
  high: number,
) => void

/** How operands are read where speed does not decide; instructions that compilers use most have closures of their own. */
export function readRegister({ word, shift, size }: RegisterOperand): Read {
  if (size === 1) return (general) => (general[word]! >>> shift) & 0xff
  if (size === 2) return (general) => general[word]! & 0xffff
  return (general) => general[word]!
}

export function writeRegister({ word, shift, size }: RegisterOperand): Write {
  if (size === 1) {
    return (general, _execution, value) => {
      general[word] = (general[word]! & ~(0xff << shift)) | ((value & 0xff) << shift)
    }
  }
  if (size === 2) {
    return (general, _execution, value) => {
      general[word] = (general[word]! & ~0xffff) | (value & 0xffff)
    }
  }
  return (general, _execution, value) => {
    general[word] = value
    general[word + 1] = 0
  }
}

/** Reads register, memory or immediate operands of up to 32 bits. */
export function reader(decoded: DecodedInstruction, operand: number, size: OperandSize): Read {
  if (decoded.isRegister(operand)) return readRegister(decoded.register(operand))
  if (decoded.isMemory(operand)) {
    const { memory } = decoded
    if (size === 1) {
      return (general, execution) => {
        const low = execution.address(general, memory)
        return execution.load8(execution.addressHigh, low)
      }
    }
    if (size === 2) {
      return (general, execution) => {
        const low = execution.address(general, memory)
        return execution.load16(execution.addressHigh, low)
      }
    }
    return (general, execution) => {
      const low = execution.address(general, memory)
      return execution.load32(execution.addressHigh, low)
    }
  }
  const { low } = decoded.immediate(operand)
  const value = size === 1 ? low & 0xff : size === 2 ? low & 0xffff : low
  return () => value
}

export function wideReader(decoded: DecodedInstruction, operand: number): ReadWide {
  if (decoded.isRegister(operand)) {
    const { word } = decoded.register(operand)
    return (general, execution) => {
      execution.high = general[word + 1]!
      return general[word]!
    }
  }
  if (decoded.isMemory(operand)) {
    const { memory } = decoded
    return (general, execution) => {
      const low = execution.address(general, memory)
      return execution.load64(execution.addressHigh, low)
    }
  }
  const { low, high } = decoded.immediate(operand)
  return (_general, execution) => {
    execution.high = high
    return low
  }
}

/** Writes a register or memory operand of up to 32 bits. */
export function writer(decoded: DecodedInstruction, operand: number, size: OperandSize): Write {
  if (decoded.isRegister(operand)) return writeRegister(decoded.register(operand))
  const { memory } = decoded
  return (general, execution, value) => {
    const low = execution.address(general, memory)
    if (size === 1) execution.store8(execution.addressHigh, low, value)
    else if (size === 2) execution.store16(execution.addressHigh, low, value)
    else execution.store32(execution.addressHigh, low, value)
  }
}

export function wideWriter(decoded: DecodedInstruction, operand: number): WriteWide {
  if (decoded.isRegister(operand)) {
    const { word } = decoded.register(operand)
    return (general, _execution, low, high) => {
      general[word] = low
      general[word + 1] = high
    }
  }
  const { memory } = decoded
  return (general, execution, value, valueHigh) => {
    const low = execution.address(general, memory)
    execution.store64(execution.addressHigh, low, value, valueHigh)
  }
}

/** Reads, changes and writes the first operand, of up to 32 bits; in memory with the right to write from the beginning. */
export function modifier(
  decoded: DecodedInstruction,
  size: OperandSize,
  change: (execution: Execution, value: number, general: Int32Array) => number,
): Operation {
  if (decoded.isRegister(0)) {
    const read = readRegister(decoded.register(0))
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      write(general, execution, change(execution, read(general, execution), general))
    }
  }
  const { memory } = decoded
  if (size === 1) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      const high = execution.addressHigh
      const value = execution.loadToModify8(high, low)
      execution.store8(high, low, change(execution, value, general))
    }
  }
  if (size === 2) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      const high = execution.addressHigh
      const value = execution.loadToModify16(high, low)
      execution.store16(high, low, change(execution, value, general))
    }
  }
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const value = execution.loadToModify32(high, low)
    execution.store32(high, low, change(execution, value, general))
  }
}

/** The same for 64 bits: `change` gets the halves, returns the low one, and leaves the high one in `execution.high`. */
export function wideModifier(
  decoded: DecodedInstruction,
  change: (execution: Execution, low: number, high: number, general: Int32Array) => number,
): Operation {
  if (decoded.isRegister(0)) {
    const { word } = decoded.register(0)
    return (general, execution) => {
      const low = change(execution, general[word]!, general[word + 1]!, general)
      general[word] = low
      general[word + 1] = execution.high
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const value = execution.loadToModify64(high, low)
    const changed = change(execution, value, execution.high, general)
    execution.store64(high, low, changed, execution.high)
  }
}
