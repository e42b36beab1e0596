import {
  formatAddress,
  isCanonical,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PHYSICAL_ADDRESS_LIMIT,
  type PhysicalAddress,
  type VirtualAddress,
} from '../address.ts'
import { CoreError } from '../error.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, entryFrame, frameHigh, frameLow, type PageFlags } from './entry.ts'
import { FOUR_LEVEL, levelIndex } from './mode.ts'

/** Hands out a frame for a new page table, and says why not by throwing. */
export type AllocateTable = () => number

/** Gets the halves of a leaf and returns those to put in its place, or undefined to clear it. */
export type ChangeLeaf = (
  low: number,
  high: number,
) => readonly [low: number, high: number] | undefined

/** Flags that {@link PageTableBuilder.mapRange} takes; those left out are false, but `writable`, which is true. */
export type MapOptions = Partial<PageFlags> & {
  /** The largest page to use, in bytes: 4096, 2^21 or 2^30. Default 4096. */
  readonly largestPage?: number
  /** Whether an entry that maps something already may be replaced. Default false: CORE_ALREADY_MAPPED. */
  readonly replace?: boolean
  /** Flags of the tables that have to be made; default P, R/W, U/S, A, D as Linux's _PAGE_TABLE. */
  readonly tableFlags?: number
}

/** Present, writable, user, accessed, dirty: Linux's _PAGE_TABLE (arch/x86/include/asm/pgtable_types.h). */
export const PAGE_TABLE_FLAGS = 0x67

const LEAF_DEPTHS: Readonly<Record<number, number>> = {
  [PAGE_SIZE]: 3,
  [PAGE_SIZE_2M]: 2,
  [PAGE_SIZE_1G]: 1,
}

/**
 * Builds and changes a tree of 4-level paging structures in memory. It knows no TLB: whoever changes what a CPU may have cached
 * flushes it. Sizes are in bytes, ends are exclusive.
 */
export class PageTableBuilder {
  /** Physical address of the root table in bytes. */
  readonly root: PhysicalAddress
  readonly #memory: PhysicalMemory
  readonly #allocate: AllocateTable

  constructor(memory: PhysicalMemory, root: PhysicalAddress, allocate: AllocateTable) {
    this.root = root
    this.#memory = memory
    this.#allocate = allocate
  }

  /** An entry of the root table, 0 to 511. */
  rootEntry(index: number): bigint {
    return this.#memory.read64(this.root + index * 8)
  }

  setRootEntry(index: number, value: bigint): void {
    this.#memory.write64(this.root + index * 8, value)
  }

  /** Copies root entries `first` up to `end` (exclusive) of other tables in the same memory, as Linux's clone_pgd_range(). */
  copyRootEntries(from: PageTableBuilder, first: number, end: number): void {
    const entries = this.#memory.read(from.root + first * 8, (end - first) * 8)
    this.#memory.write(this.root + first * 8, entries)
  }

  /**
   * Maps `bytes` from `start` to the physical range from `physical`, with the largest pages that alignment and `largestPage` allow.
   * All three are page aligned, else CORE_MISALIGNED; the range lies in one half of the address space, else CORE_BAD_RANGE. Leaves are made accessed and dirty, as Linux makes them.
   */
  mapRange(
    start: VirtualAddress,
    physical: PhysicalAddress,
    bytes: number,
    options: MapOptions = {},
  ): void {
    const largest = options.largestPage ?? PAGE_SIZE
    if (LEAF_DEPTHS[largest] === undefined) {
      throw new CoreError('CORE_BAD_RANGE', {
        expected: 'a page of 4 KiB, 2 MiB or 1 GiB',
        found: `${largest} bytes`,
      })
    }
    checkRange(start, bytes)
    if (physical % PAGE_SIZE !== 0) {
      throw new CoreError('CORE_MISALIGNED', {
        expected: 'a physical address at the start of a page',
        found: formatAddress(physical),
      })
    }
    if (physical + bytes > PHYSICAL_ADDRESS_LIMIT) {
      throw new CoreError('CORE_BAD_RANGE', {
        expected: 'physical addresses below 2^52',
        found: `${bytes} bytes from ${formatAddress(physical)}`,
      })
    }
    const flagsLow = leafFlags(options)
    const flagsHigh = options.executable === true ? 0 : Entry.NoExecuteHigh
    const tableFlags = options.tableFlags ?? PAGE_TABLE_FLAGS
    let high = Number(BigInt.asUintN(32, start >> 32n)) | 0
    let low = Number(BigInt.asUintN(32, start)) | 0
    let frame = physical / PAGE_SIZE
    let left = bytes / PAGE_SIZE
    while (left > 0) {
      const depth = leafDepth(low, frame, left, largest)
      const level = FOUR_LEVEL.levels[depth]!
      const table = this.#descend(high, low, depth, tableFlags)
      const firstIndex = levelIndex(high, low, level.shift)
      // One inner loop fills as much of this table as the range covers.
      const inTable =
        depth === 3
          ? Math.min(left, 512 - firstIndex)
          : Math.min(Math.floor(left / level.frames), 512 - firstIndex)
      this.#fillLeaves(table, depth, firstIndex, inTable, frame, flagsLow, flagsHigh, options)
      const done = inTable * level.frames
      frame += done
      left -= done
      const next = (low >>> 0) + done * PAGE_SIZE
      high = (high + Math.floor(next / 2 ** 32)) | 0
      low = next | 0
    }
  }

