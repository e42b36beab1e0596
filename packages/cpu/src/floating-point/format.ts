/** A binary format of numbers (IEEE 754-2019, 3.3; SDM Vol. 1, 4.2.2). */
export interface FloatFormat {
  /** Bits of the significand, the one before the point included. */
  readonly precision: number
  /** Bits of the biased exponent. */
  readonly exponentBits: number
  /** The least and the greatest exponent of a normal number. */
  readonly minExponent: number
  readonly maxExponent: number
  /** The bit before the point is stored too. */
  readonly hasIntegerBit: boolean
}

function formatOf(exponentBits: number, precision: number, hasIntegerBit = false): FloatFormat {
  const maxExponent = 2 ** (exponentBits - 1) - 1
  return { precision, exponentBits, minExponent: 1 - maxExponent, maxExponent, hasIntegerBit }
}

export const SINGLE: FloatFormat = formatOf(8, 24)
export const DOUBLE: FloatFormat = formatOf(11, 53)
/** The x87 registers' own format. */
export const EXTENDED: FloatFormat = formatOf(15, 64, true)

/**
 * A number taken apart. A `finite` one is significand × 2^exponent, a `denormal` one as well; `quiet` and `signalling` are NaNs, whose significand is the field as it is stored.
 * `unsupported` is an encoding of the extended format that processors since the 80387 refuse (SDM Vol. 1, 8.2.2).
 */
export interface Unpacked {
  readonly kind:
    | 'zero'
    | 'denormal'
    | 'finite'
    | 'infinity'
    | 'quiet'
    | 'signalling'
    | 'unsupported'
  readonly negative: boolean
  readonly significand: bigint
  readonly exponent: number
}

/** Takes the bits of a number apart. */
export function unpack(format: FloatFormat, bits: bigint): Unpacked {
  const { precision, exponentBits, minExponent, hasIntegerBit } = format
  const fieldBits = BigInt(hasIntegerBit ? precision : precision - 1)
  const field = BigInt.asUintN(Number(fieldBits), bits)
  const biased = Number(BigInt.asUintN(exponentBits, bits >> fieldBits))
  const negative = ((bits >> (fieldBits + BigInt(exponentBits))) & 1n) === 1n
  const integer = 1n << BigInt(precision - 1)
  const lowest = minExponent - (precision - 1)
  const isInteger = hasIntegerBit ? (field & integer) !== 0n : biased !== 0
  if (biased === 2 ** exponentBits - 1) {
    if (!isInteger) return { kind: 'unsupported', negative, significand: field, exponent: 0 }
    const fraction = field & (integer - 1n)
    if (fraction === 0n) return { kind: 'infinity', negative, significand: 0n, exponent: 0 }
    const isQuiet = (fraction & (integer >> 1n)) !== 0n
    return { kind: isQuiet ? 'quiet' : 'signalling', negative, significand: field, exponent: 0 }
  }
  if (biased === 0) {
    if (field === 0n) return { kind: 'zero', negative, significand: 0n, exponent: 0 }
    return { kind: 'denormal', negative, significand: field, exponent: lowest }
  }
  if (!isInteger) return { kind: 'unsupported', negative, significand: field, exponent: 0 }
  return { kind: 'finite', negative, significand: field | integer, exponent: lowest + biased - 1 }
}

/** The bits of a number from its sign, its biased exponent and its significand, of which a format without integer bit drops that. */
export function pack(
  format: FloatFormat,
  negative: boolean,
  biased: number,
  significand: bigint,
): bigint {
  const { precision, exponentBits, hasIntegerBit } = format
  const fieldBits = hasIntegerBit ? precision : precision - 1
  const field = BigInt.asUintN(fieldBits, significand)
  const sign = negative ? 1n << BigInt(exponentBits) : 0n
  return ((sign | BigInt(biased)) << BigInt(fieldBits)) | field
}

export function zero(format: FloatFormat, negative: boolean): bigint {
  return pack(format, negative, 0, 0n)
}

export function infinity(format: FloatFormat, negative: boolean): bigint {
  return pack(format, negative, 2 ** format.exponentBits - 1, 1n << BigInt(format.precision - 1))
}

/** The real indefinite: the quiet NaN that an invalid operation gives (SDM Vol. 1, 4.8.3.7). */
export function indefinite(format: FloatFormat): bigint {
  return quietNan(format, true, 0n)
}

/** A NaN of a significand field, made quiet. */
export function quietNan(format: FloatFormat, negative: boolean, field: bigint): bigint {
  const quiet = 3n << BigInt(format.precision - 2)
  return pack(format, negative, 2 ** format.exponentBits - 1, field | quiet)
}
