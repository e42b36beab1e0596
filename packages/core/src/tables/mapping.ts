import { PAGE_SIZE } from '../address.ts'
import { Entry, type PageFlags } from '../paging/entry.ts'
import { halfPages, linearPage, offsetInPage } from '../paging/linear-page.ts'
import type { PagingMode } from '../paging/mode.ts'
import type { BadPageSize, Misaligned, OutOfRange } from './failure.ts'
import { depthOfPages, pageSizes } from './leaf.ts'
import { PAGE_TABLE_FLAGS } from './tree.ts'

/** How to map: flags that are left out are false, but `writable`, which is true. Modes with 32-bit entries execute everything. */
export type MapOptions = Partial<PageFlags> & {
  /** The largest page to use, in bytes, one of the mode's. Default 4096. */
  readonly largestPage?: number
  /** Whether what is mapped already may be replaced. Default false: `already-mapped`. */
  readonly replace?: boolean
  /** Flags of the tables that have to be made; default P, R/W, U/S, A, D as Linux's _PAGE_TABLE. */
  readonly tableFlags?: number
}

/** A mapping to make. Pages and frames are numbers of 4 KiB pages, ends exclusive. */
export interface Mapping {
  readonly first: number
  readonly end: number
  /** The frame that the first page is mapped to. */
  readonly frame: number
  readonly flags: number
  readonly flagsHigh: number
  readonly tableFlags: number
  /** Pages of 4 KiB in the largest page to use. */
  readonly largest: number
  readonly replace: boolean
}

/** The mapping that {@link PageTableBuilder.mapRange} is asked for, or what is wrong with its arguments. */
export function mappingOf(
  mode: PagingMode,
  start: bigint,
  physical: number,
  bytes: number,
  options: MapOptions,
): Mapping | Misaligned | OutOfRange | BadPageSize {
  const pageSize = options.largestPage ?? PAGE_SIZE
  if (depthOfPages(mode, pageSize) < 0) {
    return { kind: 'bad-page-size', pageSize, known: pageSizes(mode) }
  }
  const first = linearPage(mode, start)
  const error = checkRange(mode, start, first, bytes)
  if (error !== undefined) return error
  const frame = physical / PAGE_SIZE
  if (frame !== Math.floor(frame)) {
    return { kind: 'misaligned', what: 'physical address', value: physical, alignment: PAGE_SIZE }
  }
  if (physical < 0 || physical + bytes > physicalLimit(mode, start, physical, bytes, pageSize)) {
    return { kind: 'out-of-range', what: 'physical address', start: physical, bytes }
  }
  return {
    first,
    end: first + bytes / PAGE_SIZE,
    frame,
    flags: leafFlagsOf(options),
    flagsHigh: options.executable === true || mode.entryBytes === 4 ? 0 : Entry.NoExecuteHigh,
    tableFlags: options.tableFlags ?? PAGE_TABLE_FLAGS,
    largest: pageSize / PAGE_SIZE,
    replace: options.replace === true,
  }
}

/** Why `bytes` from `start` on, an address in page `first`, are not whole pages of one half of the address space. */
export function checkRange(
  mode: PagingMode,
  start: bigint,
  first: number,
  bytes: number,
): Misaligned | OutOfRange | undefined {
  const pages = bytes / PAGE_SIZE
  if (pages !== Math.floor(pages)) {
    return { kind: 'misaligned', what: 'length', value: bytes, alignment: PAGE_SIZE }
  }
  const half = halfPages(mode)
  if (first < 0 || bytes < 0 || first + pages > (first < half ? half : 2 * half)) {
    return { kind: 'out-of-range', what: 'address', start, bytes }
  }
  if (offsetInPage(start) !== 0) {
    return { kind: 'misaligned', what: 'address', value: start, alignment: PAGE_SIZE }
  }
  return undefined
}

/** One more than the highest physical address that a mode's entries can point to: 2^52, 2^32, or 2^40 for 4 MiB pages (PSE-36). */
function physicalLimit(
  mode: PagingMode,
  start: bigint,
  physical: number,
  bytes: number,
  pageSize: number,
): number {
  if (mode.entryBytes === 8) return 2 ** 52
  const isLarge =
    pageSize > PAGE_SIZE &&
    [Number(start), physical, bytes].every((value) => value % pageSize === 0)
  return isLarge ? 2 ** 40 : 2 ** 32
}

function leafFlagsOf(options: MapOptions): number {
  return (
    Entry.Present |
    Entry.Accessed |
    Entry.Dirty |
    (options.writable === false ? 0 : Entry.Writable) |
    (options.user === true ? Entry.User : 0) |
    (options.global === true ? Entry.Global : 0) |
    (options.writeThrough === true ? Entry.WriteThrough : 0) |
    (options.cacheDisable === true ? Entry.CacheDisable : 0)
  )
}
