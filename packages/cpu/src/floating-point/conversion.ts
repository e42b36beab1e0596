import { invalid, isNan, nanResult, noteDenormals, operand } from './arithmetic.ts'
import { exactly, FloatException, type FloatEnvironment } from './environment.ts'
import { EXTENDED, type FloatFormat, infinity, pack, quietNan, unpack, zero } from './format.ts'
import { bitLength, roundAt, roundToFormat } from './rounding.ts'

/**
 * A number of one format in another, as CVTSS2SD, CVTSD2SS, FLD and FST have it: NaNs keep the upper bits of their significand, and become quiet. A denormal operand is
 * reported, unless `reportsDenormal` is clear.
 */
export function convertFormat(
  from: FloatFormat,
  to: FloatFormat,
  bits: bigint,
  environment: FloatEnvironment,
  { reportsDenormal = true }: { readonly reportsDenormal?: boolean } = {},
): bigint {
  const value = operand(from, bits, environment)
  environment.roundedUp = false
  if (value.kind === 'unsupported') return invalid(to, environment)
  if (isNan(value)) {
    if (value.kind === 'signalling') environment.flags |= FloatException.Invalid
    const shift = to.precision - from.precision
    const integerless = BigInt.asUintN(from.precision - 1, value.significand)
    const field = shift >= 0 ? integerless << BigInt(shift) : integerless >> BigInt(-shift)
    return quietNan(to, value.negative, field)
  }
  if (value.kind === 'infinity') return infinity(to, value.negative)
  if (value.kind === 'zero') return zero(to, value.negative)
  if (reportsDenormal) noteDenormals(environment, value)
  const { negative, significand, exponent } = value
  return roundToFormat(to, { negative, significand, exponent, sticky: false }, environment)
}

/** A number in the extended format, which has every number and every NaN of the others; nothing is reported. */
export function widen(from: FloatFormat, bits: bigint): bigint {
  const value = unpack(from, bits)
  if (value.kind !== 'signalling') return convertFormat(from, EXTENDED, bits, exactly())
  const integer = 1n << BigInt(EXTENDED.precision - 1)
  const fraction = BigInt.asUintN(from.precision - 1, value.significand)
  const field = integer | (fraction << BigInt(EXTENDED.precision - from.precision))
  return pack(EXTENDED, value.negative, 2 ** EXTENDED.exponentBits - 1, field)
}

/** A signed integer as a number. */
export function fromInteger(
  format: FloatFormat,
  value: bigint,
  environment: FloatEnvironment,
): bigint {
  environment.roundedUp = false
  if (value === 0n) return zero(format, false)
  const negative = value < 0n
  const significand = negative ? -value : value
  return roundToFormat(format, { negative, significand, exponent: 0, sticky: false }, environment)
}

/**
 * A number as a signed integer of `bits` bits, in two's complement. What does not fit is an invalid operation and gives the integer indefinite, the most negative one.
 * A denormal operand is not reported (SDM Vol. 2, FIST and CVTSD2SI).
 */
export function toInteger(
  format: FloatFormat,
  value: bigint,
  { bits, rounding, environment }: IntegerOptions,
): bigint {
  const unpacked = operand(format, value, environment)
  environment.roundedUp = false
  const indefinite = 1n << BigInt(bits - 1)
  if (isNan(unpacked) || unpacked.kind === 'infinity') {
    environment.flags |= FloatException.Invalid
    return indefinite
  }
  if (unpacked.kind === 'zero') return 0n
  const { negative, significand, exponent } = unpacked
  const rounded = roundAt({ negative, significand, exponent, sticky: false }, 0, rounding)
  const magnitude = rounded.significand
  if (magnitude > (negative ? indefinite : indefinite - 1n)) {
    environment.flags |= FloatException.Invalid
    return indefinite
  }
  if (rounded.inexact) environment.flags |= FloatException.Precision
  environment.roundedUp = rounded.up
  return BigInt.asUintN(bits, negative ? -magnitude : magnitude)
}

interface IntegerOptions {
  readonly bits: 16 | 32 | 64
  /** {@link Rounding}, which truncating conversions do not take from the environment. */
  readonly rounding: number
  readonly environment: FloatEnvironment
}

/** A number rounded to an integer of the same format: FRNDINT, which reports a denormal operand, and ROUNDSD, whose `reportsInexact` may be clear. */
export function roundToInteger(
  format: FloatFormat,
  bits: bigint,
  {
    rounding,
    reportsInexact,
    reportsDenormal,
    environment,
  }: {
    readonly rounding: number
    readonly reportsDenormal: boolean
    readonly reportsInexact: boolean
    readonly environment: FloatEnvironment
  },
): bigint {
  const value = operand(format, bits, environment)
  const special = nanResult(format, value, value, 'first', environment)
  if (special !== undefined) return special
  environment.roundedUp = false
  if (value.kind === 'infinity') return infinity(format, value.negative)
  if (value.kind === 'zero') return zero(format, value.negative)
  if (reportsDenormal) noteDenormals(environment, value)
  const { negative, significand, exponent } = value
  if (exponent >= 0) return bits
  const rounded = roundAt({ negative, significand, exponent, sticky: false }, 0, rounding)
  if (rounded.inexact && reportsInexact) environment.flags |= FloatException.Precision
  environment.roundedUp = rounded.up
  if (rounded.significand === 0n) return zero(format, negative)
  const length = bitLength(rounded.significand)
  return pack(
    format,
    negative,
    length - 1 - format.minExponent + 1,
    rounded.significand << BigInt(format.precision - length),
  )
}
