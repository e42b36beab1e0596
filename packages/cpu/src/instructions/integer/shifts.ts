import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { modifier, reader, wideModifier } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/**
 * A shift or rotation by a count that is not 0. Counts are below 32, or 64 for 64 bits; results have bits above their size for 8 and 16 bits, which are nothing. OF is defined for a count of 1
 * alone (SDM Vol. 2); for others it is here what the last of so many shifts by 1 would give, as processors have it.
 */
interface Shift {
  readonly of32: (execution: Execution, value: number, count: number) => number
  readonly ofSmall: (execution: Execution, value: number, count: number, bits: 8 | 16) => number
  readonly of64: (execution: Execution, low: number, high: number, count: number) => number
}

/** SHL and SAL. */
const SHL: Shift = {
  of32: (execution, value, count) => {
    const result = value << count
    const carry = ((value >>> (32 - count)) & 1) !== 0
    execution.setResult(32, result, 0, carry, result < 0 !== carry)
    return result
  },
  ofSmall: (execution, value, count, bits) => {
    const result = value << count
    const carry = count <= bits && ((value >>> (bits - count)) & 1) !== 0
    const isNegative = ((result >>> (bits - 1)) & 1) !== 0
    execution.setResult(bits, result, 0, carry, isNegative !== carry)
    return result
  },
  of64: (execution, low, high, count) => {
    const resultHigh =
      count < 32 ? (high << count) | ((low >>> 1) >>> (31 - count)) : low << (count - 32)
    const result = count < 32 ? low << count : 0
    const carry = count <= 32 ? (high >>> (32 - count)) & 1 : (low >>> (64 - count)) & 1
    const isCarry = carry !== 0
    execution.setResult(64, result, resultHigh, isCarry, resultHigh < 0 !== isCarry)
    execution.high = resultHigh
    return result
  },
}

const SHR: Shift = {
  of32: (execution, value, count) => {
    const result = (value >>> count) | 0
    const carry = ((value >>> (count - 1)) & 1) !== 0
    // The sign bit before the last step: that of the operand for the first, 0 then.
    execution.setResult(32, result, 0, carry, (result ^ (result << 1)) < 0)
    return result
  },
  ofSmall: (execution, value, count, bits) => {
    const result = value >>> count
    const carry = ((value >>> (count - 1)) & 1) !== 0
    const overflow = ((result ^ (result << 1)) >>> (bits - 1)) & 1
    execution.setResult(bits, result, 0, carry, overflow !== 0)
    return result
  },
  of64: (execution, low, high, count) => {
    const result =
      count < 32 ? (low >>> count) | ((high << 1) << (31 - count)) : high >>> (count - 32)
    const resultHigh = count < 32 ? high >>> count : 0
    const carry = count <= 32 ? (low >>> (count - 1)) & 1 : (high >>> (count - 33)) & 1
    const overflow = (resultHigh ^ (resultHigh << 1)) < 0
    execution.setResult(64, result | 0, resultHigh | 0, carry !== 0, overflow)
    execution.high = resultHigh | 0
    return result | 0
  },
}

const SAR: Shift = {
  of32: (execution, value, count) => {
    const result = value >> count
    execution.setResult(32, result, 0, ((value >> (count - 1)) & 1) !== 0, false)
    return result
  },
  ofSmall: (execution, value, count, bits) => {
    const unused = 32 - bits
    const signed = (value << unused) >> unused
    const result = signed >> count
    execution.setResult(bits, result, 0, ((signed >> (count - 1)) & 1) !== 0, false)
    return result
  },
  of64: (execution, low, high, count) => {
    const result =
      count < 32 ? (low >>> count) | ((high << 1) << (31 - count)) : high >> (count - 32)
    const resultHigh = count < 32 ? high >> count : high >> 31
    const carry = count <= 32 ? (low >>> (count - 1)) & 1 : (high >> (count - 33)) & 1
    execution.setResult(64, result, resultHigh, carry !== 0, false)
    execution.high = resultHigh
    return result
  },
}

/** CF and OF, which a rotation sets; the others stay. */
function setCarryAndOverflow(execution: Execution, carry: boolean, overflow: boolean): void {
  execution.replaceFlags(0x801, (carry ? 1 : 0) | (overflow ? 0x800 : 0))
}

