import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import { reader, wideReader, writeRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** The high half of the product of two unsigned 32-bit numbers, as a signed one. */
function highProduct(first: number, second: number): number {
  const a = first >>> 0
  // The products of 32 by 16 bits are exact.
  const low = a * (second & 0xffff)
  const middle = a * (second >>> 16) + Math.floor(low / 0x1_0000)
  return Math.floor(middle / 0x1_0000) | 0
}

/** Halves of the two 64-bit halves of a 128-bit product. */
const PRODUCT: Int32Array = new Int32Array(4)

/** The unsigned product of two 64-bit numbers, in {@link PRODUCT}. */
function multiply64(low: number, high: number, otherLow: number, otherHigh: number): void {
  const second =
    (highProduct(low, otherLow) >>> 0) +
    (Math.imul(low, otherHigh) >>> 0) +
    (Math.imul(high, otherLow) >>> 0)
  const third =
    (highProduct(low, otherHigh) >>> 0) +
    (highProduct(high, otherLow) >>> 0) +
    (Math.imul(high, otherHigh) >>> 0) +
    Math.floor(second / 0x1_0000_0000)
  PRODUCT[0] = Math.imul(low, otherLow)
  PRODUCT[1] = second
  PRODUCT[2] = third
  PRODUCT[3] = (highProduct(high, otherHigh) >>> 0) + Math.floor(third / 0x1_0000_0000)
}

/** The same of signed numbers: a negative factor takes the other from the high half. */
function multiplySigned64(low: number, high: number, otherLow: number, otherHigh: number): void {
  multiply64(low, high, otherLow, otherHigh)
  if (high < 0) subtractFromHigh(otherLow, otherHigh)
  if (otherHigh < 0) subtractFromHigh(low, high)
}

function subtractFromHigh(low: number, high: number): void {
  const before = PRODUCT[2]! >>> 0
  PRODUCT[2] = before - (low >>> 0)
  PRODUCT[3] = PRODUCT[3]! - high - (before < low >>> 0 ? 1 : 0)
}

/** Leaves a product of two operands of up to 16 bits in AX, or DX:AX. */
function setSmallProduct(general: Int32Array, size: 1 | 2, product: number): void {
  general[0] = (general[0]! & ~0xffff) | (product & 0xffff)
  if (size === 2) general[4] = (general[4]! & ~0xffff) | ((product >>> 16) & 0xffff)
}

const mul: Translator = (decoded) => {
  const size = decoded.size(0)
  if (size === 8) {
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      multiply64(general[0]!, general[1]!, low, execution.high)
      general[0] = PRODUCT[0]!
      general[1] = PRODUCT[1]!
      general[4] = PRODUCT[2]!
      general[5] = PRODUCT[3]!
      const isLarge = (general[4] | general[5]) !== 0
      execution.setResult(64, general[0], general[1], isLarge, isLarge)
    }
  }
  const read = reader(decoded, 0, size)
  if (size === 4) {
    return (general, execution) => {
      const value = read(general, execution)
      const high = highProduct(general[0]!, value)
      general[0] = Math.imul(general[0]!, value)
      general[1] = 0
      general[4] = high
      general[5] = 0
      execution.setResult(32, general[0], 0, high !== 0, high !== 0)
    }
  }
  const mask = size === 1 ? 0xff : 0xffff
  return (general, execution) => {
    const product = Math.imul(general[0]! & mask, read(general, execution))
    setSmallProduct(general, size, product)
    const isLarge = product >>> (size * 8) !== 0
    execution.setResult(size === 1 ? 8 : 16, product, 0, isLarge, isLarge)
  }
}

/** IMUL with one operand, whose product has twice its size. */
function imulWide(decoded: DecodedInstruction): Operation {
  const size = decoded.size(0)
  if (size === 8) {
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      multiplySigned64(general[0]!, general[1]!, low, execution.high)
      general[0] = PRODUCT[0]!
      general[1] = PRODUCT[1]!
      general[4] = PRODUCT[2]!
      general[5] = PRODUCT[3]!
      const sign = general[1] >> 31
      const isLarge = general[4] !== sign || general[5] !== sign
      execution.setResult(64, general[0], general[1], isLarge, isLarge)
    }
  }
  const read = reader(decoded, 0, size)
  if (size === 4) {
    return (general, execution) => {
      const value = read(general, execution)
      const low = Math.imul(general[0]!, value)
      const high = signedHighProduct(general[0]!, value)
      general[0] = low
      general[1] = 0
      general[4] = high
      general[5] = 0
      const isLarge = high !== low >> 31
      execution.setResult(32, low, 0, isLarge, isLarge)
    }
  }
  const shift = size === 1 ? 24 : 16
  return (general, execution) => {
    const value = (read(general, execution) << shift) >> shift
    const product = Math.imul((general[0]! << shift) >> shift, value)
    setSmallProduct(general, size, product)
    const isLarge = (product << shift) >> shift !== product
    execution.setResult(size === 1 ? 8 : 16, product, 0, isLarge, isLarge)
  }
}

