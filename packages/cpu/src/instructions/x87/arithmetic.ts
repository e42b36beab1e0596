import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import {
  add,
  divide,
  invalid,
  isNan,
  multiply,
  nanResult,
  noteDenormals,
  operand,
  squareRoot,
} from '../../floating-point/arithmetic.ts'
import { fromInteger, roundToInteger } from '../../floating-point/conversion.ts'
import {
  type FloatEnvironment,
  FloatException,
  Rounding,
} from '../../floating-point/environment.ts'
import { EXTENDED, indefinite, infinity, pack, unpack, zero } from '../../floating-point/format.ts'
import { bitLength, roundToFormat } from '../../floating-point/rounding.ts'
import { Fsw, type RegisterStack } from '../../x87/register-stack.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { arithmeticInstruction, floatReader, integerReader, stackIndex } from './instruction.ts'

type Binary = (left: bigint, right: bigint, environment: FloatEnvironment) => bigint

const NAN = 'larger'
const ADD: Binary = (left, right, environment) =>
  add(EXTENDED, left, right, { subtract: false, nan: NAN, environment })
const SUBTRACT: Binary = (left, right, environment) =>
  add(EXTENDED, left, right, { subtract: true, nan: NAN, environment })
const MULTIPLY: Binary = (left, right, environment) =>
  multiply(EXTENDED, left, right, { nan: NAN, environment })
const DIVIDE: Binary = (left, right, environment) =>
  divide(EXTENDED, left, right, { nan: NAN, environment })

function reversed(operation: Binary): Binary {
  return (left, right, environment) => operation(right, left, environment)
}

/** x87 arithmetic that is exact but for rounding (SDM Vol. 2, FADD to FXTRACT). The transcendental functions are not there: processors differ in their last bits. */
export const X87_ARITHMETIC: InstructionFamily = {
  name: 'x87 arithmetic',
  translators: new Map<Mnemonic, Translator>([
    ...operations(ADD, [Mnemonic.Fadd, Mnemonic.Faddp, Mnemonic.Fiadd]),
    ...operations(MULTIPLY, [Mnemonic.Fmul, Mnemonic.Fmulp, Mnemonic.Fimul]),
    ...operations(SUBTRACT, [Mnemonic.Fsub, Mnemonic.Fsubp, Mnemonic.Fisub]),
    ...operations(reversed(SUBTRACT), [Mnemonic.Fsubr, Mnemonic.Fsubrp, Mnemonic.Fisubr]),
    ...operations(DIVIDE, [Mnemonic.Fdiv, Mnemonic.Fdivp, Mnemonic.Fidiv]),
    ...operations(reversed(DIVIDE), [Mnemonic.Fdivr, Mnemonic.Fdivrp, Mnemonic.Fidivr]),
    [
      Mnemonic.Fsqrt,
      (decoded) =>
        unary(decoded, 'controlled', (bits, environment) =>
          squareRoot(EXTENDED, bits, environment),
        ),
    ],
    [
      Mnemonic.Frndint,
      (decoded) =>
        unary(decoded, 'full', (bits, environment) =>
          roundToInteger(EXTENDED, bits, {
            rounding: environment.rounding,
            reportsInexact: true,
            reportsDenormal: true,
            environment,
          }),
        ),
    ],
    [Mnemonic.Fchs, (decoded) => changeSign(decoded, (bits) => bits ^ SIGN)],
    [Mnemonic.Fabs, (decoded) => changeSign(decoded, (bits) => bits & ~SIGN)],
    [Mnemonic.Fscale, fscale],
    [Mnemonic.Fxtract, fxtract],
    [Mnemonic.Fprem, (decoded) => remainder(decoded, Rounding.Zero)],
    [Mnemonic.Fprem1, (decoded) => remainder(decoded, Rounding.Nearest)],
  ]),
}

const SIGN = 1n << 79n

/** ST(0) with memory, ST(0) with ST(i) either way round, ST(i) with ST(0) and a pop, ST(0) with an integer in memory. */
function operations(
  compute: Binary,
  [plain, popping, integer]: readonly [Mnemonic, Mnemonic, Mnemonic],
): (readonly [Mnemonic, Translator])[] {
  return [
    [
      plain,
      (decoded) => (decoded.isMemory(0) ? withMemory(decoded, compute) : onStack(decoded, compute)),
    ],
    [popping, (decoded) => onStack(decoded, compute, true)],
    [integer, (decoded) => withMemory(decoded, compute)],
  ]
}

const INTEGER: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Fiadd,
  Mnemonic.Fimul,
  Mnemonic.Fisub,
  Mnemonic.Fisubr,
  Mnemonic.Fidiv,
  Mnemonic.Fidivr,
])

