import { FloatException, type FloatEnvironment, Rounding } from './environment.ts'
import {
  type FloatFormat,
  indefinite,
  infinity,
  quietNan,
  unpack,
  type Unpacked,
  zero,
} from './format.ts'
import { bitLength, type Exact, roundToFormat } from './rounding.ts'

/** What two NaN operands give: the first (SSE, SDM Vol. 1, table 4-7), or the one with the larger significand (x87, table 4-7 too). */
export type NanRule = 'first' | 'larger'

/** Addition of one format; subtraction has the sign of the second operand turned, unless that is a NaN. */
export function add(
  format: FloatFormat,
  left: bigint,
  right: bigint,
  { subtract, nan, environment }: BinaryOptions & { readonly subtract: boolean },
): bigint {
  const a = operand(format, left, environment)
  const plain = operand(format, right, environment)
  const special = nanResult(format, a, plain, nan, environment)
  if (special !== undefined) return special
  const b = subtract ? { ...plain, negative: !plain.negative } : plain
  if (a.kind === 'infinity' || b.kind === 'infinity') {
    if (a.kind === 'infinity' && b.kind === 'infinity' && a.negative !== b.negative) {
      return invalid(format, environment)
    }
    noteDenormals(environment, a, b)
    return infinity(format, a.kind === 'infinity' ? a.negative : b.negative)
  }
  noteDenormals(environment, a, b)
  const exponent = Math.min(exponentOf(a), exponentOf(b))
  const sum = signedAt(a, exponent) + signedAt(b, exponent)
  if (sum === 0n) {
    const isDown = environment.rounding === Rounding.Down
    const negative = a.negative === b.negative ? a.negative : isDown
    environment.roundedUp = false
    return zero(format, negative)
  }
  return roundToFormat(format, exactOf(sum, exponent), environment)
}

export function multiply(
  format: FloatFormat,
  left: bigint,
  right: bigint,
  { nan, environment }: BinaryOptions,
): bigint {
  const a = operand(format, left, environment)
  const b = operand(format, right, environment)
  const special = nanResult(format, a, b, nan, environment)
  if (special !== undefined) return special
  const negative = a.negative !== b.negative
  if (a.kind === 'infinity' || b.kind === 'infinity') {
    if (a.kind === 'zero' || b.kind === 'zero') return invalid(format, environment)
    noteDenormals(environment, a, b)
    return infinity(format, negative)
  }
  noteDenormals(environment, a, b)
  if (a.kind === 'zero' || b.kind === 'zero') {
    environment.roundedUp = false
    return zero(format, negative)
  }
  return roundToFormat(
    format,
    {
      negative,
      significand: a.significand * b.significand,
      exponent: a.exponent + b.exponent,
      sticky: false,
    },
    environment,
  )
}

export function divide(
  format: FloatFormat,
  left: bigint,
  right: bigint,
  { nan, environment }: BinaryOptions,
): bigint {
  const a = operand(format, left, environment)
  const b = operand(format, right, environment)
  const special = nanResult(format, a, b, nan, environment)
  if (special !== undefined) return special
  const negative = a.negative !== b.negative
  if (a.kind === 'infinity') {
    if (b.kind === 'infinity') return invalid(format, environment)
    noteDenormals(environment, a, b)
    return infinity(format, negative)
  }
  if (b.kind === 'zero') {
    if (a.kind === 'zero') return invalid(format, environment)
    environment.flags |= FloatException.DivideByZero
    environment.roundedUp = false
    return infinity(format, negative)
  }
  noteDenormals(environment, a, b)
  if (a.kind === 'zero' || b.kind === 'infinity') {
    environment.roundedUp = false
    return zero(format, negative)
  }
  // Two bits more than are kept, and whether there is anything beyond them.
  const shift = Math.max(
    0,
    format.precision + 2 + bitLength(b.significand) - bitLength(a.significand),
  )
  const dividend = a.significand << BigInt(shift)
  const significand = dividend / b.significand
  return roundToFormat(
    format,
    {
      negative,
      significand,
      exponent: a.exponent - b.exponent - shift,
      sticky: significand * b.significand !== dividend,
    },
    environment,
  )
}

export function squareRoot(
  format: FloatFormat,
  bits: bigint,
  environment: FloatEnvironment,
): bigint {
  const a = operand(format, bits, environment)
  const special = nanResult(format, a, a, 'first', environment)
  if (special !== undefined) return special
  environment.roundedUp = false
  if (a.kind === 'zero') return zero(format, a.negative)
  if (a.negative) return invalid(format, environment)
  if (a.kind === 'infinity') return infinity(format, false)
  noteDenormals(environment, a)
  // An even exponent, and so many bits that the root has two more than are kept.
  let shift = Math.max(0, 2 * (format.precision + 2) - bitLength(a.significand))
  if ((a.exponent - shift) % 2 !== 0) shift++
  const radicand = a.significand << BigInt(shift)
  const significand = integerSquareRoot(radicand)
  return roundToFormat(
    format,
    {
      negative: false,
      significand,
      exponent: (a.exponent - shift) / 2,
      sticky: significand * significand !== radicand,
    },
    environment,
  )
}

