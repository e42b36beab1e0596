import { Mnemonic } from 'iced-x86'

import type { Vector, VectorOperation } from './vector.ts'

type View = 'uint8' | 'uint16' | 'words' | 'uint64'
const BYTES: Readonly<Record<View, number>> = { uint8: 1, uint16: 2, words: 4, uint64: 8 }

/** Elements of the lower or the upper halves of both operands, by turns (PUNPCKL, PUNPCKH, UNPCKLPS and so on). */
function interleave(view: View, half: 'low' | 'high'): VectorOperation {
  return (first, second, bytes) => {
    const count = bytes / BYTES[view]
    const start = half === 'low' ? 0 : count / 2
    const [a, b] = [first[view].slice(), second[view]]
    for (let at = 0; at < count / 2; at++) {
      first[view][2 * at] = a[start + at]!
      first[view][2 * at + 1] = b[start + at]!
    }
  }
}

/** Elements of the second operand chosen by two bits each; the others are taken over as they are. */
function shuffle(view: 'uint16' | 'words', from: number): VectorOperation {
  return (first, second, _, immediate) => {
    const source = second[view].slice()
    first.words.set(second.words)
    for (let at = 0; at < 4; at++) {
      first[view][from + at] = source[from + ((immediate >> (2 * at)) & 3)]!
    }
  }
}

/** PSHUFB: a byte of the first operand for each of the second, 0 where that is negative. */
const shuffleBytes: VectorOperation = ({ uint8 }, second, bytes) => {
  const from = uint8.slice()
  for (let at = 0; at < bytes; at++) {
    const chosen = second.uint8[at]!
    uint8[at] = chosen >= 0x80 ? 0 : from[chosen & (bytes - 1)]!
  }
}

const shuffleSingles: VectorOperation = ({ words }, second, _, immediate) => {
  const [a, b] = [words.slice(), second.words.slice()]
  for (let at = 0; at < 4; at++) words[at] = (at < 2 ? a : b)[(immediate >> (2 * at)) & 3]!
}

const shuffleDoubles: VectorOperation = ({ uint64 }, second, _, immediate) => {
  const low = uint64[immediate & 1]!
  uint64[1] = second.uint64[(immediate >> 1) & 1]!
  uint64[0] = low
}

/** PALIGNR: both operands in a row, the first above the second, shifted right by bytes. */
const align: VectorOperation = (first, second, bytes, immediate) => {
  const row = [...second.uint8.subarray(0, bytes), ...first.uint8.subarray(0, bytes)]
  for (let at = 0; at < bytes; at++) first.uint8[at] = row[at + immediate] ?? 0
}

/** Elements of the second operand where a bit of the immediate is set. */
function blend(view: 'uint16' | 'words' | 'uint64'): VectorOperation {
  return (first, second, bytes, immediate) => {
    for (let at = 0; at < bytes / BYTES[view]; at++) {
      if (((immediate >> at) & 1) !== 0) first[view][at] = second[view][at]!
    }
  }
}

/** INSERTPS: an element of the second operand, and zeros where the low bits of the immediate say so. */
export function insertSingle(first: Vector, element: number, immediate: number): void {
  first.words[(immediate >> 4) & 3] = element
  for (let at = 0; at < 4; at++) if (((immediate >> at) & 1) !== 0) first.words[at] = 0
}

/** Elements of the second operand in pairs: MOVDDUP, MOVSLDUP, MOVSHDUP. */
function duplicate(places: readonly number[]): VectorOperation {
  return (first, second) => {
    const from = second.words.slice()
    for (const [at, place] of places.entries()) first.words[at] = from[place]!
  }
}

/** Elements of the second operand widened, with their sign or with zeros (PMOVSX, PMOVZX). */
function widen(
  from: 'int8' | 'uint8' | 'int16' | 'uint16' | 'words' | 'uint32',
  to: 'int16' | 'words' | 'uint64',
): VectorOperation {
  const count = to === 'int16' ? 8 : to === 'words' ? 4 : 2
  return (first, second) => {
    const source = [...second[from].subarray(0, count)]
    for (const [at, value] of source.entries()) {
      if (to === 'uint64') first.uint64[at] = BigInt.asUintN(64, BigInt(value))
      else first[to][at] = value
    }
  }
}

/** Instructions that put elements elsewhere, and compute nothing (SDM Vol. 2). */
export const REARRANGEMENTS: ReadonlyMap<Mnemonic, VectorOperation> = new Map<
  Mnemonic,
  VectorOperation
>([
  [Mnemonic.Punpcklbw, interleave('uint8', 'low')],
  [Mnemonic.Punpcklwd, interleave('uint16', 'low')],
  [Mnemonic.Punpckldq, interleave('words', 'low')],
  [Mnemonic.Punpcklqdq, interleave('uint64', 'low')],
  [Mnemonic.Punpckhbw, interleave('uint8', 'high')],
  [Mnemonic.Punpckhwd, interleave('uint16', 'high')],
  [Mnemonic.Punpckhdq, interleave('words', 'high')],
  [Mnemonic.Punpckhqdq, interleave('uint64', 'high')],
  [Mnemonic.Unpcklps, interleave('words', 'low')],
  [Mnemonic.Unpckhps, interleave('words', 'high')],
  [Mnemonic.Unpcklpd, interleave('uint64', 'low')],
  [Mnemonic.Unpckhpd, interleave('uint64', 'high')],
  [Mnemonic.Pshufd, shuffle('words', 0)],
  [Mnemonic.Pshuflw, shuffle('uint16', 0)],
  [Mnemonic.Pshufhw, shuffle('uint16', 4)],
  [Mnemonic.Pshufw, shuffle('uint16', 0)],
  [Mnemonic.Pshufb, shuffleBytes],
  [Mnemonic.Shufps, shuffleSingles],
  [Mnemonic.Shufpd, shuffleDoubles],
  [Mnemonic.Palignr, align],
  [Mnemonic.Pblendw, blend('uint16')],
  [Mnemonic.Blendps, blend('words')],
  [Mnemonic.Blendpd, blend('uint64')],
  [Mnemonic.Movddup, duplicate([0, 1, 0, 1])],
  [Mnemonic.Movsldup, duplicate([0, 0, 2, 2])],
  [Mnemonic.Movshdup, duplicate([1, 1, 3, 3])],
  [Mnemonic.Pmovsxbw, widen('int8', 'int16')],
  [Mnemonic.Pmovsxbd, widen('int8', 'words')],
  [Mnemonic.Pmovsxbq, widen('int8', 'uint64')],
  [Mnemonic.Pmovsxwd, widen('int16', 'words')],
  [Mnemonic.Pmovsxwq, widen('int16', 'uint64')],
  [Mnemonic.Pmovsxdq, widen('words', 'uint64')],
  [Mnemonic.Pmovzxbw, widen('uint8', 'int16')],
  [Mnemonic.Pmovzxbd, widen('uint8', 'words')],
  [Mnemonic.Pmovzxbq, widen('uint8', 'uint64')],
  [Mnemonic.Pmovzxwd, widen('uint16', 'words')],
  [Mnemonic.Pmovzxwq, widen('uint16', 'uint64')],
  [Mnemonic.Pmovzxdq, widen('uint32', 'uint64')],
])
