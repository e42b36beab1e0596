import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, entryFrame, leafPatIndex } from './entry.ts'
import { type EntryMasks, entryMasks, levelIndex, type PagingMode } from './mode.ts'
import type { PdpteRegisters } from './pdpte-registers.ts'

/** How a walk ended: with a page, at an entry whose P flag is 0, or at an entry with a reserved bit set. */
export const WalkStatus = { Mapped: 0, NotPresent: 1, ReservedBit: 2 } as const
export type WalkStatus = (typeof WalkStatus)[keyof typeof WalkStatus]

/**
 * Bits of {@link PageWalker.rights}: the AND of R/W and U/S over the levels, the OR of NX, and from `KeyShift` up the four bits of the
 * leaf's protection key.
 */
export const Rights = { Writable: 1, User: 2, NoExecute: 4, KeyShift: 3 } as const

/** The root of PAE paging for {@link PageWalker.walk}: no frame has this number. */
export const ROOT_IN_REGISTERS: number = 2 ** 40

/** An entry that a walk read. */
export interface PathEntry {
  /** Index into the mode's levels. */
  readonly depth: number
  /** Physical address of the table in bytes. */
  readonly table: number
  readonly index: number
  readonly low: number
  /** 0 where entries have 32 bits. */
  readonly high: number
}

/**
 * Walks paging structures in memory, in every mode of the architecture with one loop. Everything inside is 32-bit halves: a bigint costs
 * twenty times as much. The result of a walk stands in the fields until the next one, so that a walk allocates nothing. It changes
 * nothing in memory by itself; {@link markUsed} sets the accessed and dirty flags of the walk that went before.
 */
export class PageWalker {
  readonly mode: PagingMode
  /** Low half of the leaf. */
  leafLow = 0

  readonly #memory: PhysicalMemory
  readonly #masks: readonly EntryMasks[]
  readonly #registers: PdpteRegisters | undefined
  /** See {@link packLevels}. */
  readonly #levels: Int32Array
  readonly #reservedHigh: number
  /** The bits that number the first word of an entry in its table. */
  readonly #wordMask: number
  readonly #highMask: number
  /** Where in the packed levels those begin whose index lies below bit 30 of the address. */
  readonly #firstLower: number
  /** Where the last walk began, from which {@link path} finds its way again. */
  #firstTable = 0
  #firstDepth = 0
  // How far the walk came. What can be computed from this is computed when asked for: a number above 2^31 in a field would be boxed.
  #level = 0
  #leafHigh = 0
  #pageLow = 0
  /** The AND of the low halves of all entries. */
  #common = 0
  /** The OR of their high halves. */
  #noExecute = 0

  /**
   * `noExecute` is EFER.NXE: without it bit 63 is reserved (SDM Vol. 3, 4.5.5). PAE paging needs `registers`: its root is read from
   * them, not from memory.
   */
  constructor(
    memory: PhysicalMemory,
    mode: PagingMode,
    features: CpuFeatures,
    noExecute: boolean,
    registers?: PdpteRegisters,
  ) {
    this.mode = mode
    this.#memory = memory
    this.#registers = registers
    this.#masks = entryMasks(mode, features, noExecute)
    this.#levels = packLevels(this.#masks)
    const last = this.#masks.at(-1)
    this.#reservedHigh = last?.reservedHigh ?? 0
    this.#wordMask = mode.entryBytes === 8 ? 0x3fe : 0x3ff
    this.#highMask = last?.highMask ?? 0
    this.#firstLower = this.#masks.findIndex(({ shift }) => shift < 30) * 8
  }

