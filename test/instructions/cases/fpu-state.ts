import type { Random } from '../../emulators/cases/random.ts'
import { interestingFloat, interestingValue } from './values.ts'

/** Offsets in an FXSAVE image (SDM Vol. 1, table 10-2). */
export const FxsaveOffset = {
  Fcw: 0,
  Fsw: 2,
  /** Abridged: a bit for each register that is not empty. */
  Ftw: 4,
  Fop: 6,
  /** Of 64 bits, as FXSAVE64 has them. */
  Fip: 8,
  Fdp: 16,
  Mxcsr: 24,
  St: 32,
  Xmm: 160,
} as const

const ALL_MASKED = 0x3f
const MXCSR_MASKS = 0x1f80
/** Rounding precisions of the x87 control word, without the reserved one. */
const PRECISIONS = [0, 2, 3, 3, 3]
const ES = 0x80
const BUSY = 0x8000

/** Fills an FXSAVE image: control words with all roundings and sometimes an exception that is not masked, registers with numbers of every class. */
export function randomFpuState(random: Random, image: Buffer): void {
  image.fill(0)
  const masks = random.percent(85) ? ALL_MASKED : random.below(64)
  const fcw = masks | 0x40 | (random.pick(PRECISIONS) << 8) | (random.below(4) << 10)
  image.writeUint16LE(fcw, FxsaveOffset.Fcw)
  const flags = random.percent(70)
    ? 0
    : random.below(128) & (random.percent(90) ? masks | 0x40 : 0x7f)
  const isPending = (flags & ~masks & ALL_MASKED) !== 0
  const conditions = random.below(16)
  const fsw =
    flags |
    (isPending ? ES | BUSY : 0) |
    ((conditions & 7) << 8) |
    ((conditions >> 3) << 14) |
    (random.below(8) << 11)
  image.writeUint16LE(fsw, FxsaveOffset.Fsw)
  image.writeUint8(random.percent(60) ? 0xff : random.below(256), FxsaveOffset.Ftw)
  for (let register = 0; register < 8; register++) {
    writeExtended(image, FxsaveOffset.St + register * 16, randomExtended(random))
  }
  const controls =
    (random.below(4) << 13) | (random.percent(10) ? random.pick([0x40, 0x8000, 0x8040]) : 0)
  const unmasked = random.percent(85) ? 0 : random.below(64) << 7
  const sticky = random.percent(50) ? 0 : random.below(64)
  image.writeUint32LE((MXCSR_MASKS & ~unmasked) | controls | sticky, FxsaveOffset.Mxcsr)
  for (let register = 0; register < 16; register++) {
    randomVector(random, image, FxsaveOffset.Xmm + register * 16)
  }
}

/** Sixteen bytes of one kind of elements. */
export function randomVector(random: Random, bytes: Buffer, at: number): void {
  const kind = random.below(4)
  for (let half = at; half < at + 16; half += 8) {
    if (kind === 0) bytes.writeBigUint64LE(interestingFloat(random, 11, 52), half)
    else if (kind === 1) {
      bytes.writeUint32LE(Number(interestingFloat(random, 8, 23)), half)
      bytes.writeUint32LE(Number(interestingFloat(random, 8, 23)), half + 4)
    } else if (kind === 2) {
      const { low, high } = interestingValue(random)
      bytes.writeUint32LE(low, half)
      bytes.writeUint32LE(high, half + 4)
    } else bytes.writeBigUint64LE(random.bits(64), half)
  }
}

/** A number of 80 bits: sometimes one whose integer bit its exponent does not allow (SDM Vol. 1, table 8-3). */
export function randomExtended(random: Random): bigint {
  const value = interestingFloat(random, 15, 63)
  const biased = (value >> 63n) & 0x7fffn
  const isInteger = random.percent(5) ? random.percent(50) : biased !== 0n
  return ((value >> 63n) << 64n) | (isInteger ? 1n << 63n : 0n) | (value & ((1n << 63n) - 1n))
}

export function writeExtended(bytes: Buffer, at: number, value: bigint): void {
  bytes.writeBigUint64LE(value & 0xffff_ffff_ffff_ffffn, at)
  bytes.writeUint16LE(Number(value >> 64n), at + 8)
}
