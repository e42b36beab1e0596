import type { Random } from '../../emulators/cases/random.ts'

/** 64 bits as two unsigned halves. */
export interface Halves {
  low: number
  high: number
}

const BOUNDARIES: readonly (readonly [high: number, low: number])[] = [
  [0, 0x7f],
  [0, 0x80],
  [0, 0xff],
  [0, 0x7fff],
  [0, 0x8000],
  [0, 0xffff],
  [0, 0x7fff_ffff],
  [0, 0x8000_0000],
  [0, 0xffff_ffff],
  [0x7fff_ffff, 0xffff_ffff],
  [0x8000_0000, 0],
  [0xffff_ffff, 0x8000_0000],
  [0xffff_ffff, 0xffff_ffff],
]

/** A number that instructions treat otherwise than most, in most cases: small, near the limits of an operand size, near a power of two. */
export function interestingValue(random: Random): Halves {
  const kind = random.below(8)
  if (kind < 2) return { low: random.word(), high: random.word() }
  if (kind === 2) return { low: random.below(17), high: 0 }
  if (kind === 3) return { low: -random.below(17) >>> 0, high: 0xffff_ffff }
  if (kind === 4) {
    const [high, low] = random.pick(BOUNDARIES)
    return { low, high }
  }
  if (kind === 5) {
    const value = BigInt.asUintN(64, (1n << BigInt(random.below(64))) + BigInt(random.below(3) - 1))
    return { low: Number(value & 0xffff_ffffn), high: Number(value >> 32n) }
  }
  const low = random.word()
  return { low, high: kind === 6 ? 0 : ((low | 0) >> 31) >>> 0 }
}

/** A floating-point number of `fraction` fraction bits and `exponent` exponent bits, every class of which comes up. */
export function interestingFloat(random: Random, exponent: number, fraction: number): bigint {
  const maximum = 2 ** exponent - 1
  const bias = maximum >> 1
  const sign = random.percent(50) ? 1n : 0n
  const pattern = (): bigint => {
    const kind = random.below(6)
    if (kind === 0) return 0n
    if (kind === 1) return (1n << BigInt(fraction)) - 1n
    if (kind === 2) return 1n << BigInt(random.below(fraction))
    if (kind === 3) return random.bits(fraction) & -(1n << BigInt(random.below(fraction)))
    return random.bits(fraction)
  }
  const make = (biased: number, bits: bigint): bigint =>
    (sign << BigInt(exponent + fraction)) | (BigInt(biased) << BigInt(fraction)) | bits
  const kind = random.below(16)
  if (kind === 0) return make(0, 0n)
  if (kind === 1) return make(0, pattern())
  if (kind === 2) return make(maximum, 0n)
  if (kind === 3) return make(maximum, pattern())
  if (kind === 4) return make(random.below(maximum + 1), pattern())
  if (kind === 5) return make(1 + random.below(4), pattern())
  if (kind === 6) return make(maximum - 1 - random.below(4), pattern())
  if (kind < 12) return make(bias - 4 + random.below(9), pattern())
  return make(Math.min(maximum - 1, bias + random.below(80)), pattern())
}
