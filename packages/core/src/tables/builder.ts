import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import { PAGE_SIZE, type PhysicalAddress, type VirtualAddress } from '../address.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, type PageFlags } from '../paging/entry.ts'
import { linearPage } from '../paging/linear-page.ts'
import { FOUR_LEVEL, type PagingMode } from '../paging/mode.ts'
import type { Rewind } from '../rewind.ts'
import type { TableDifference } from '../survey/diff.ts'
import { applyDifferences } from './apply.ts'
import { firstDifference } from './copy.ts'
import { type ChangeLeaf, changeLeaves, CLEAR, flagBits, type LeafBits } from './change.ts'
import {
  type ApplyError,
  type ChangeError,
  type MapError,
  type MergeError,
  type ProtectError,
  type SplitError,
  type TableError,
  tableFailure,
  type UnmapError,
} from './failure.ts'
import type { FlushObligation } from './flush.ts'
import type { AllocateTable, ReleaseTable } from './frame-stock.ts'
import { depthOfPages, pageSizes } from './leaf.ts'
import { map, missingTables } from './map.ts'
import { checkRange, type MapOptions, type Mapping, mappingOf } from './mapping.ts'
import { mergeLeaves, refuseSplit, splitLeaf } from './page-size.ts'
import { PAGE_TABLE_FLAGS, TableTree } from './tree.ts'

/** What a builder is for, beside memory and root. */
export interface BuilderOptions {
  /** Default 4-level paging. Any mode with tables will do. */
  readonly mode?: PagingMode
  /**
   * Gets the frames of tables that large pages replace; CPUs may go through them until the obligation is discharged. Left out by who lets several entries lead to
   * one table, below the root.
   */
  readonly release?: ReleaseTable
}

/** How an operation ended: with what is to be flushed, or with why it changed nothing. */
export type TableResult<Failure extends TableError> =
  | { readonly ok: true; readonly flush: FlushObligation }
  | { readonly ok: false; readonly error: Failure }

/**
 * Builds and changes a tree of paging structures in memory. An operation does all that it was asked, or nothing: it looks and allocates first. `try…` says by its
 * result what went wrong, the other form throws it. Either hands back the flush that the change asks for; the builder itself knows no TLB. Sizes are in bytes, ends are
 * exclusive, and a range lies in one half of the address space.
 */
export class PageTableBuilder {
  readonly memory: PhysicalMemory
  readonly mode: PagingMode
  /** Physical address of the root table in bytes. */
  readonly root: PhysicalAddress
  readonly #tree: TableTree

  constructor(
    memory: PhysicalMemory,
    root: PhysicalAddress,
    allocate: AllocateTable,
    options: BuilderOptions = {},
  ) {
    this.memory = memory
    this.mode = options.mode ?? FOUR_LEVEL
    this.root = root
    this.#tree = new TableTree(memory, this.mode, root, allocate, options.release)
  }

  /** Obligations that nobody discharged, the oldest first. */
  get outstanding(): FlushObligation[] {
    return this.#tree.changes.outstanding
  }

  /** Remembers what is outstanding and which frames are ready at this moment. The tables themselves are in memory. */
  checkpoint(): Rewind {
    const { changes, stock } = this.#tree
    const rewinds = [changes.checkpoint(), stock.checkpoint()]
    return () => {
      for (const rewind of rewinds) rewind()
    }
  }