  /** Writes a raw page-table entry for the 4 KiB page at `address`, whatever its bits are: what early boot code does without checks. */
  writeEntry(address: VirtualAddress, value: bigint): void {
    const high = Number(BigInt.asUintN(32, address >> 32n)) | 0
    const low = Number(BigInt.asUintN(32, address)) | 0
    const table = this.#descend(high, low, 3, PAGE_TABLE_FLAGS)
    this.#memory.write64(table * PAGE_SIZE + levelIndex(high, low, 12) * 8, value)
  }

  /** Clears the leaves of a range of whole pages; large pages are split where the range ends inside them. Holes are passed over. */
  unmapRange(start: VirtualAddress, bytes: number): void {
    this.changeRange(start, bytes, () => undefined)
  }

  /**
   * Changes the leaves of a range, splitting large pages where it ends inside them. Holes are passed over.
   */
  changeRange(start: VirtualAddress, bytes: number, change: ChangeLeaf): void {
    checkRange(start, bytes)
    let address: bigint = start
    const end = start + BigInt(bytes)
    while (address < end) {
      const high = Number(BigInt.asUintN(32, address >> 32n)) | 0
      const low = Number(BigInt.asUintN(32, address)) | 0
      const leaf = this.#findLeaf(high, low, end - address)
      // The page-table entries that follow are changed without walking to their table again.
      const pages = Number((end - address + 0xfffn) >> 12n)
      const count = leaf.isLast ? Math.min(pages, 512 - leaf.index) : 1
      this.#changeLeaves(leaf.table, leaf.index, count, change)
      const size = BigInt(leaf.frames) * 4096n
      address = (address & ~(size - 1n)) + BigInt(count) * size
    }
  }

