import type { PhysicalAddress, VirtualAddress } from '../address.ts'
import { FOUR_LEVEL, type PagingLevel, type PagingMode } from '../paging/mode.ts'
import { tableFailure } from './failure.ts'
import { leafBit } from './leaf.ts'
import { type MapOptions, mappingOf } from './mapping.ts'

/** What decides how many tables a mapping takes. */
export type TableCountOptions = Pick<MapOptions, 'largestPage'> & {
  /** Default 4-level paging. */
  readonly mode?: PagingMode
}

/**
 * The tables that {@link PageTableBuilder.mapRange} allocates for a range below an empty root, the root itself not counted. It takes as long for any range, and throws
 * what mapRange() throws of its arguments.
 */
export function tablesNeeded(
  start: VirtualAddress,
  physical: PhysicalAddress,
  bytes: number,
  options: TableCountOptions = {},
): number {
  const { levels } = options.mode ?? FOUR_LEVEL
  const mapping = mappingOf(options.mode ?? FOUR_LEVEL, start, physical, bytes, options)
  if ('kind' in mapping) throw tableFailure(mapping)
  const { first, end, frame, largest } = mapping
  return bytes === 0
    ? 0
    : countTables(levels, leafDepths(levels, largest, frame - first), 0, first, end)
}

/** The depths, as bits, at which leaves may map pages whose frames lie `distance` further than the pages, of at most `largest` pages of 4 KiB. */
export function leafDepths(
  levels: readonly PagingLevel[],
  largest: number,
  distance: number,
): number {
  let depths = 0
  for (let depth = 0; depth < levels.length; depth++) {
    const level = levels[depth]!
    if (level.frames > largest || leafBit(level) === 0) continue
    // A remainder of numbers beyond 31 bits would cost as much as the rest of a small mapping.
    const pages = distance / level.frames
    if (pages === Math.floor(pages)) depths |= 1 << depth
  }
  return depths
}

/**
 * The tables that it takes, below an empty one at `depth`, to map pages `first` up to `end` (exclusive, numbers of 4 KiB pages) with the largest leaves that the depths in
 * `leaves` allow. Exact, at the cost of one step a level: at each, what lies between the first and the last whole leaf needs no tables.
 */
export function countTables(
  levels: readonly PagingLevel[],
  leaves: number,
  depth: number,
  first: number,
  end: number,
): number {
  let tables = 0
  // The pages that larger leaves map.
  let mappedFirst = 0
  let mappedEnd = 0
  for (let at = depth; at < levels.length - 1; at++) {
    const { frames } = levels[at]!
    const entries = Math.ceil(end / frames) - Math.floor(first / frames)
    if ((leaves & (1 << at)) !== 0) {
      const wholeFirst = Math.ceil(first / frames) * frames
      const wholeEnd = Math.floor(end / frames) * frames
      if (wholeFirst < wholeEnd) {
        mappedFirst = wholeFirst
        mappedEnd = wholeEnd
      }
    }
    tables += entries - (mappedEnd - mappedFirst) / frames
  }
  return tables
}