function signedHighProduct(first: number, second: number): number {
  return (highProduct(first, second) - (first < 0 ? second : 0) - (second < 0 ? first : 0)) | 0
}

/** IMUL with two or three operands: the low part of the product goes to a register. */
const imul: Translator = (decoded) => {
  const { operands } = decoded
  if (operands === 1) return imulWide(decoded)
  const { word, size } = decoded.register(0)
  const [firstOperand, secondOperand] = operands === 2 ? [0, 1] : [1, 2]
  if (size === 8) {
    const first = wideReader(decoded, firstOperand)
    const second = wideReader(decoded, secondOperand)
    const { flagsNeeded } = decoded
    return (general, execution) => {
      const low = first(general, execution)
      const { high } = execution
      const otherLow = second(general, execution)
      const otherHigh = execution.high
      if (!flagsNeeded) {
        general[word + 1] =
          highProduct(low, otherLow) + Math.imul(low, otherHigh) + Math.imul(high, otherLow)
        general[word] = Math.imul(low, otherLow)
        return
      }
      multiplySigned64(low, high, otherLow, otherHigh)
      const resultHigh = PRODUCT[1]!
      general[word] = PRODUCT[0]!
      general[word + 1] = resultHigh
      const sign = resultHigh >> 31
      const isLarge = PRODUCT[2]! !== sign || PRODUCT[3]! !== sign
      execution.setResult(64, PRODUCT[0]!, resultHigh, isLarge, isLarge)
    }
  }
  const first = reader(decoded, firstOperand, size)
  const second = reader(decoded, secondOperand, size)
  if (size === 4) {
    return (general, execution) => {
      const a = first(general, execution)
      const b = second(general, execution)
      const result = Math.imul(a, b)
      general[word] = result
      general[word + 1] = 0
      const isLarge = signedHighProduct(a, b) !== result >> 31
      execution.setResult(32, result, 0, isLarge, isLarge)
    }
  }
  const write = writeRegister(decoded.register(0))
  return (general, execution) => {
    const a = (first(general, execution) << 16) >> 16
    const b = (second(general, execution) << 16) >> 16
    const result = Math.imul(a, b)
    write(general, execution, result)
    const isLarge = (result << 16) >> 16 !== result
    execution.setResult(16, result, 0, isLarge, isLarge)
  }
}

/** DIV; #DE where the divisor is 0 or the quotient does not fit. Flags, which are undefined, stay. */
const div: Translator = (decoded) => {
  const size = decoded.size(0)
  if (size === 8) {
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      divide64(general, execution, low, execution.high)
    }
  }
  const read = reader(decoded, 0, size)
  if (size === 4) {
    return (general, execution) => {
      divide32(general, execution, read(general, execution) >>> 0)
    }
  }
  return (general, execution) => {
    const divisor = read(general, execution)
    const dividend =
      size === 1 ? general[0]! & 0xffff : ((general[4]! << 16) | (general[0]! & 0xffff)) >>> 0
    if (divisor === 0) throw execution.divideError()
    const quotient = Math.floor(dividend / divisor)
    if (quotient > (size === 1 ? 0xff : 0xffff)) throw execution.divideError()
    setSmallQuotient(general, size, quotient, dividend % divisor)
  }
}

function setSmallQuotient(
  general: Int32Array,
  size: 1 | 2,
  quotient: number,
  remainder: number,
): void {
  if (size === 1) {
    general[0] = (general[0]! & ~0xffff) | (quotient & 0xff) | ((remainder & 0xff) << 8)
  } else {
    general[0] = (general[0]! & ~0xffff) | (quotient & 0xffff)
    general[4] = (general[4]! & ~0xffff) | (remainder & 0xffff)
  }
}

function divide32(general: Int32Array, execution: Execution, divisor: number): void {
  const high = general[4]! >>> 0
  if (high >= divisor) throw execution.divideError()
  const low = general[0]! >>> 0
  let quotient: number
  let remainder: number
  if (high < 0x20_0000) {
    // Below 2^53 a quotient that was rounded never reaches the next whole number.
    const dividend = high * 0x1_0000_0000 + low
    quotient = Math.floor(dividend / divisor)
    remainder = dividend - quotient * divisor
  } else {
    const dividend = join(general[4]!, general[0]!)
    quotient = Number(dividend / BigInt(divisor))
    remainder = Number(dividend % BigInt(divisor))
  }
  general[0] = quotient
  general[1] = 0
  general[4] = remainder
  general[5] = 0
}

