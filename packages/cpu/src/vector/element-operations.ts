import { Mnemonic } from 'iced-x86'

import { clamp, type Vector, type VectorOperation } from './vector.ts'

type View = 'int8' | 'uint8' | 'int16' | 'uint16' | 'words' | 'uint32'

const BYTES: Readonly<Record<View, number>> = {
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  words: 4,
  uint32: 4,
}

/** Each element by the elements at its place. Storing takes the low bits. */
function each(view: View, compute: (first: number, second: number) => number): VectorOperation {
  const size = BYTES[view]
  return (first, second, bytes) => {
    const [a, b] = [first[view], second[view]]
    for (let at = 0; at < bytes / size; at++) a[at] = compute(a[at]!, b[at]!)
  }
}

function each64(compute: (first: bigint, second: bigint) => bigint): VectorOperation {
  return (first, second, bytes) => {
    for (let at = 0; at < bytes / 8; at++) {
      first.uint64[at] = compute(first.uint64[at]!, second.uint64[at]!)
    }
  }
}

/** Pairs of neighbours of the first operand, then those of the second. */
function horizontal(
  view: 'int16' | 'words',
  compute: (left: number, right: number) => number,
): VectorOperation {
  return (first, second, bytes) => {
    const count = bytes / BYTES[view]
    const all = [...first[view].subarray(0, count), ...second[view].subarray(0, count)]
    for (let at = 0; at < count; at++) first[view][at] = compute(all[2 * at]!, all[2 * at + 1]!)
  }
}

/** A signed or unsigned product, or its upper half: 16 by 16 bits fit a number. */
const mask = (condition: boolean): number => (condition ? -1 : 0)
const saturate8 = (value: number): number => clamp(value, -0x80, 0x7f)
const saturate16 = (value: number): number => clamp(value, -0x8000, 0x7fff)
const sign = (value: number, by: number): number => (by < 0 ? -value : by === 0 ? 0 : value)

const multiplyAdd: VectorOperation = ({ int16, words }, second, bytes) => {
  for (let at = 0; at < bytes / 4; at++) {
    words[at] =
      int16[2 * at]! * second.int16[2 * at]! + int16[2 * at + 1]! * second.int16[2 * at + 1]!
  }
}

const multiplyAddBytes: VectorOperation = ({ uint8, int16 }, second, bytes) => {
  for (let at = 0; at < bytes / 2; at++) {
    int16[at] = saturate16(
      uint8[2 * at]! * second.int8[2 * at]! + uint8[2 * at + 1]! * second.int8[2 * at + 1]!,
    )
  }
}

const sumOfDifferences: VectorOperation = ({ uint8, words }, second, bytes) => {
  for (let half = 0; half < bytes / 8; half++) {
    let sum = 0
    for (let at = half * 8; at < half * 8 + 8; at++) sum += Math.abs(uint8[at]! - second.uint8[at]!)
    words[half * 2] = sum
    words[half * 2 + 1] = 0
  }
}

const multipleSums: VectorOperation = (first, second, _, immediate) => {
  const from = [...first.uint8]
  const start = ((immediate >> 2) & 1) * 4
  const block = second.uint8.slice((immediate & 3) * 4, (immediate & 3) * 4 + 4)
  for (let at = 0; at < 8; at++) {
    let sum = 0
    for (let byte = 0; byte < 4; byte++) sum += Math.abs(from[start + at + byte]! - block[byte]!)
    first.uint16[at] = sum
  }
}

const smallestWord: VectorOperation = (first, second) => {
  const smallest = Math.min(...second.uint16)
  const at = second.uint16.indexOf(smallest)
  first.words.fill(0)
  first.uint16[0] = smallest
  first.uint16[1] = at
}

/** Packs the elements of both operands into half their size. */
function packed(
  from: 'int16' | 'words',
  to: 'int8' | 'int16',
  low: number,
  high: number,
): VectorOperation {
  return (first, second, bytes) => {
    const count = bytes / BYTES[from]
    const all = [...first[from].subarray(0, count), ...second[from].subarray(0, count)]
    for (const [at, value] of all.entries()) first[to][at] = clamp(value, low, high)
  }
}

const signed64 = (value: bigint): bigint => BigInt.asIntN(64, value)
const low32 = (value: bigint): bigint => value & 0xffff_ffffn
const signedLow32 = (value: bigint): bigint => BigInt.asIntN(32, value)

