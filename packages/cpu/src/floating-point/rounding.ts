import { FloatException, type FloatEnvironment, Rounding } from './environment.ts'
import { type FloatFormat, infinity, pack, zero } from './format.ts'

/** An exact number: ± significand × 2^exponent, and where `sticky` is set a little more than that, in magnitude. */
export interface Exact {
  readonly negative: boolean
  readonly significand: bigint
  readonly exponent: number
  readonly sticky: boolean
}

/** Bits of a positive integer. */
export function bitLength(value: bigint): number {
  if (value === 0n) return 0
  const text = value.toString(16)
  return text.length * 4 - (Math.clz32(Number.parseInt(text[0]!, 16)) - 28)
}

/**
 * Rounds an exact number that is not zero to a format. Tininess is detected after rounding, as the SDM has it (Vol. 1, 4.9.1.5); a masked underflow is reported where the
 * result is inexact, an unmasked one always.
 */
export function roundToFormat(
  format: FloatFormat,
  exact: Exact,
  environment: FloatEnvironment,
): bigint {
  const precision = environment.precision ?? format.precision
  const { minExponent, maxExponent } = format
  const top = exact.exponent + bitLength(exact.significand) - 1
  const wide = roundAt(exact, top - (precision - 1), environment.rounding)
  const wideTop = wide.exponent + bitLength(wide.significand) - 1
  if (wideTop < minExponent) return roundTiny(format, exact, wide, precision, environment)
  environment.roundedUp = wide.up
  if (wideTop > maxExponent) return overflow(format, exact.negative, wide, environment)
  if (wide.inexact) environment.flags |= FloatException.Precision
  return packNormal(format, exact.negative, wide.significand, wide.exponent)
}

interface Rounded {
  readonly significand: bigint
  readonly exponent: number
  readonly inexact: boolean
  /** The magnitude became larger. */
  readonly up: boolean
  readonly negative: boolean
}

/** Rounds to a multiple of 2^quantum. */
export function roundAt(
  { significand, exponent, sticky, negative }: Exact,
  quantum: number,
  rounding: number,
): Rounded {
  const drop = quantum - exponent
  if (drop <= 0) {
    // With a sticky part there are always more bits than are kept.
    return {
      significand: significand << BigInt(-drop),
      exponent: quantum,
      inexact: sticky,
      up: false,
      negative,
    }
  }
  const kept = significand >> BigInt(drop)
  const rest = significand - (kept << BigInt(drop))
  const half = 1n << BigInt(drop - 1)
  const inexact = rest !== 0n || sticky
  const isAboveHalf = rest > half || (rest === half && sticky)
  const isTie = rest === half && !sticky
  const up =
    inexact &&
    (rounding === Rounding.Nearest
      ? isAboveHalf || (isTie && (kept & 1n) === 1n)
      : rounding === Rounding.Up
        ? !negative
        : rounding === Rounding.Down
          ? negative
          : false)
  return { significand: up ? kept + 1n : kept, exponent: quantum, inexact, up, negative }
}

function roundTiny(
  format: FloatFormat,
  exact: Exact,
  wide: Rounded,
  precision: number,
  environment: FloatEnvironment,
): bigint {
  const { minExponent } = format
  if ((environment.masks & FloatException.Underflow) === 0) {
    environment.flags |= FloatException.Underflow
    if (wide.inexact) environment.flags |= FloatException.Precision
    environment.roundedUp = wide.up
    if (environment.biasAdjustment === 0) return zero(format, exact.negative)
    const exponent = wide.exponent + environment.biasAdjustment
    if (exponent + bitLength(wide.significand) - 1 >= minExponent) {
      return packNormal(format, exact.negative, wide.significand, exponent)
    }
    // FSCALE may come so far down that the adjustment does not help: the result is 0 then (SDM Vol. 1, 8.5.5).
    environment.flags |= FloatException.Precision
    environment.roundedUp = false
    return zero(format, exact.negative)
  }
  if (environment.flushToZero) {
    environment.flags |= FloatException.Underflow | FloatException.Precision
    environment.roundedUp = false
    return zero(format, exact.negative)
  }
  const rounded = roundAt(exact, minExponent - (precision - 1), environment.rounding)
  environment.roundedUp = rounded.up
  if (rounded.inexact) environment.flags |= FloatException.Underflow | FloatException.Precision
  if (rounded.significand === 0n) return zero(format, exact.negative)
  const shift = BigInt(format.precision - precision)
  const field = rounded.significand << shift
  const isNormal = bitLength(field) >= format.precision
  return pack(format, exact.negative, isNormal ? 1 : 0, field)
}

function overflow(
  format: FloatFormat,
  negative: boolean,
  wide: Rounded,
  environment: FloatEnvironment,
): bigint {
  environment.flags |= FloatException.Overflow
  const adjusted = wide.exponent - environment.biasAdjustment
  // FSCALE may come so far up that the adjustment does not help: the result is infinity then (SDM Vol. 1, 8.5.4).
  const isMassive =
    environment.biasAdjustment !== 0 &&
    adjusted + bitLength(wide.significand) - 1 > format.maxExponent
  const isUnmasked = (environment.masks & FloatException.Overflow) === 0
  if (isUnmasked && !isMassive) {
    if (wide.inexact) environment.flags |= FloatException.Precision
    if (environment.biasAdjustment === 0) return zero(format, negative)
    return packNormal(format, negative, wide.significand, adjusted)
  }
  environment.flags |= FloatException.Precision
  const { rounding } = environment
  const toInfinity =
    isUnmasked ||
    rounding === Rounding.Nearest ||
    rounding === (negative ? Rounding.Down : Rounding.Up)
  environment.roundedUp = toInfinity
  if (toInfinity) return infinity(format, negative)
  // The largest number has all bits that the precision control leaves.
  const precision = BigInt(environment.precision ?? format.precision)
  const largest = ((1n << precision) - 1n) << (BigInt(format.precision) - precision)
  return pack(format, negative, 2 ** format.exponentBits - 2, largest)
}

function packNormal(
  format: FloatFormat,
  negative: boolean,
  significand: bigint,
  exponent: number,
): bigint {
  const bits = bitLength(significand)
  const shift = format.precision - bits
  const field = shift >= 0 ? significand << BigInt(shift) : significand >> BigInt(-shift)
  const biased = exponent + bits - 1 - format.minExponent + 1
  return pack(format, negative, biased, field)
}