const ROL: Shift = {
  of32: (execution, value, count) => {
    const result = (value << count) | (value >>> (32 - count))
    const carry = (result & 1) !== 0
    setCarryAndOverflow(execution, carry, result < 0 !== carry)
    return result
  },
  ofSmall: (execution, value, count, bits) => {
    const turns = count & (bits - 1)
    const result = (value << turns) | (value >>> (bits - turns))
    const carry = (result & 1) !== 0
    setCarryAndOverflow(execution, carry, (((result >>> (bits - 1)) & 1) !== 0) !== carry)
    return result
  },
  of64: (execution, low, high, count) => {
    rotateLeft64(execution, low, high, count)
    const result = execution.addressHigh
    const resultHigh = execution.high
    const carry = (result & 1) !== 0
    setCarryAndOverflow(execution, carry, resultHigh < 0 !== carry)
    execution.high = resultHigh
    return result
  },
}

const ROR: Shift = {
  of32: (execution, value, count) => {
    const result = (value >>> count) | (value << (32 - count))
    setCarryAndOverflow(execution, result < 0, (result ^ (result << 1)) < 0)
    return result
  },
  ofSmall: (execution, value, count, bits) => {
    const turns = count & (bits - 1)
    const result = (value >>> turns) | (value << (bits - turns))
    const top = (result >>> (bits - 1)) & 1
    setCarryAndOverflow(execution, top !== 0, top !== ((result >>> (bits - 2)) & 1))
    return result
  },
  of64: (execution, low, high, count) => {
    rotateLeft64(execution, low, high, 64 - count)
    const result = execution.addressHigh
    const resultHigh = execution.high
    setCarryAndOverflow(execution, resultHigh < 0, (resultHigh ^ (resultHigh << 1)) < 0)
    execution.high = resultHigh
    return result
  },
}

/** Leaves the low half in `addressHigh`, which nobody needs at this point, and the high half in `high`. */
function rotateLeft64(execution: Execution, low: number, high: number, count: number): void {
  const isSwapped = (count & 32) !== 0
  const first = isSwapped ? high : low
  const second = isSwapped ? low : high
  const turns = count & 31
  execution.addressHigh = (first << turns) | ((second >>> 1) >>> (31 - turns))
  execution.high = (second << turns) | ((first >>> 1) >>> (31 - turns))
}

/** RCL and RCR, one step after the other: nobody uses them where it matters. */
function rotateThroughCarry(isLeft: boolean): Shift {
  return {
    of32: (execution, value, count) => {
      let result = value
      let carry = execution.carry ? 1 : 0
      for (let step = 0; step < count; step++) {
        const leaving = isLeft ? result >>> 31 : result & 1
        result = isLeft ? (result << 1) | carry : (result >>> 1) | (carry << 31)
        carry = leaving
      }
      const top = result >>> 31
      const overflow = isLeft ? top !== carry : top !== ((result >>> 30) & 1)
      setCarryAndOverflow(execution, carry !== 0, overflow)
      return result
    },
    ofSmall: (execution, value, count, bits) => {
      let result = value
      let carry = execution.carry ? 1 : 0
      const mask = bits === 8 ? 0xff : 0xffff
      for (let step = 0; step < count % (bits + 1); step++) {
        const leaving = isLeft ? result >>> (bits - 1) : result & 1
        result = isLeft ? ((result << 1) | carry) & mask : (result >>> 1) | (carry << (bits - 1))
        carry = leaving
      }
      const top = result >>> (bits - 1)
      const overflow = isLeft ? top !== carry : top !== ((result >>> (bits - 2)) & 1)
      setCarryAndOverflow(execution, carry !== 0, overflow)
      return result
    },
    of64: (execution, low, high, count) => {
      let result = low
      let resultHigh = high
      let carry = execution.carry ? 1 : 0
      for (let step = 0; step < count; step++) {
        const leaving = isLeft ? resultHigh >>> 31 : result & 1
        if (isLeft) {
          resultHigh = (resultHigh << 1) | (result >>> 31)
          result = (result << 1) | carry
        } else {
          result = (result >>> 1) | (resultHigh << 31)
          resultHigh = (resultHigh >>> 1) | (carry << 31)
        }
        carry = leaving
      }
      const top = resultHigh >>> 31
      const overflow = isLeft ? top !== carry : top !== ((resultHigh >>> 30) & 1)
      setCarryAndOverflow(execution, carry !== 0, overflow)
      execution.high = resultHigh
      return result
    },
  }
}