/** Operations on elements at the same places: MMX, SSE2, SSSE3, SSE4.1 and SSE4.2 (SDM Vol. 2). */
export const ELEMENT_OPERATIONS: ReadonlyMap<Mnemonic, VectorOperation> = new Map<
  Mnemonic,
  VectorOperation
>([
  [Mnemonic.Paddb, each('int8', (a, b) => a + b)],
  [Mnemonic.Paddw, each('int16', (a, b) => a + b)],
  [Mnemonic.Paddd, each('words', (a, b) => a + b)],
  [Mnemonic.Paddq, each64((a, b) => a + b)],
  [Mnemonic.Psubb, each('int8', (a, b) => a - b)],
  [Mnemonic.Psubw, each('int16', (a, b) => a - b)],
  [Mnemonic.Psubd, each('words', (a, b) => a - b)],
  [Mnemonic.Psubq, each64((a, b) => a - b)],
  [Mnemonic.Paddsb, each('int8', (a, b) => saturate8(a + b))],
  [Mnemonic.Paddsw, each('int16', (a, b) => saturate16(a + b))],
  [Mnemonic.Paddusb, each('uint8', (a, b) => Math.min(a + b, 0xff))],
  [Mnemonic.Paddusw, each('uint16', (a, b) => Math.min(a + b, 0xffff))],
  [Mnemonic.Psubsb, each('int8', (a, b) => saturate8(a - b))],
  [Mnemonic.Psubsw, each('int16', (a, b) => saturate16(a - b))],
  [Mnemonic.Psubusb, each('uint8', (a, b) => Math.max(a - b, 0))],
  [Mnemonic.Psubusw, each('uint16', (a, b) => Math.max(a - b, 0))],
  [Mnemonic.Pmullw, each('int16', (a, b) => a * b)],
  [Mnemonic.Pmulhw, each('int16', (a, b) => (a * b) >> 16)],
  [Mnemonic.Pmulhuw, each('uint16', (a, b) => (a * b) / 0x1_0000)],
  [Mnemonic.Pmulhrsw, each('int16', (a, b) => (((a * b) >> 14) + 1) >> 1)],
  [Mnemonic.Pmulld, each('words', Math.imul)],
  [Mnemonic.Pmuludq, each64((a, b) => low32(a) * low32(b))],
  [Mnemonic.Pmuldq, each64((a, b) => signedLow32(a) * signedLow32(b))],
  [Mnemonic.Pmaddwd, multiplyAdd],
  [Mnemonic.Pmaddubsw, multiplyAddBytes],
  [Mnemonic.Pavgb, each('uint8', (a, b) => (a + b + 1) >> 1)],
  [Mnemonic.Pavgw, each('uint16', (a, b) => (a + b + 1) >> 1)],
  [Mnemonic.Pmaxub, each('uint8', Math.max)],
  [Mnemonic.Pmaxsb, each('int8', Math.max)],
  [Mnemonic.Pmaxsw, each('int16', Math.max)],
  [Mnemonic.Pmaxuw, each('uint16', Math.max)],
  [Mnemonic.Pmaxsd, each('words', Math.max)],
  [Mnemonic.Pmaxud, each('uint32', Math.max)],
  [Mnemonic.Pminub, each('uint8', Math.min)],
  [Mnemonic.Pminsb, each('int8', Math.min)],
  [Mnemonic.Pminsw, each('int16', Math.min)],
  [Mnemonic.Pminuw, each('uint16', Math.min)],
  [Mnemonic.Pminsd, each('words', Math.min)],
  [Mnemonic.Pminud, each('uint32', Math.min)],
  [Mnemonic.Pcmpeqb, each('int8', (a, b) => mask(a === b))],
  [Mnemonic.Pcmpeqw, each('int16', (a, b) => mask(a === b))],
  [Mnemonic.Pcmpeqd, each('words', (a, b) => mask(a === b))],
  [Mnemonic.Pcmpeqq, each64((a, b) => (a === b ? -1n : 0n))],
  [Mnemonic.Pcmpgtb, each('int8', (a, b) => mask(a > b))],
  [Mnemonic.Pcmpgtw, each('int16', (a, b) => mask(a > b))],
  [Mnemonic.Pcmpgtd, each('words', (a, b) => mask(a > b))],
  [Mnemonic.Pcmpgtq, each64((a, b) => (signed64(a) > signed64(b) ? -1n : 0n))],
  ...logic([Mnemonic.Pand, Mnemonic.Andps, Mnemonic.Andpd], (a, b) => a & b),
  ...logic([Mnemonic.Pandn, Mnemonic.Andnps, Mnemonic.Andnpd], (a, b) => ~a & b),
  ...logic([Mnemonic.Por, Mnemonic.Orps, Mnemonic.Orpd], (a, b) => a | b),
  ...logic([Mnemonic.Pxor, Mnemonic.Xorps, Mnemonic.Xorpd], (a, b) => a ^ b),
  [Mnemonic.Psadbw, sumOfDifferences],
  [Mnemonic.Mpsadbw, multipleSums],
  [Mnemonic.Phminposuw, smallestWord],
  [Mnemonic.Pabsb, each('int8', (_, b) => Math.abs(b))],
  [Mnemonic.Pabsw, each('int16', (_, b) => Math.abs(b))],
  [Mnemonic.Pabsd, each('words', (_, b) => Math.abs(b))],
  [Mnemonic.Psignb, each('int8', sign)],
  [Mnemonic.Psignw, each('int16', sign)],
  [Mnemonic.Psignd, each('words', sign)],
  [Mnemonic.Phaddw, horizontal('int16', (a, b) => a + b)],
  [Mnemonic.Phaddd, horizontal('words', (a, b) => a + b)],
  [Mnemonic.Phaddsw, horizontal('int16', (a, b) => saturate16(a + b))],
  [Mnemonic.Phsubw, horizontal('int16', (a, b) => a - b)],
  [Mnemonic.Phsubd, horizontal('words', (a, b) => a - b)],
  [Mnemonic.Phsubsw, horizontal('int16', (a, b) => saturate16(a - b))],
  [Mnemonic.Packsswb, packed('int16', 'int8', -0x80, 0x7f)],
  [Mnemonic.Packssdw, packed('words', 'int16', -0x8000, 0x7fff)],
  [Mnemonic.Packuswb, packed('int16', 'int8', 0, 0xff)],
  [Mnemonic.Packusdw, packed('words', 'int16', 0, 0xffff)],
])

