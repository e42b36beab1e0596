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
  /** Frame of the page itself (of 4 KiB, also inside a large page). */
  frame = 0
  /** {@link Rights} of the translation. */
  rights = 0
  /** Low half of the leaf. */
  leafLow = 0
  /** Index into the mode's levels at which the walk ended. */
  depth = 0
  /** Frame of the table that the leaf was found in. */
  lastTable = 0

  readonly #memory: PhysicalMemory
  readonly #masks: readonly EntryMasks[]
  readonly #registers: PdpteRegisters | undefined
  /** Where the last walk began and for what, from which {@link path} finds its way again: hot walks need not keep it. */
  #firstTable = 0
  #firstDepth = 0
  #high = 0
  #low = 0
  /** The AND of the low halves of all entries of the last walk: tells whether all were accessed. */
  #common = 0

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
    this.#masks = entryMasks(mode, features, noExecute)
    this.#registers = registers
  }

  /** Translates the address with these halves, from the root table in frame `root` (which PAE paging does not look at). */
  walk(root: number, high: number, low: number): WalkStatus {
    return this.#registers === undefined
      ? this.resume(root, 0, -1, 0, high, low)
      : this.#walkFromRegisters(this.#registers, low)
  }

  /**
   * Translates from the middle: from the table in frame `first` at `firstDepth`, with the AND of the low halves (`common`) and the OR of the high halves
   * (`noExecute`) of the entries that led there, as a paging-structure cache holds them.
   * Its bytecode stays below the 460 bytes at which V8 stops inlining: that is worth a third of its speed (test/bench).
   */
  resume(
    first: number,
    firstDepth: number,
    common: number,
    noExecute: number,
    high: number,
    low: number,
  ): WalkStatus {
    const masks = this.#masks
    const memory = this.#memory
    this.#firstTable = first
    this.#firstDepth = firstDepth
    this.#high = high
    this.#low = low
    let table = first
    let depth = firstDepth
    let level = masks[depth]!
    let entryLow: number
    let entryHigh: number
    for (;;) {
      const words = memory.locate(table)
      const at = memory.base + levelIndex(high, low, level.shift, level.indexMask) * level.words
      entryLow = words[at]!
      entryHigh = words[at + level.highAt]! & level.highMask
      this.depth = depth
      if ((entryLow & Entry.Present) === 0) return WalkStatus.NotPresent
      common &= entryLow
      noExecute |= entryHigh
      if ((entryLow & level.leafBit) !== 0) break
      if (((entryHigh & level.reservedHigh) | (entryLow & level.reservedLow)) !== 0) {
        return WalkStatus.ReservedBit
      }
      table = entryFrame(entryLow, entryHigh)
      level = masks[++depth]!
    }
    if (((entryHigh & level.reservedHigh) | (entryLow & level.leafReservedLow)) !== 0) {
      return WalkStatus.ReservedBit
    }
    const within = level.frames - 1
    this.lastTable = table
    this.leafLow = entryLow
    this.#common = common
    this.rights = ((common >>> 1) & 3) | ((noExecute >>> 31) << 2) | ((entryHigh >>> 24) & 0x78)
    // Bit 12 of a large leaf is its PAT bit, not part of the address: the mask drops it.
    this.frame =
      ((entryHigh & 0xf_ffff) | ((entryLow >>> 13) & level.pse36)) * 0x10_0000 +
      (((entryLow >>> 12) & ~within) | ((low >>> 12) & within))
    return WalkStatus.Mapped
  }

  /** Pages of 4 KiB in the page that the last walk found. */
  get pageFrames(): number {
    return this.#masks[this.depth]!.frames
  }

  /** PAT index of the leaf that the last walk found. */
  get patIndex(): number {
    return leafPatIndex(this.leafLow, this.pageFrames)
  }

  /** The entries that the last walk read, in its order. Call it before the tables change. */
  path(): PathEntry[] {
    const path: PathEntry[] = []
    let table = this.#firstTable
    let depth = this.#firstDepth
    if (this.#registers !== undefined && depth <= 1) {
      const entry = this.#registers.pathEntry(this.#low >>> 30)
      path.push(entry)
      table = entryFrame(entry.low, entry.high)
      depth = 1
    }
    for (; depth <= this.depth; depth++) {
      const level = this.#masks[depth]!
      const index = levelIndex(this.#high, this.#low, level.shift, level.indexMask)
      const words = this.#memory.locate(table)
      const at = this.#memory.base + index * level.words
      const low = words[at]!
      const high = words[at + level.highAt]! & level.highMask
      path.push({ depth, table: table * 4096, index, low, high })
      table = entryFrame(low, high)
    }
    return path
  }

  /**
   * Sets the accessed flag of every entry that the last walk used, and the dirty flag of the leaf for a write (SDM Vol. 3, 4.8), from the
   * root down. It is called for accesses that are allowed only: a dirty flag is never set by an access that faults.
   */
  markUsed(write: boolean): void {
    const isDirty = !write || (this.leafLow & Entry.Dirty) !== 0
    if (!isDirty || (this.#common & Entry.Accessed) === 0) {
      this.#setFlags(this.depth, write ? Entry.Accessed | Entry.Dirty : Entry.Accessed)
    }
  }

  /** Sets the accessed flag of the entries that led to where the last walk ended, not of the one that ended it: what a CPU may do though the access faults. */
  markTraversed(): void {
    this.#setFlags(this.depth, 0)
  }

  #walkFromRegisters(registers: PdpteRegisters, low: number): WalkStatus {
    const entry = registers.pathEntry(low >>> 30)
    const { reservedHigh, reservedLow } = this.#masks[0]!
    const isReserved = ((entry.high & reservedHigh) | (entry.low & reservedLow)) !== 0
    const isPresent = (entry.low & Entry.Present) !== 0
    if (isPresent && !isReserved) {
      return this.resume(entryFrame(entry.low, entry.high), 1, -1, 0, 0, low)
    }
    this.#firstDepth = 0
    this.#low = low
    this.depth = 0
    return isPresent ? WalkStatus.ReservedBit : WalkStatus.NotPresent
  }

  #setFlags(last: number, lastFlags: number): void {
    for (const { depth, table, index, low } of this.path()) {
      const flags = depth === last ? lastFlags : Entry.Accessed
      if ((low & flags) === flags || this.#masks[depth]!.implied !== 0) continue
      const own = this.#memory.locateForWrite(table / 4096)
      own[this.#memory.base + index * this.#masks[depth]!.words]! |= flags
    }
  }
}