function withMemory(decoded: DecodedInstruction, compute: Binary): ReturnType<Translator> {
  const read = INTEGER.has(decoded.mnemonic) ? integerReader(decoded) : floatReader(decoded)
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const environment = stack.environment('controlled')
    const { bits, isDenormal } = read(general, execution)
    if (isUnderflow(stack, 0)) return
    const value = stack.read(0)
    const result = compute(value, bits, environment)
    if (isDenormal) noteDenormalMemory(environment, value)
    if (stack.settle(environment)) stack.write(0, result)
  })
}

/** A denormal number in memory is a denormal operand, unless the other is a NaN or the operation invalid or a division by zero, which come first (SDM Vol. 1, 8.6). */
function noteDenormalMemory(environment: FloatEnvironment, other: bigint): void {
  const first = FloatException.Invalid | FloatException.DivideByZero
  if ((environment.flags & first) !== 0) return
  if (isNan(unpack(EXTENDED, other))) return
  environment.flags |= FloatException.Denormal
}

/** The destination is the first operand: ST(0) or ST(i). */
function onStack(
  decoded: DecodedInstruction,
  compute: Binary,
  pops = false,
): ReturnType<Translator> {
  const to = stackIndex(decoded, 0)
  const from = stackIndex(decoded, 1)
  return arithmeticInstruction(decoded, (stack) => {
    if (stack.isEmpty(to) || stack.isEmpty(from)) {
      if (!stack.stackFault('underflow')) return
      stack.write(to, indefinite(EXTENDED))
    } else {
      const environment = stack.environment('controlled')
      const result = compute(stack.read(to), stack.read(from), environment)
      if (!stack.settle(environment)) return
      stack.write(to, result)
    }
    if (pops) stack.pop()
  })
}

function unary(
  decoded: DecodedInstruction,
  precision: 'controlled' | 'full',
  compute: (bits: bigint, environment: FloatEnvironment) => bigint,
): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    if (isUnderflow(stack, 0)) return
    const environment = stack.environment(precision)
    const result = compute(stack.read(0), environment)
    if (stack.settle(environment)) stack.write(0, result)
  })
}

/** Whether a register is empty; the masked response to that is the real indefinite in ST(0). */
function isUnderflow(stack: RegisterStack, index: number): boolean {
  if (!stack.isEmpty(index)) return false
  if (stack.stackFault('underflow')) stack.write(0, indefinite(EXTENDED))
  return true
}

/** FCHS and FABS look at nothing but the sign. */
function changeSign(
  decoded: DecodedInstruction,
  compute: (bits: bigint) => bigint,
): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    if (isUnderflow(stack, 0)) return
    stack.setConditions(Fsw.C1, 0)
    stack.write(0, compute(stack.read(0)))
  })
}

/** FSCALE: ST(0) × 2 to the power of ST(1), truncated. */
function fscale(decoded: DecodedInstruction): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    if (isUnderflow(stack, 0) || isUnderflow(stack, 1)) return
    const environment = stack.environment()
    const result = scaled(stack.read(0), stack.read(1), environment)
    if (stack.settle(environment)) stack.write(0, result)
  })
}

/** Exponents beyond this overflow or underflow whatever is scaled. */
const SCALE_LIMIT = 0x1_0000n

function scaled(bits: bigint, by: bigint, environment: FloatEnvironment): bigint {
  const value = operand(EXTENDED, bits, environment)
  const scale = operand(EXTENDED, by, environment)
  const special = nanResult(EXTENDED, value, scale, NAN, environment)
  if (special !== undefined) return special
  if (scale.kind === 'infinity') {
    if (value.kind === (scale.negative ? 'infinity' : 'zero')) return invalid(EXTENDED, environment)
    noteDenormals(environment, value)
    return scale.negative ? zero(EXTENDED, value.negative) : infinity(EXTENDED, value.negative)
  }
  noteDenormals(environment, value, scale)
  if (value.kind === 'infinity' || value.kind === 'zero') return bits
  const truncated = toTruncatedInteger(scale)
  const limited =
    truncated > SCALE_LIMIT ? SCALE_LIMIT : truncated < -SCALE_LIMIT ? -SCALE_LIMIT : truncated
  const { negative, significand, exponent } = value
  return roundToFormat(
    EXTENDED,
    { negative, significand, exponent: exponent + Number(limited), sticky: false },
    environment,
  )
}

function toTruncatedInteger({
  negative,
  significand,
  exponent,
}: ReturnType<typeof unpack>): bigint {
  const magnitude =
    exponent >= 0
      ? significand << BigInt(Math.min(exponent, 64))
      : significand >> BigInt(Math.min(-exponent, 128))
  return negative ? -magnitude : magnitude
}