function logic(
  mnemonics: readonly Mnemonic[],
  compute: (first: number, second: number) => number,
): [Mnemonic, VectorOperation][] {
  const operation = each('words', compute)
  return mnemonics.map((mnemonic) => [mnemonic, operation])
}

/** Shifts of all elements by one count; a count of the element's size and above leaves nothing, or the sign (SDM Vol. 2, PSLL, PSRL, PSRA). */
export const SHIFTS: ReadonlyMap<Mnemonic, (first: Vector, bytes: 8 | 16, count: bigint) => void> =
  new Map([
    [Mnemonic.Psllw, shift('uint16', (value, count) => (count > 15 ? 0 : value << count))],
    [Mnemonic.Pslld, shift('words', (value, count) => (count > 31 ? 0 : value << count))],
    [Mnemonic.Psllq, shift64((value, count) => value << count)],
    [Mnemonic.Psrlw, shift('uint16', (value, count) => (count > 15 ? 0 : value >>> count))],
    [Mnemonic.Psrld, shift('words', (value, count) => (count > 31 ? 0 : value >>> count))],
    [Mnemonic.Psrlq, shift64((value, count) => value >> count)],
    [Mnemonic.Psraw, shift('int16', (value, count) => value >> Math.min(count, 15))],
    [Mnemonic.Psrad, shift('words', (value, count) => value >> Math.min(count, 31))],
    [Mnemonic.Pslldq, shiftBytes(1)],
    [Mnemonic.Psrldq, shiftBytes(-1)],
  ])

function shift(
  view: View,
  compute: (value: number, count: number) => number,
): (first: Vector, bytes: 8 | 16, count: bigint) => void {
  const size = BYTES[view]
  return (first, bytes, count) => {
    const limited = count > 64n ? 64 : Number(count)
    const elements = first[view]
    for (let at = 0; at < bytes / size; at++) elements[at] = compute(elements[at]!, limited)
  }
}

function shift64(
  compute: (value: bigint, count: bigint) => bigint,
): (first: Vector, bytes: 8 | 16, count: bigint) => void {
  return ({ uint64 }, bytes, count) => {
    for (let at = 0; at < bytes / 8; at++) {
      uint64[at] = count > 63n ? 0n : compute(uint64[at]!, count)
    }
  }
}

/** Towards higher bytes with 1, towards lower ones with −1. */
function shiftBytes(direction: 1 | -1): (first: Vector, bytes: 8 | 16, count: bigint) => void {
  return ({ uint8 }, bytes, count) => {
    const distance = direction * (count > 15n ? 16 : Number(count))
    const from = [...uint8]
    for (let at = 0; at < bytes; at++) uint8[at] = from[at - distance] ?? 0
  }
}
