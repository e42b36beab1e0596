import { joinHalves } from '../halves.ts'
import type { VirtualAddress } from '../address.ts'
import { CoreError } from '../error.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, entryFrame } from '../paging/entry.ts'
import { linearAddress } from '../paging/linear-page.ts'
import type { PagingLevel, PagingMode } from '../paging/mode.ts'
import { leafBit } from '../tables/leaf.ts'

/** A tree of paging structures as bytes: no CPU judges its entries. A builder and a translation context both are one. */
export interface TableRoot {
  readonly memory: PhysicalMemory
  readonly mode: PagingMode
  /** Physical address of the root table in bytes. */
  readonly root: number
}

/** What an entry is: nothing (all zeros), an entry that leads to a table, or a value: a leaf, or bits without P. */
export type EntryContent = 'nothing' | 'table' | 'value'

/** The first entry of a run, and how the others follow from it. */
export interface EntryRun {
  readonly content: EntryContent
  /** The raw entry. That of a table tells its flags; the frame is its tree's own affair, and runs and differences do not look at it. */
  readonly entry: bigint
  /** What each entry is more than the one before: the size of a page where pages follow one another in physical memory, else 0. */
  readonly step: number
}

/** Neighbouring entries of one level, whichever table they are in, that differ between two trees in the same way. */
export interface TableDifference {
  readonly kind: 'added' | 'removed' | 'changed'
  /** Index into the mode's levels, and the SDM's name of its entries. */
  readonly depth: number
  readonly entry: PagingLevel['entry']
  /** Index of the first entry in its table. */
  readonly index: number
  /** How many entries. */
  readonly count: number
  /** The linear addresses that they are for. */
  readonly start: VirtualAddress
  readonly bytes: number
  readonly before: EntryRun
  readonly after: EntryRun
}

/** What two entries may differ in without a {@link TableDifference}. */
export interface DiffOptions {
  /** Whether accessed and dirty flags count. Default true. */
  readonly accessedDirty?: boolean
}

/**
 * Where the trees under two roots of one mode differ, in the same memory or not: level by level from the root, each in ascending order. A table that only one of them has
 * is listed with all that is below it. The frames that tables lie in do not count. Throws CORE_MODE_MISMATCH.
 */
export function diffTables(
  before: TableRoot,
  after: TableRoot,
  options: DiffOptions = {},
): TableDifference[] {
  if (before.mode !== after.mode) {
    throw new CoreError('CORE_MODE_MISMATCH', {
      expected: `tables of ${before.mode.name} paging`,
      found: `${after.mode.name} paging`,
    })
  }
  const comparison = new Comparison(before, after, options)
  if (before.mode.levels.length > 0) comparison.tables(before.root, after.root, 0, 0)
  return comparison.differences()
}

interface RawEntry {
  readonly low: number
  readonly high: number
  readonly content: EntryContent
}

/** A run under construction. The steps are those from its first entry to its second, and so on. */
interface OpenRun {
  readonly page: number
  readonly before: RawEntry
  readonly after: RawEntry
  count: number
  lastBefore: RawEntry
  lastAfter: RawEntry
  stepBefore: number
  stepAfter: number
}

/** In place of the address of a table that there is not, and what it reads as. */
const NO_TABLE = -1
const NO_ENTRIES: Int32Array = new Int32Array(1024)
/** What of an entry that leads to a table is not the frame. */
const TABLE_FLAGS = 0xfff
const TABLE_FLAGS_HIGH = -0x10_0000

class Comparison {
  readonly #before: TableRoot
  readonly #after: TableRoot
  readonly #mode: PagingMode
  readonly #ignored: number
  readonly #closed: TableDifference[][]
  readonly #open: (OpenRun | undefined)[]

  constructor(before: TableRoot, after: TableRoot, { accessedDirty = true }: DiffOptions) {
    this.#before = before
    this.#after = after
    this.#mode = before.mode
    this.#ignored = accessedDirty ? 0 : Entry.Accessed | Entry.Dirty
    this.#closed = before.mode.levels.map(() => [])
    this.#open = before.mode.levels.map(() => undefined)
  }