function translator(
  shift: Shift,
  hot?: (decoded: DecodedInstruction, count: number) => Operation | undefined,
): Translator {
  return (decoded) => {
    const size = decoded.size(0)
    const mask = size === 8 ? 63 : 31
    if (decoded.isImmediate(1)) {
      const count = decoded.immediate(1).low & mask
      const operation = count === 0 ? undefined : hot?.(decoded, count)
      if (operation !== undefined) return operation
    }
    const counted = reader(decoded, 1, 1)
    if (size === 8) {
      return wideModifier(decoded, (execution, low, high, general) => {
        const count = counted(general, execution) & 63
        if (count !== 0) return shift.of64(execution, low, high, count)
        execution.high = high
        return low
      })
    }
    if (size === 4) {
      return modifier(decoded, 4, (execution, value, general) => {
        const count = counted(general, execution) & 31
        return count === 0 ? value : shift.of32(execution, value, count)
      })
    }
    const bits = size === 1 ? 8 : 16
    return modifier(decoded, size, (execution, value, general) => {
      const count = counted(general, execution) & 31
      return count === 0 ? value : shift.ofSmall(execution, value, count, bits)
    })
  }
}

/** SHL of a register by a constant. */
function hotShl(decoded: DecodedInstruction, count: number): Operation | undefined {
  const size = decoded.size(0)
  if (!decoded.isRegister(0) || size < 4) return undefined
  const { word } = decoded.register(0)
  if (decoded.flagsNeeded) {
    if (size === 4) {
      return (general, execution) => {
        general[word] = SHL.of32(execution, general[word]!, count)
        general[word + 1] = 0
      }
    }
    return (general, execution) => {
      general[word] = SHL.of64(execution, general[word]!, general[word + 1]!, count)
      general[word + 1] = execution.high
    }
  }
  if (size === 4) {
    return (general) => {
      general[word] = general[word]! << count
      general[word + 1] = 0
    }
  }
  if (count >= 32) {
    return (general) => {
      general[word + 1] = general[word]! << (count - 32)
      general[word] = 0
    }
  }
  return (general) => {
    const low = general[word]!
    general[word + 1] = (general[word + 1]! << count) | (low >>> (32 - count))
    general[word] = low << count
  }
}

/** SHR of a register by a constant. */
function hotShr(decoded: DecodedInstruction, count: number): Operation | undefined {
  const size = decoded.size(0)
  if (!decoded.isRegister(0) || size < 4) return undefined
  const { word } = decoded.register(0)
  if (decoded.flagsNeeded) {
    if (size === 4) {
      return (general, execution) => {
        general[word] = SHR.of32(execution, general[word]!, count)
        general[word + 1] = 0
      }
    }
    return (general, execution) => {
      general[word] = SHR.of64(execution, general[word]!, general[word + 1]!, count)
      general[word + 1] = execution.high
    }
  }
  if (size === 4) {
    return (general) => {
      general[word] = general[word]! >>> count
      general[word + 1] = 0
    }
  }
  if (count >= 32) {
    return (general) => {
      general[word] = general[word + 1]! >>> (count - 32)
      general[word + 1] = 0
    }
  }
  return (general) => {
    const high = general[word + 1]!
    general[word] = (general[word]! >>> count) | (high << (32 - count))
    general[word + 1] = high >>> count
  }
}

/** SAR of a register by a constant. */
function hotSar(decoded: DecodedInstruction, count: number): Operation | undefined {
  const size = decoded.size(0)
  if (!decoded.isRegister(0) || size < 4 || decoded.flagsNeeded) return undefined
  const { word } = decoded.register(0)
  if (size === 4) {
    return (general) => {
      general[word] = general[word]! >> count
      general[word + 1] = 0
    }
  }
  if (count >= 32) {
    return (general) => {
      const high = general[word + 1]!
      general[word] = high >> (count - 32)
      general[word + 1] = high >> 31
    }
  }
  return (general) => {
    const high = general[word + 1]!
    general[word] = (general[word]! >>> count) | (high << (32 - count))
    general[word + 1] = high >> count
  }
}