/** What two numbers are to each other. */
export type Order = 'less' | 'equal' | 'greater' | 'unordered'

/** Compares. A signalling NaN is an invalid operation, and where `quietIsInvalid` is set a quiet one is too. */
export function compare(
  format: FloatFormat,
  left: bigint,
  right: bigint,
  {
    quietIsInvalid,
    environment,
  }: { readonly quietIsInvalid: boolean; readonly environment: FloatEnvironment },
): Order {
  const a = operand(format, left, environment)
  const b = operand(format, right, environment)
  if (isNan(a) || isNan(b)) {
    const isInvalid = quietIsInvalid || a.kind !== 'quiet' || b.kind !== 'quiet'
    const isSignalling = [a, b].some(({ kind }) => kind === 'signalling' || kind === 'unsupported')
    if (isInvalid && (quietIsInvalid || isSignalling)) environment.flags |= FloatException.Invalid
    return 'unordered'
  }
  noteDenormals(environment, a, b)
  const difference = orderKey(a, b)
  return difference === 0 ? 'equal' : difference < 0 ? 'less' : 'greater'
}

interface BinaryOptions {
  readonly nan: NanRule
  readonly environment: FloatEnvironment
}

/** An operand as the operation sees it: denormals may count as zeros. */
export function operand(
  format: FloatFormat,
  bits: bigint,
  { denormalsAreZero }: FloatEnvironment,
): Unpacked {
  const unpacked = unpack(format, bits)
  if (!denormalsAreZero || unpacked.kind !== 'denormal') return unpacked
  return { ...unpacked, kind: 'zero', significand: 0n, exponent: 0 }
}

export function isNan({ kind }: Unpacked): boolean {
  return kind === 'quiet' || kind === 'signalling' || kind === 'unsupported'
}

export function noteDenormals(environment: FloatEnvironment, ...operands: Unpacked[]): void {
  if (operands.some(({ kind }) => kind === 'denormal')) {
    environment.flags |= FloatException.Denormal
  }
}

export function invalid(format: FloatFormat, environment: FloatEnvironment): bigint {
  environment.flags |= FloatException.Invalid
  environment.roundedUp = false
  return indefinite(format)
}

/** The result where an operand is a NaN, undefined where none is (SDM Vol. 1, table 4-7). */
export function nanResult(
  format: FloatFormat,
  a: Unpacked,
  b: Unpacked,
  rule: NanRule,
  environment: FloatEnvironment,
): bigint | undefined {
  if (!isNan(a) && !isNan(b)) return undefined
  environment.roundedUp = false
  if (a.kind === 'unsupported' || b.kind === 'unsupported') return invalid(format, environment)
  if (a.kind === 'signalling' || b.kind === 'signalling') {
    environment.flags |= FloatException.Invalid
  }
  const chosen = chooseNan(a, b, rule)
  return quietNan(format, chosen.negative, chosen.significand)
}

function chooseNan(a: Unpacked, b: Unpacked, rule: NanRule): Unpacked {
  if (!isNan(b)) return a
  if (!isNan(a)) return b
  if (rule === 'first') return a
  if (a.kind !== b.kind) return a.kind === 'quiet' ? a : b
  if (a.significand !== b.significand) return a.significand > b.significand ? a : b
  return a.negative ? b : a
}

function exponentOf({ kind, exponent }: Unpacked): number {
  return kind === 'zero' ? Number.POSITIVE_INFINITY : exponent
}

function signedAt({ kind, negative, significand, exponent }: Unpacked, to: number): bigint {
  if (kind === 'zero') return 0n
  const scaled = significand << BigInt(exponent - to)
  return negative ? -scaled : scaled
}

function exactOf(value: bigint, exponent: number): Exact {
  const negative = value < 0n
  return { negative, significand: negative ? -value : value, exponent, sticky: false }
}

/** Negative where the first is less, 0 where they are equal: zeros are, whatever their signs. */
function orderKey(a: Unpacked, b: Unpacked): number {
  if (a.kind === 'zero' && b.kind === 'zero') return 0
  const [left, right] = [signedOrder(a), signedOrder(b)]
  if (left !== right) return left - right
  if (a.kind === 'infinity' || a.kind === 'zero') return 0
  const exponent = Math.min(a.exponent, b.exponent)
  const difference = signedAt(a, exponent) - signedAt(b, exponent)
  return difference === 0n ? 0 : difference < 0n ? -1 : 1
}

/** −2, −1, 0, 1, 2: minus infinity, negative, zero, positive, infinity. */
function signedOrder({ kind, negative }: Unpacked): number {
  const magnitude = kind === 'infinity' ? 2 : kind === 'zero' ? 0 : 1
  return negative ? -magnitude : magnitude
}

function integerSquareRoot(value: bigint): bigint {
  let root = 1n << BigInt(Math.ceil(bitLength(value) / 2))
  for (;;) {
    const next = (root + value / root) >> 1n
    if (next >= root) return root
    root = next
  }
}