/** FXTRACT: the exponent in place of ST(0), and the significand pushed on it. */
function fxtract(decoded: DecodedInstruction): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    if (stack.isEmpty(0) || !stack.isEmpty(7)) {
      const kind = stack.isEmpty(0) ? 'underflow' : 'overflow'
      if (!stack.stackFault(kind)) return
      stack.write(0, indefinite(EXTENDED))
      stack.top = stack.top - 1
      stack.write(0, indefinite(EXTENDED))
      return
    }
    const environment = stack.environment()
    const [exponent, significand] = extracted(stack.read(0), environment)
    if (!stack.settle(environment)) return
    stack.write(0, exponent)
    stack.top = stack.top - 1
    stack.write(0, significand)
  })
}

function extracted(
  bits: bigint,
  environment: FloatEnvironment,
): readonly [exponent: bigint, significand: bigint] {
  const value = operand(EXTENDED, bits, environment)
  const special = nanResult(EXTENDED, value, value, NAN, environment)
  if (special !== undefined) return [special, special]
  if (value.kind === 'infinity') return [infinity(EXTENDED, false), bits]
  if (value.kind === 'zero') {
    environment.flags |= FloatException.DivideByZero
    return [infinity(EXTENDED, true), bits]
  }
  noteDenormals(environment, value)
  const top = value.exponent + bitLength(value.significand) - 1
  const significand = value.significand << BigInt(64 - bitLength(value.significand))
  return [
    fromInteger(EXTENDED, BigInt(top), environment),
    pack(EXTENDED, value.negative, EXTENDED.maxExponent, significand),
  ]
}

/** The exponent difference that one instruction takes care of; of more it leaves a part (SDM Vol. 2, FPREM). */
const COMPLETE = 64

/** FPREM and FPREM1: the remainder of ST(0) by ST(1), with the quotient truncated or rounded, and its three lowest bits in C0, C3 and C1. C2 says that there is more to do. */
function remainder(decoded: DecodedInstruction, rounding: number): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    if (isUnderflow(stack, 0) || isUnderflow(stack, 1)) {
      stack.setConditions(Fsw.C2, 0)
      return
    }
    const environment = stack.environment()
    const [result, quotient, isPartial] = partialRemainder(
      stack.read(0),
      stack.read(1),
      rounding,
      environment,
    )
    stack.setConditions(Fsw.C2, 0)
    if (!stack.settle(environment)) return
    stack.write(0, result)
    if (quotient === undefined) return
    const conditions =
      ((quotient & 4n) !== 0n ? Fsw.C0 : 0) |
      ((quotient & 2n) !== 0n ? Fsw.C3 : 0) |
      ((quotient & 1n) !== 0n ? Fsw.C1 : 0)
    stack.setConditions(Fsw.C0 | Fsw.C1 | Fsw.C2 | Fsw.C3, isPartial ? Fsw.C2 : conditions)
  })
}

function partialRemainder(
  dividend: bigint,
  divisor: bigint,
  rounding: number,
  environment: FloatEnvironment,
): readonly [result: bigint, quotient: bigint | undefined, isPartial: boolean] {
  const a = operand(EXTENDED, dividend, environment)
  const b = operand(EXTENDED, divisor, environment)
  const special = nanResult(EXTENDED, a, b, NAN, environment)
  if (special !== undefined) return [special, undefined, false]
  if (a.kind === 'infinity' || b.kind === 'zero')
    return [invalid(EXTENDED, environment), undefined, false]
  noteDenormals(environment, a, b)
  if (a.kind === 'zero' || b.kind === 'infinity') return [dividend, 0n, false]
  const difference = a.exponent + bitLength(a.significand) - (b.exponent + bitLength(b.significand))
  const isPartial = difference >= COMPLETE
  // As processors of Intel reduce it: the difference becomes a multiple of 32 less.
  const shift = isPartial ? difference - ((difference & 31) | 32) : 0
  const exponent = Math.min(a.exponent, b.exponent + shift)
  const numerator = a.significand << BigInt(a.exponent - exponent)
  const denominator = b.significand << BigInt(b.exponent + shift - exponent)
  let quotient = numerator / denominator
  let rest = numerator - quotient * denominator
  if (!isPartial && rounding === Rounding.Nearest) {
    const twice = 2n * rest
    if (twice > denominator || (twice === denominator && (quotient & 1n) === 1n)) {
      quotient++
      rest -= denominator
    }
  }
  if (rest === 0n) return [zero(EXTENDED, a.negative), quotient, isPartial]
  const negative = rest < 0n ? !a.negative : a.negative
  const significand = rest < 0n ? -rest : rest
  const bits = roundToFormat(
    EXTENDED,
    { negative, significand, exponent, sticky: false },
    environment,
  )
  return [bits, quotient, isPartial]
}