/** ROL of a register by a constant; ROR is one by what is left. */
const hotRotation =
  (isLeft: boolean) =>
  (decoded: DecodedInstruction, count: number): Operation | undefined => {
    const size = decoded.size(0)
    if (!decoded.isRegister(0) || size < 4 || decoded.flagsNeeded) return undefined
    const { word } = decoded.register(0)
    const turns = isLeft ? count : size * 8 - count
    if (size === 4) {
      return (general) => {
        const value = general[word]!
        general[word] = (value << turns) | (value >>> (32 - turns))
        general[word + 1] = 0
      }
    }
    const by = turns & 31
    return turns >= 32
      ? (general) => {
          const low = general[word]!
          const high = general[word + 1]!
          general[word] = (high << by) | ((low >>> 1) >>> (31 - by))
          general[word + 1] = (low << by) | ((high >>> 1) >>> (31 - by))
        }
      : (general) => {
          const low = general[word]!
          const high = general[word + 1]!
          general[word] = (low << by) | (high >>> (32 - by))
          general[word + 1] = (high << by) | (low >>> (32 - by))
        }
  }

/** SHLD and SHRD: bits of the second operand follow those that leave. Of 16 bits a count above 16 is undefined; here the second operand is followed by the first again. */
const doubleShift =
  (isLeft: boolean): Translator =>
  (decoded) => {
    const size = decoded.size(0)
    const counted = reader(decoded, 2, 1)
    const { word } = decoded.register(1)
    if (size === 8) {
      return wideModifier(decoded, (execution, low, high, general) => {
        const count = counted(general, execution) & 63
        execution.high = high
        return count === 0
          ? low
          : doubleShift64(execution, low, high, general[word]!, general[word + 1]!, count, isLeft)
      })
    }
    if (size === 4) {
      return modifier(decoded, 4, (execution, value, general) => {
        const count = counted(general, execution) & 31
        if (count === 0) return value
        const other = general[word]!
        const result = isLeft
          ? (value << count) | (other >>> (32 - count))
          : (value >>> count) | (other << (32 - count))
        const carry = isLeft ? (value >>> (32 - count)) & 1 : (value >>> (count - 1)) & 1
        execution.setResult(32, result, 0, carry !== 0, (result ^ value) < 0)
        return result
      })
    }
    return modifier(decoded, 2, (execution, value, general) => {
      const count = counted(general, execution) & 31
      if (count === 0) return value
      const other = general[word]! & 0xffff
      const pair = isLeft ? (value << 16) | other : (other << 16) | value
      let result: number
      let carry: number
      if (count <= 16) {
        result = isLeft ? (pair << count) >>> 16 : pair >>> count
        carry = isLeft ? (value >>> (16 - count)) & 1 : (value >>> (count - 1)) & 1
      } else if (isLeft) {
        result = ((other << (count - 16)) | (value >>> (32 - count))) & 0xffff
        carry = (other >>> (32 - count)) & 1
      } else {
        result = ((other >>> (count - 16)) | (value << (32 - count))) & 0xffff
        carry = (other >>> (count - 17)) & 1
      }
      execution.setResult(16, result, 0, carry !== 0, ((result ^ value) & 0x8000) !== 0)
      return result
    })
  }

function doubleShift64(
  execution: Execution,
  low: number,
  high: number,
  otherLow: number,
  otherHigh: number,
  count: number,
  isLeft: boolean,
): number {
  const value = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)
  const other = (BigInt(otherHigh >>> 0) << 32n) | BigInt(otherLow >>> 0)
  const by = BigInt(count)
  const result = isLeft
    ? (value << by) | (other >> (64n - by))
    : (value >> by) | (other << (64n - by))
  const carry = isLeft ? (value >> (64n - by)) & 1n : (value >> (by - 1n)) & 1n
  const resultLow = Number(BigInt.asIntN(32, result))
  const resultHigh = Number(BigInt.asIntN(32, result >> 32n))
  execution.setResult(64, resultLow, resultHigh, carry !== 0n, (resultHigh ^ high) < 0)
  execution.high = resultHigh
  return resultLow
}

const shl: Translator = translator(SHL, hotShl)

export const SHIFTS: InstructionFamily = {
  name: 'shifts',
  translators: new Map([
    [Mnemonic.Shl, shl],
    [Mnemonic.Sal, shl],
    [Mnemonic.Shr, translator(SHR, hotShr)],
    [Mnemonic.Sar, translator(SAR, hotSar)],
    [Mnemonic.Rol, translator(ROL, hotRotation(true))],
    [Mnemonic.Ror, translator(ROR, hotRotation(false))],
    [Mnemonic.Rcl, translator(rotateThroughCarry(true))],
    [Mnemonic.Rcr, translator(rotateThroughCarry(false))],
    [Mnemonic.Shld, doubleShift(true)],
    [Mnemonic.Shrd, doubleShift(false)],
  ]),
}