  #changeLeaves(table: number, first: number, count: number, change: ChangeLeaf): void {
    const own = this.#memory.locateForWrite(table)
    const { base } = this.#memory
    for (let at = base + first * 2; at < base + (first + count) * 2; at += 2) {
      if ((own[at]! & Entry.Present) === 0) continue
      const changed = change(own[at]!, own[at + 1]!)
      own[at] = changed?.[0] ?? 0
      own[at + 1] = changed?.[1] ?? 0
    }
  }

  #fillLeaves(
    table: number,
    depth: number,
    firstIndex: number,
    count: number,
    firstFrame: number,
    flagsLow: number,
    flagsHigh: number,
    options: MapOptions,
  ): void {
    const words = this.#memory.locateForWrite(table)
    const base = this.#memory.base
    const step = FOUR_LEVEL.levels[depth]!.frames
    const low = flagsLow | (depth === 3 ? 0 : Entry.PageSize)
    const replace = options.replace === true
    let frame = firstFrame
    for (let index = firstIndex; index < firstIndex + count; index++) {
      const at = base + index * 2
      if (!replace && (words[at]! & Entry.Present) !== 0) throw alreadyMapped(table, index)
      words[at] = frameLow(frame) | low
      words[at + 1] = frameHigh(frame) | flagsHigh
      frame += step
    }
  }

  /** The frame of the table at `depth` that maps an address, with all above it, made where missing; a large page in the way is split. */
  #descend(high: number, low: number, depth: number, tableFlags: number): number {
    let table = this.root / PAGE_SIZE
    for (let at = 0; at < depth; at++) {
      const level = FOUR_LEVEL.levels[at]!
      const index = levelIndex(high, low, level.shift)
      const words = this.#memory.locate(table)
      const entryLow = words[this.#memory.base + index * 2]!
      const entryHigh = words[this.#memory.base + index * 2 + 1]!
      if ((entryLow & Entry.Present) === 0) {
        table = this.#newTable(table, index, tableFlags)
      } else if (at > 0 && (entryLow & Entry.PageSize) !== 0) {
        table = this.#split(table, index, at)
      } else {
        table = entryFrame(entryLow, entryHigh)
      }
    }
    return table
  }

  #newTable(parent: number, index: number, flags: number): number {
    const frame = this.#allocate()
    this.#memory.clearFrame(frame)
    const own = this.#memory.locateForWrite(parent)
    own[this.#memory.base + index * 2] = frameLow(frame) | flags
    own[this.#memory.base + index * 2 + 1] = frameHigh(frame)
    return frame
  }

  /** Replaces the large page at an entry by a table of 512 pages of the next size with the same flags; the table itself takes no right away. */
  #split(parent: number, index: number, depth: number): number {
    const words = this.#memory.locate(parent)
    const low = words[this.#memory.base + index * 2]!
    const high = words[this.#memory.base + index * 2 + 1]!
    const level = FOUR_LEVEL.levels[depth]!
    const below = FOUR_LEVEL.levels[depth + 1]!
    const frame = this.#newTable(parent, index, PAGE_TABLE_FLAGS)
    const pat = (low & Entry.PatLarge) !== 0
    const flags =
      depth + 1 === 3
        ? (low & 0x17f) | (pat ? Entry.Pat4K : 0)
        : (low & 0x1ff) | (pat ? Entry.PatLarge : 0)
    let target = entryFrame(low, high)
    target -= target % level.frames
    const own = this.#memory.locateForWrite(frame)
    const base = this.#memory.base
    for (let at = 0; at < 512; at++) {
      own[base + at * 2] = frameLow(target) | flags
      own[base + at * 2 + 1] = frameHigh(target) | (high & Entry.NoExecuteHigh)
      target += below.frames
    }
    return frame
  }

  /** The leaf, or the hole, at an address; a large page that starts before the address or ends after `room` bytes is split first. */
  #findLeaf(
    high: number,
    low: number,
    room: bigint,
  ): { isLast: boolean; table: number; index: number; frames: number } {
    let table = this.root / PAGE_SIZE
    for (let depth = 0; ; depth++) {
      const level = FOUR_LEVEL.levels[depth]!
      const index = levelIndex(high, low, level.shift)
      const words = this.#memory.locate(table)
      const entryLow = words[this.#memory.base + index * 2]!
      const entryHigh = words[this.#memory.base + index * 2 + 1]!
      if ((entryLow & Entry.Present) === 0) {
        return { isLast: depth === 3, table, index, frames: level.frames }
      }
      if (depth === 3) return { isLast: true, table, index, frames: 1 }
      if (depth > 0 && (entryLow & Entry.PageSize) !== 0) {
        const within = ((high << 20) | (low >>> 12)) & (level.frames - 1)
        if (within === 0 && room >= BigInt(level.frames) * 4096n) {
          return { isLast: false, table, index, frames: level.frames }
        }
        table = this.#split(table, index, depth)
      } else {
        table = entryFrame(entryLow, entryHigh)
      }
    }
  }
}

function leafFlags(options: MapOptions): number {
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

/** The level whose leaf suits an address, a frame and what is left of the range, all in pages of 4 KiB. */
function leafDepth(low: number, frame: number, left: number, largest: number): number {
  const page = low >>> 12
  if (largest >= PAGE_SIZE_1G && ((page | frame) & 0x3_ffff) === 0 && left >= 0x4_0000) return 1
  if (largest >= PAGE_SIZE_2M && ((page | frame) & 0x1ff) === 0 && left >= 0x200) return 2
  return 3
}

/** Whether a range consists of whole pages and does not leave the half of the address space that it starts in. */
function checkRange(start: VirtualAddress, bytes: number): void {
  if (bytes % PAGE_SIZE !== 0 || start % 4096n !== 0n) {
    throw new CoreError('CORE_MISALIGNED', {
      expected: 'whole pages',
      found: `${bytes} bytes at ${formatAddress(start)}`,
    })
  }
  const last = start + BigInt(bytes) - 1n
  if (bytes < 0 || (bytes > 0 && (!isCanonical(last) || last >> 63n !== start >> 63n))) {
    throw new CoreError('CORE_BAD_RANGE', {
      expected: 'a range within one half of the address space',
      found: `${bytes} bytes at ${formatAddress(start)}`,
    })
  }
}

function alreadyMapped(table: number, index: number): CoreError {
  return new CoreError('CORE_ALREADY_MAPPED', {
    expected: 'an entry that maps nothing',
    found: `a present entry at index ${index} of the table at ${formatAddress(table * PAGE_SIZE)}`,
    hint: 'pass replace: true to change a mapping',
  })
}
