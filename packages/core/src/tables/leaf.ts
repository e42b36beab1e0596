import { Entry, entryFrame, frameHigh, frameLow } from '../paging/entry.ts'
import type { PagingLevel, PagingMode } from '../paging/mode.ts'

/** The flag that makes a present entry of a level a leaf: P at the last, PS where there are large pages, else none. */
export function leafBit({ pageSize }: PagingLevel): number {
  if (pageSize === 'pte') return Entry.Present
  return pageSize === 'leaf' || pageSize === 'leaf-with-1g' ? Entry.PageSize : 0
}

/** The sizes of a mode's pages in bytes, the smallest first. */
export function pageSizes(mode: PagingMode): number[] {
  return mode.levels
    .filter((level) => leafBit(level) !== 0)
    .map(({ frames }) => frames * 4096)
    .toReversed()
}

/** The depth of a mode's level whose leaves are pages of so many bytes; -1 where there is none. */
export function depthOfPages({ levels }: PagingMode, bytes: number): number {
  for (let depth = levels.length - 1; depth >= 0; depth--) {
    if (levels[depth]!.frames * 4096 === bytes) return leafBit(levels[depth]!) === 0 ? -1 : depth
  }
  return -1
}

/** Low-half bits of a leaf that are not its address, with PS and the PAT bit where a 4 KiB page has them. */
const FLAGS = 0xfff
/** Bits 63 to 52: NX, the protection key and what software may use. */
const FLAGS_HIGH = -0x10_0000
/** Where bit 32 of a 4 MiB page's address lies (SDM Vol. 3, table 4-4). */
const PSE36_SHIFT = 13
const PSE36_MASK = 0xff

/** Flags of a leaf apart from how its size is told: bit 7 is the PAT bit, as in a 4 KiB page. */
export function leafFlags(level: PagingLevel, low: number): number {
  if (level.pageSize === 'pte') return low & FLAGS
  return (low & FLAGS & ~Entry.PageSize) | ((low & Entry.PatLarge) === 0 ? 0 : Entry.Pat4K)
}

/** Flags in the high half of a leaf. */
export function leafFlagsHigh(high: number): number {
  return high & FLAGS_HIGH
}

/** The low half of a leaf with flags as {@link leafFlags} gives them. */
export function leafLow(
  mode: PagingMode,
  level: PagingLevel,
  frame: number,
  flags: number,
): number {
  if (level.pageSize === 'pte') return frameLow(frame) | flags
  const pat = (flags & Entry.Pat4K) === 0 ? 0 : Entry.PatLarge
  const pse36 = mode.entryBytes === 4 ? (frameHigh(frame) & PSE36_MASK) << PSE36_SHIFT : 0
  return frameLow(frame) | pse36 | flags | Entry.PageSize | pat
}

/** The frame that a leaf maps, or the first of them. */
export function leafFrame(mode: PagingMode, level: PagingLevel, low: number, high: number): number {
  const frame = entryFrame(low, high)
  const pse36 =
    mode.entryBytes === 4 && level.pageSize !== 'pte' ? (low >>> PSE36_SHIFT) & PSE36_MASK : 0
  return frame - (frame % level.frames) + pse36 * 0x10_0000
}

/**
 * Writes `count` leaves from word `first` on, the first with these halves, each `bytes` further in physical memory. One inner loop of 32-bit arithmetic (`| 0` is what
 * tells the engine so: without it the loop takes five times as long). As leaves are aligned, a low half without address bits is a carry out of it.
 */
export function fillLeaves(
  words: Int32Array,
  first: number,
  count: number,
  entryWords: number,
  firstLow: number,
  firstHigh: number,
  bytes: number,
): void {
  const step = bytes | 0
  const addressBits = -step | 0
  let low = firstLow | 0
  let high = firstHigh | 0
  if (entryWords === 2) {
    for (let at = first | 0; at < first + count * 2; at += 2) {
      words[at] = low
      words[at + 1] = high
      low = (low + step) | 0
      high = (high + ((low & addressBits) === 0 ? 1 : 0)) | 0
    }
  } else {
    for (let at = first | 0; at < first + count; at++) {
      words[at] = low
      low = (low + step) | 0
      low = (low + ((low & addressBits) === 0 ? 1 << PSE36_SHIFT : 0)) | 0
    }
  }
}

/** The first word from `first` up to `end` (exclusive) whose entry is present, or `end`. */
export function firstPresent(
  words: Int32Array,
  first: number,
  end: number,
  entryWords: number,
): number {
  for (let at = first; at < end; at += entryWords) {
    if ((words[at]! & Entry.Present) !== 0) return at
  }
  return end
}