  differences(): TableDifference[] {
    for (let depth = 0; depth < this.#open.length; depth++) this.#close(depth)
    return this.#closed.flat()
  }

  /** Compares the tables at two physical addresses with all below them. */
  tables(before: number, after: number, depth: number, firstPage: number): void {
    const isOneMemory = this.#before.memory === this.#after.memory
    // A table that both lead to is equal with all below it.
    if (isOneMemory && before === after) return
    const { frames, indexBits } = this.#mode.levels[depth]!
    const isWide = this.#mode.entryBytes === 8
    const entryWords = isWide ? 2 : 1
    const [words, base] = locate(this.#before.memory, before)
    const [otherWords, otherBase] = locate(this.#after.memory, after)
    for (let index = 0; index < 1 << indexBits; index++) {
      const at = base + index * entryWords
      const otherAt = otherBase + index * entryWords
      const low = words[at]!
      const otherLow = otherWords[otherAt]!
      const high = isWide ? words[at + 1]! : 0
      const otherHigh = isWide ? otherWords[otherAt + 1]! : 0
      const isSame = low === otherLow && high === otherHigh
      if (isSame && (isOneMemory || (low & Entry.Present) === 0)) continue
      const page = firstPage + index * frames
      const one = this.#entry(low, high, depth)
      const other = this.#entry(otherLow, otherHigh, depth)
      if (!isSame && !this.#isEqual(one, other)) this.#add(depth, page, one, other)
      if (one.content === 'table' || other.content === 'table') {
        this.tables(tableOf(one), tableOf(other), depth + 1, page)
      }
    }
  }

  #entry(low: number, high: number, depth: number): RawEntry {
    if (low === 0 && high === 0) return { low, high, content: 'nothing' }
    const isPresent = (low & Entry.Present) !== 0
    const isTable = isPresent && (low & leafBit(this.#mode.levels[depth]!)) === 0
    return { low, high, content: isTable ? 'table' : 'value' }
  }

  #isEqual(one: RawEntry, other: RawEntry): boolean {
    if (one.content !== other.content) return false
    const isTable = one.content === 'table'
    const counts = (isTable ? TABLE_FLAGS : -1) & ~this.#ignored
    const highCounts = isTable ? TABLE_FLAGS_HIGH : -1
    return ((one.low ^ other.low) & counts) === 0 && ((one.high ^ other.high) & highCounts) === 0
  }

  #add(depth: number, page: number, before: RawEntry, after: RawEntry): void {
    const open = this.#open[depth]
    const { frames } = this.#mode.levels[depth]!
    if (open !== undefined && open.page + open.count * frames === page) {
      const stepBefore = stepBetween(open.lastBefore, before, frames * 4096)
      const stepAfter = stepBetween(open.lastAfter, after, frames * 4096)
      const isSecond = open.count === 1
      const continues =
        stepBefore !== undefined &&
        stepAfter !== undefined &&
        (isSecond || (stepBefore === open.stepBefore && stepAfter === open.stepAfter))
      if (continues) {
        open.stepBefore = stepBefore
        open.stepAfter = stepAfter
        open.count++
        open.lastBefore = before
        open.lastAfter = after
        return
      }
    }
    this.#close(depth)
    this.#open[depth] = {
      page,
      before,
      after,
      count: 1,
      lastBefore: before,
      lastAfter: after,
      stepBefore: 0,
      stepAfter: 0,
    }
  }

  #close(depth: number): void {
    const open = this.#open[depth]
    if (open === undefined) return
    this.#open[depth] = undefined
    const { entry, frames, indexBits } = this.#mode.levels[depth]!
    const { page, count, before, after, stepBefore, stepAfter } = open
    this.#closed[depth]!.push({
      kind:
        before.content === 'nothing'
          ? 'added'
          : after.content === 'nothing'
            ? 'removed'
            : 'changed',
      depth,
      entry,
      index: Math.floor(page / frames) % (1 << indexBits),
      count,
      start: linearAddress(this.#mode, page),
      bytes: count * frames * 4096,
      before: { content: before.content, entry: rawEntry(before), step: stepBefore },
      after: { content: after.content, entry: rawEntry(after), step: stepAfter },
    })
  }
}

/** The words of a table, and at which of them it begins. */
function locate(memory: PhysicalMemory, table: number): [words: Int32Array, base: number] {
  if (table === NO_TABLE) return [NO_ENTRIES, 0]
  const words = memory.locate(Math.floor(table / 4096))
  // PAE paging aligns the root to 32 bytes only.
  return [words, memory.base + (table % 4096) / 4]
}

function tableOf({ low, high, content }: RawEntry): number {
  return content === 'table' ? entryFrame(low, high) * 4096 : NO_TABLE
}

/** What the second of two neighbours is more than the first: a page, nothing, or undefined where they belong to different runs. */
function stepBetween(one: RawEntry, other: RawEntry, bytes: number): number | undefined {
  if (one.content !== other.content) return undefined
  if (one.content === 'table') {
    const isSame =
      ((one.low ^ other.low) & TABLE_FLAGS) === 0 &&
      ((one.high ^ other.high) & TABLE_FLAGS_HIGH) === 0
    return isSame ? 0 : undefined
  }
  if (one.low === other.low && one.high === other.high) return 0
  const isPresent = (one.low & other.low & Entry.Present) !== 0
  const low = (one.low >>> 0) + bytes
  const carry = low >= 2 ** 32 ? 1 : 0
  return isPresent && (low | 0) === other.low && one.high + carry === other.high ? bytes : undefined
}

function rawEntry({ low, high }: RawEntry): bigint {
  return joinHalves(high, low)
}