function divide64(
  general: Int32Array,
  execution: Execution,
  divisorLow: number,
  divisorHigh: number,
): void {
  if ((general[4]! | general[5]! | general[1]! | divisorHigh) === 0 && divisorLow !== 0) {
    const dividend = general[0]! >>> 0
    const divisor = divisorLow >>> 0
    general[0] = dividend / divisor
    general[4] = dividend % divisor
    return
  }
  const divisor = join(divisorHigh, divisorLow)
  const high = join(general[5]!, general[4]!)
  if (high >= divisor) throw execution.divideError()
  const dividend = (high << 64n) | join(general[1]!, general[0]!)
  setQuotient64(general, dividend / divisor, dividend % divisor)
}

function setQuotient64(general: Int32Array, quotient: bigint, remainder: bigint): void {
  general[0] = lowHalf(quotient)
  general[1] = highHalf(quotient)
  general[4] = lowHalf(remainder)
  general[5] = highHalf(remainder)
}

const idiv: Translator = (decoded) => {
  const size = decoded.size(0)
  if (size === 8) {
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      const divisor = BigInt.asIntN(64, join(execution.high, low))
      if (divisor === 0n) throw execution.divideError()
      const high = BigInt.asIntN(64, join(general[5]!, general[4]!))
      const dividend = high * 2n ** 64n + join(general[1]!, general[0]!)
      const quotient = dividend / divisor
      if (BigInt.asIntN(64, quotient) !== quotient) throw execution.divideError()
      setQuotient64(general, quotient, dividend % divisor)
    }
  }
  const read = reader(decoded, 0, size)
  if (size === 4) {
    return (general, execution) => {
      divideSigned32(general, execution, read(general, execution))
    }
  }
  const shift = size === 1 ? 24 : 16
  return (general, execution) => {
    const divisor = (read(general, execution) << shift) >> shift
    const dividend =
      size === 1 ? (general[0]! << 16) >> 16 : (general[4]! << 16) | (general[0]! & 0xffff)
    if (divisor === 0) throw execution.divideError()
    const quotient = Math.trunc(dividend / divisor)
    if ((quotient << shift) >> shift !== quotient) throw execution.divideError()
    setSmallQuotient(general, size, quotient, dividend % divisor)
  }
}

function divideSigned32(general: Int32Array, execution: Execution, divisor: number): void {
  if (divisor === 0) throw execution.divideError()
  const high = general[4]!
  let quotient: number
  let remainder: number
  if (high >= -0x20_0000 && high < 0x20_0000) {
    const dividend = high * 0x1_0000_0000 + (general[0]! >>> 0)
    quotient = Math.trunc(dividend / divisor)
    remainder = dividend - quotient * divisor
  } else {
    const dividend = BigInt.asIntN(64, join(high, general[0]!))
    quotient = Number(dividend / BigInt(divisor))
    remainder = Number(dividend % BigInt(divisor))
  }
  if ((quotient | 0) !== quotient) throw execution.divideError()
  general[0] = quotient
  general[1] = 0
  general[4] = remainder
  general[5] = 0
}

/** MULX: an unsigned product of RDX without a flag; the low half goes first, so that the high one stays where both are the same register. */
const mulx: Translator = (decoded) => {
  const highWord = decoded.register(0).word
  const lowWord = decoded.register(1).word
  if (decoded.size(0) === 8) {
    const read = wideReader(decoded, 2)
    return (general, execution) => {
      const low = read(general, execution)
      multiply64(general[4]!, general[5]!, low, execution.high)
      general[lowWord] = PRODUCT[0]!
      general[lowWord + 1] = PRODUCT[1]!
      general[highWord] = PRODUCT[2]!
      general[highWord + 1] = PRODUCT[3]!
    }
  }
  const read = reader(decoded, 2, 4)
  return (general, execution) => {
    const value = read(general, execution)
    const factor = general[4]!
    general[lowWord] = Math.imul(factor, value)
    general[lowWord + 1] = 0
    general[highWord] = highProduct(factor, value)
    general[highWord + 1] = 0
  }
}

export const MULTIPLY_DIVIDE: InstructionFamily = {
  name: 'multiply and divide',
  translators: new Map([
    [Mnemonic.Mul, mul],
    [Mnemonic.Imul, imul],
    [Mnemonic.Div, div],
    [Mnemonic.Idiv, idiv],
    [Mnemonic.Mulx, mulx],
  ]),
}