  /** An entry of the root table. */
  rootEntry(index: number): bigint {
    const low = this.#tree.read(this.#tree.rootFrame, 0, index)
    return joinHalves(this.#tree.high, low)
  }

  setRootEntry(index: number, value: bigint): FlushObligation {
    this.#setRootEntry(index, ...halves(value))
    return this.#tree.changes.finish()
  }

  /** Copies root entries `first` up to `end` (exclusive) of other tables of the same mode, as Linux's clone_pgd_range(). */
  copyRootEntries(from: PageTableBuilder, first: number, end: number): FlushObligation {
    const other = from.#tree
    const { memory, rootFrame } = this.#tree
    const isPaged = !this.mode.rootInRegisters && this.mode.entryBytes === 8
    for (let index = first; index < end; index++) {
      // Most are equal already where roots are kept in step.
      if (isPaged) index = firstDifference(memory, other.rootFrame, rootFrame, index, end)
      if (index === end) break
      const low = other.read(other.rootFrame, 0, index)
      this.#setRootEntry(index, low, other.high)
    }
    return this.#tree.changes.finish()
  }

  /**
   * Maps `bytes` from `start` on to the physical range from `physical` on, with the largest pages that alignment and `largestPage` allow. Leaves are made accessed and
   * dirty, as Linux makes them. Tables in which nothing is mapped any more give way to large pages.
   */
  mapRange(
    start: VirtualAddress,
    physical: PhysicalAddress,
    bytes: number,
    options: MapOptions = {},
  ): FlushObligation {
    return this.#flushOf(this.#map(start, physical, bytes, options))
  }

  tryMapRange(
    start: VirtualAddress,
    physical: PhysicalAddress,
    bytes: number,
    options: MapOptions = {},
  ): TableResult<MapError> {
    return this.#result(this.#map(start, physical, bytes, options))
  }

  /** Maps a physical range where it is, by default with the largest pages of the mode. */
  identityMap(start: PhysicalAddress, bytes: number, options: MapOptions = {}): FlushObligation {
    return this.#flushOf(this.#identityMap(start, bytes, options))
  }

  tryIdentityMap(
    start: PhysicalAddress,
    bytes: number,
    options: MapOptions = {},
  ): TableResult<MapError> {
    return this.#result(this.#identityMap(start, bytes, options))
  }

  /** The tables that {@link mapRange} would allocate for a range; with `replace` or without makes no difference. */
  tablesNeeded(
    start: VirtualAddress,
    physical: PhysicalAddress,
    bytes: number,
    options: MapOptions = {},
  ): number {
    const mapping = mappingOf(this.mode, start, physical, bytes, options)
    if ('kind' in mapping) throw tableFailure(mapping)
    return bytes === 0 ? 0 : missingTables(this.#tree, mapping)
  }

  /** Clears the leaves of a range; large pages are split where it ends inside them. Holes are passed over, tables stay. */
  unmapRange(start: VirtualAddress, bytes: number): FlushObligation {
    return this.#flushOf(this.#change(start, bytes, CLEAR, true))
  }

  tryUnmapRange(start: VirtualAddress, bytes: number): TableResult<UnmapError> {
    return this.#result(this.#change(start, bytes, CLEAR, true))
  }

  /**
   * Gives the pages of a range other flags; those left out stay. Large pages are split where it ends inside them. All of it must be
   * mapped. What the tables above take away stays away.
   */
  protectRange(start: VirtualAddress, bytes: number, flags: Partial<PageFlags>): FlushObligation {
    return this.#flushOf(this.#change(start, bytes, flagBits(flags), false))
  }

  tryProtectRange(
    start: VirtualAddress,
    bytes: number,
    flags: Partial<PageFlags>,
  ): TableResult<ProtectError> {
    return this.#result(this.#change(start, bytes, flagBits(flags), false))
  }

  /** As {@link protectRange}, but holes are passed over. */
  protectMapped(start: VirtualAddress, bytes: number, flags: Partial<PageFlags>): FlushObligation {
    return this.#flushOf(this.#change(start, bytes, flagBits(flags), true))
  }

  /** Changes the leaves of a range in any way; large pages are split where it ends inside them. Holes are passed over. */
  changeRange(start: VirtualAddress, bytes: number, change: ChangeLeaf): FlushObligation {
    return this.#flushOf(this.#change(start, bytes, change, true))
  }

  tryChangeRange(
    start: VirtualAddress,
    bytes: number,
    change: ChangeLeaf,
  ): TableResult<ChangeError> {
    return this.#result(this.#change(start, bytes, change, true))
  }

  /** Replaces the large page that holds an address by a table of pages of the next size, which translate as it did. */
  splitPage(address: VirtualAddress): FlushObligation {
    return this.#flushOf(this.#split(address))
  }

  trySplitPage(address: VirtualAddress): TableResult<SplitError> {
    return this.#result(this.#split(address))
  }

  /**
   * Replaces a table of pages by one page of `pageSize` bytes at `address`, which translates as they did, and releases the table. Its pages follow one another in physical
   * memory and have equal flags; the page is accessed or dirty where one of them was.
   */
  mergePages(address: VirtualAddress, pageSize: number): FlushObligation {
    return this.#flushOf(this.#merge(address, pageSize))
  }

  tryMergePages(address: VirtualAddress, pageSize: number): TableResult<MergeError> {
    return this.#result(this.#merge(address, pageSize))
  }

  /** Makes the tables what the other side of {@link diffTables} was; the first was this one, or equal to it. */
  applyDiff(differences: readonly TableDifference[]): FlushObligation {
    return this.#flushOf(applyDifferences(this.#tree, differences))
  }

  tryApplyDiff(differences: readonly TableDifference[]): TableResult<ApplyError> {
    return this.#result(applyDifferences(this.#tree, differences))
  }

  /** Writes a raw page-table entry for the 4 KiB page at `address`, whatever its bits are: what early boot code does without checks. */
  writeEntry(address: VirtualAddress, value: bigint): FlushObligation {
    return this.#flushOf(this.#writeEntry(address, ...halves(value)))
  }

  #map(
    start: VirtualAddress,
    physical: PhysicalAddress,
    bytes: number,
    options: MapOptions,
  ): MapError | undefined {
    const mapping = mappingOf(this.mode, start, physical, bytes, options)
    if ('kind' in mapping) return mapping
    return bytes === 0 ? undefined : map(this.#tree, mapping)
  }

  #identityMap(start: PhysicalAddress, bytes: number, options: MapOptions): MapError | undefined {
    const largestPage = options.largestPage ?? pageSizes(this.mode).at(-1)!
    return this.#map(BigInt(start) as VirtualAddress, start, bytes, { ...options, largestPage })
  }

  #change(
    start: VirtualAddress,
    bytes: number,
    how: ChangeLeaf | LeafBits,
    skipHoles: true,
  ): ChangeError | undefined
  #change(
    start: VirtualAddress,
    bytes: number,
    how: ChangeLeaf | LeafBits,
    skipHoles: boolean,
  ): ProtectError | undefined
  #change(
    start: VirtualAddress,
    bytes: number,
    how: ChangeLeaf | LeafBits,
    skipHoles: boolean,
  ): ProtectError | undefined {
    const first = linearPage(this.mode, start)
    const end = first + bytes / PAGE_SIZE
    const error = checkRange(this.mode, start, first, bytes)
    if (error !== undefined || bytes === 0) return error
    return changeLeaves(this.#tree, { first, end, how, skipHoles })
  }

  #split(address: VirtualAddress): SplitError | undefined {
    const tree = this.#tree
    const page = linearPage(this.mode, address)
    if (page < 0) return { kind: 'out-of-range', what: 'address', start: address, bytes: 1 }
    const { table, depth, index, first, low } = tree.locate(page, this.mode.levels.length - 1)
    if ((low & Entry.Present) === 0) return { kind: 'not-mapped', address }
    const error = refuseSplit(tree, depth, low, first) ?? tree.stock.reserve(1)
    if (error === undefined) splitLeaf(tree, table, depth, index, first)
    return error
  }

  #merge(address: VirtualAddress, pageSize: number): MergeError | undefined {
    const goal = depthOfPages(this.mode, pageSize)
    if (goal < 0 || pageSize === PAGE_SIZE) {
      return { kind: 'bad-page-size', pageSize, known: pageSizes(this.mode).slice(1) }
    }
    const page = linearPage(this.mode, address)
    if (page < 0) return { kind: 'out-of-range', what: 'address', start: address, bytes: pageSize }
    if (address % BigInt(pageSize) !== 0n) {
      return { kind: 'misaligned', what: 'address', value: address, alignment: pageSize }
    }
    const tree = this.#tree
    const { table, depth, index, low } = tree.locate(page, goal)
    if ((low & Entry.Present) === 0) return { kind: 'not-mapped', address }
    if (tree.isLeaf(depth, low)) return { kind: 'not-mergeable', address, reason: 'no-table' }
    return mergeLeaves(tree, table, depth, index, page)
  }

  #writeEntry(address: VirtualAddress, low: number, high: number): MapError | undefined {
    const tree = this.#tree
    const first = linearPage(this.mode, address)
    if (first < 0) {
      return { kind: 'out-of-range', what: 'address', start: address, bytes: PAGE_SIZE }
    }
    const last = this.mode.levels.length - 1
    if (tree.locate(first, last).depth < last) {
      // A mapping of the page makes the tables that are missing; the entry then takes its place.
      const error = map(tree, { ...ANY_PAGE, first, end: first + 1 })
      if (error !== undefined) return error
    }
    const { table, index, low: before } = tree.locate(first, last)
    const isSame = before === low && tree.high === high
    if ((before & Entry.Present) !== 0 && !isSame) tree.changes.add(first, 1, 1)
    tree.write(table, last, index, low, high)
    return undefined
  }

  #setRootEntry(index: number, low: number, high: number): void {
    const tree = this.#tree
    const before = tree.read(tree.rootFrame, 0, index)
    if (before === low && tree.high === high) return
    const { frames } = tree.level(0)
    if ((before & Entry.Present) !== 0) {
      if (tree.isLeaf(0, before)) tree.changes.add(index * frames, frames, frames)
      else tree.changes.addTable(index * frames, frames)
    }
    tree.write(tree.rootFrame, 0, index, low, high)
  }

  #result<Failure extends TableError>(error: Failure | undefined): TableResult<Failure> {
    return error === undefined
      ? { ok: true, flush: this.#tree.changes.finish() }
      : { ok: false, error }
  }

  #flushOf(error: TableError | undefined): FlushObligation {
    if (error !== undefined) throw tableFailure(error)
    return this.#tree.changes.finish()
  }
}

/** The halves of an entry. */
function halves(value: bigint): [low: number, high: number] {
  return [lowHalf(value), highHalf(value)]
}

const ANY_PAGE: Omit<Mapping, 'first' | 'end'> = {
  frame: 0,
  flags: 0,
  flagsHigh: 0,
  tableFlags: PAGE_TABLE_FLAGS,
  largest: 1,
  replace: true,
}