  /**
   * Translates the address with these halves, from the root table in frame `root`, or {@link ROOT_IN_REGISTERS}. Or from the middle: from a table at `depth`, with the AND of the low
   * halves (`common`) and the OR of the high halves (`noExecute`) of the entries that led there, as a paging-structure cache holds them.
   */
  walk(root: number, high: number, low: number, depth = 0, common = -1, noExecute = 0): WalkStatus {
    this.#firstTable = root
    this.#firstDepth = depth
    const flat = this.#memory.flatWords
    const at = root * 1024
    if (at >= flat.length) {
      return this.#walkOutside(root, depth * 8, common, noExecute, high, low)
    }
    if (!this.#descend(flat, at, depth * 8, common, noExecute, high, low)) {
      const next = entryFrame(this.leafLow, this.#leafHigh)
      return this.#walkOutside(next, this.#level, this.#common, this.#noExecute, high, low)
    }
    return this.#status()
  }

  /**
   * Goes down from the table at index `first` of the flat window, and returns false where a table lies outside of it.
   *
   * This loop is where the time goes. There is no call in it, it reads one array, its bytecode stays below what V8 inlines, and flags are written as numbers (0x1 is P, 0x20 A,
   * 0x40 D), as V8 would read a property of an imported object each time: each of these is worth a fifth of the speed or more (test/bench). That is why
   * {@link #walkOutside} has a loop of its own.
   */
  #descend(
    flat: Int32Array,
    first: number,
    firstLevel: number,
    firstCommon: number,
    firstNoExecute: number,
    high: number,
    low: number,
  ): boolean {
    const levels = this.#levels
    const firstLower = this.#firstLower
    const wordMask = this.#wordMask
    const highMask = this.#highMask
    const reservedHigh = this.#reservedHigh
    const upper = (high << 3) | (low >>> 29)
    let at = first
    let level = firstLevel
    let common = firstCommon
    let noExecute = firstNoExecute
    let isInside = true
    let entryLow: number
    let entryHigh: number
    for (;;) {
      at += ((level < firstLower ? upper : low) >>> levels[level]!) & wordMask
      entryLow = flat[at]!
      entryHigh = flat[at | 1]! & highMask
      common &= entryLow
      noExecute |= entryHigh
      if ((entryLow & levels[level + 1]!) !== 0x1 || (entryHigh & reservedHigh) !== 0) break
      level += 8
      at = (entryLow >>> 12) << 10
      isInside = (entryHigh & 0xf_ffff) === 0 && at < flat.length
      if (!isInside) break
    }
    this.#level = level
    this.leafLow = entryLow
    this.#leafHigh = entryHigh
    this.#pageLow = low >>> 12
    this.#common = common
    this.#noExecute = noExecute
    return isInside
  }

  /** Goes on from a table that lies outside the flat window, or begins with the registers of PAE paging. */
  #walkOutside(
    table: number,
    firstLevel: number,
    firstCommon: number,
    firstNoExecute: number,
    high: number,
    low: number,
  ): WalkStatus {
    if (table === ROOT_IN_REGISTERS) return this.#walkFromRegisters(low)
    const memory = this.#memory
    const levels = this.#levels
    const firstLower = this.#firstLower
    const wordMask = this.#wordMask
    const highMask = this.#highMask
    const reservedHigh = this.#reservedHigh
    const upper = (high << 3) | (low >>> 29)
    let level = firstLevel
    let common = firstCommon
    let noExecute = firstNoExecute
    let next = table
    let entryLow: number
    let entryHigh: number
    for (;;) {
      const words = memory.locate(next)
      const at = memory.base + (((level < firstLower ? upper : low) >>> levels[level]!) & wordMask)
      entryLow = words[at]!
      entryHigh = words[at | 1]! & highMask
      common &= entryLow
      noExecute |= entryHigh
      if ((entryLow & levels[level + 1]!) !== 0x1 || (entryHigh & reservedHigh) !== 0) break
      level += 8
      next = (entryHigh & 0xf_ffff) * 0x10_0000 + (entryLow >>> 12)
    }
    this.#level = level
    this.leafLow = entryLow
    this.#leafHigh = entryHigh
    this.#pageLow = low >>> 12
    this.#common = common
    this.#noExecute = noExecute
    return this.#status()
  }

  #status(): WalkStatus {
    const { leafLow } = this
    const level = this.#level
    if ((leafLow & 0x1) === 0) return 1
    const reserved = (this.#leafHigh & this.#reservedHigh) | (leafLow & this.#levels[level + 3]!)
    return (leafLow & this.#levels[level + 2]!) === 0 || reserved !== 0 ? 2 : 0
  }

  /** Index into the mode's levels at which the walk ended. */
  get depth(): number {
    return this.#level / 8
  }

  /** {@link Rights} of the translation. */
  get rights(): number {
    const common = this.#common
    return ((common >>> 1) & 3) | ((this.#noExecute >>> 31) << 2) | ((this.#leafHigh >>> 24) & 0x78)
  }

  /** Frame of the page (of 4 KiB, also inside a large page). */
  get frame(): number {
    const { leafLow } = this
    const level = this.#level
    const within = this.#levels[level + 4]!
    const pse36 = (leafLow >>> 13) & this.#levels[level + 5]!
    // Bit 12 of a large leaf is its PAT bit, not part of the address: the mask drops it.
    return (
      ((this.#leafHigh & 0xf_ffff) | pse36) * 0x10_0000 +
      (((leafLow >>> 12) & ~within) | (this.#pageLow & within))
    )
  }

  /** Pages of 4 KiB in the page that the last walk found. */
  get pageFrames(): number {
    return this.#masks[this.depth]!.frames
  }

  /** PAT index of the leaf that the last walk found. */
  get patIndex(): number {
    return leafPatIndex(this.leafLow, this.pageFrames)
  }

  /** The entries that the last walk, for this address, read, in its order. Call it before the tables change. */
  path(high: number, low: number): PathEntry[] {
    const path: PathEntry[] = []
    let table = this.#firstTable
    let depth = this.#firstDepth
    if (this.#registers !== undefined && depth <= 1) {
      const entry = this.#registers.pathEntry(low >>> 30)
      path.push(entry)
      table = entryFrame(entry.low, entry.high)
      depth = 1
    }
    for (; depth <= this.depth; depth++) {
      const level = this.#masks[depth]!
      const index = levelIndex(high, low, level.shift, level.indexMask)
      const words = this.#memory.locate(table)
      const at = this.#memory.base + index * level.words
      const entryLow = words[at]!
      const entryHigh = words[at + level.highAt]! & level.highMask
      path.push({ depth, table: table * 4096, index, low: entryLow, high: entryHigh })
      table = entryFrame(entryLow, entryHigh)
    }
    return path
  }

  /**
   * Sets the accessed flag of every entry that the last walk, for this address, used, and the dirty flag of the leaf for a write (SDM Vol. 3, 4.8), from the
   * root down. It is called for accesses that are allowed only: a dirty flag is never set by an access that faults.
   */
  markUsed(high: number, low: number, write: boolean): void {
    const isDirty = !write || (this.leafLow & 0x40) !== 0
    if (!isDirty || (this.#common & 0x20) === 0) {
      this.#setFlags(high, low, write ? Entry.Accessed | Entry.Dirty : Entry.Accessed)
    }
  }

  /** Sets the accessed flag of the entries that led to where the last walk ended, not of the one that ended it: what a CPU may do though the access faults. */
  markTraversed(high: number, low: number): void {
    this.#setFlags(high, low, 0)
  }

  #walkFromRegisters(low: number): WalkStatus {
    const entry = this.#registers!.pathEntry(low >>> 30)
    const { reservedHigh, reservedLow } = this.#masks[0]!
    const isReserved = ((entry.high & reservedHigh) | (entry.low & reservedLow)) !== 0
    const isPresent = (entry.low & Entry.Present) !== 0
    if (isPresent && !isReserved) {
      return this.walk(entryFrame(entry.low, entry.high), 0, low, 1)
    }
    this.#level = 0
    return isPresent ? WalkStatus.ReservedBit : WalkStatus.NotPresent
  }

  #setFlags(high: number, low: number, lastFlags: number): void {
    const memory = this.#memory
    let table = this.#firstTable
    let depth = this.#firstDepth
    // Entries in registers have no flags.
    if (this.#registers !== undefined && depth <= 1) {
      const entry = this.#registers.pathEntry(low >>> 30)
      table = entryFrame(entry.low, entry.high)
      depth = 1
    }
    for (; depth <= this.depth; depth++) {
      const level = this.#masks[depth]!
      const at = levelIndex(high, low, level.shift, level.indexMask) * level.words
      const words = memory.locate(table)
      const entryLow = words[memory.base + at]!
      const next = entryFrame(entryLow, words[memory.base + at + level.highAt]! & level.highMask)
      const flags = depth === this.depth ? lastFlags : Entry.Accessed
      if ((entryLow & flags) !== flags && level.implied === 0) {
        const own = memory.locateForWrite(table)
        own[memory.base + at]! |= flags
      }
      table = next
    }
  }
}

const PACKED: WeakMap<readonly EntryMasks[], Int32Array> = new WeakMap()

/**
 * What a walk needs to know of each level, eight numbers a level: (0) how far to shift for the number of an entry's first word in its table, from bit 0 of the address, or from bit 29
 * where the index lies above; (1) the flags of which a pointer to a table has P alone: no entry of the last level is one; (2) the flag that tells a leaf; (3) reserved in the low half
 * of a leaf; (4) one less than the pages of 4 KiB that a leaf maps; (5) the address bits of PSE-36.
 */
function packLevels(masks: readonly EntryMasks[]): Int32Array {
  let levels = PACKED.get(masks)
  if (levels !== undefined) return levels
  levels = Int32Array.from(
    masks.flatMap(({ shift, words, frames, leafBit, reservedLow, leafReservedLow, pse36 }) => [
      shift < 30 ? shift - words + 1 : shift - 30,
      frames === 1 ? 0 : Entry.Present | leafBit | reservedLow,
      leafBit,
      leafReservedLow,
      frames - 1,
      pse36,
      0,
      0,
    ]),
  )
  PACKED.set(masks, levels)
  return levels
}
