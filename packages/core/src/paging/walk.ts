import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, entryFrame, leafPatIndex } from './entry.ts'
import { type EntryMasks, entryMasks, levelIndex, type PagingMode } from './mode.ts'

/** How a walk ended: with a page, at an entry whose P flag is 0, or at an entry with a reserved bit set. */
export const WalkStatus = { Mapped: 0, NotPresent: 1, ReservedBit: 2 } as const
export type WalkStatus = (typeof WalkStatus)[keyof typeof WalkStatus]

/** Bits of {@link PageWalker.rights}: the AND of R/W and U/S over the levels, the OR of NX. */
export const Rights = { Writable: 1, User: 2, NoExecute: 4 } as const

/**
 * Walks paging structures in memory. Everything inside is 32-bit halves: a bigint costs twenty times as much. The result of
 * a walk stands in the fields until the next one, so that a walk allocates nothing. It changes nothing in memory by itself;
 * {@link markUsed} sets the accessed and dirty flags of the walk that went before.
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

  readonly #memory: PhysicalMemory
  readonly #masks: readonly EntryMasks[]
  /** Root and address of the last walk, from which {@link path} finds its way again: hot walks need not keep it. */
  #root = 0
  #high = 0
  #low = 0
  /** The AND of the low halves of all entries of the last walk: tells whether all were accessed. */
  #common = 0

  /** `noExecute` is EFER.NXE: without it bit 63 is reserved (SDM Vol. 3, 4.5.5). */
  constructor(memory: PhysicalMemory, mode: PagingMode, features: CpuFeatures, noExecute: boolean) {
    this.mode = mode
    this.#memory = memory
    this.#masks = entryMasks(mode, features, noExecute)
  }

  /**
   * Translates the address with these halves, from the root table in frame `root`.
   * Its bytecode stays below the 460 bytes at which V8 stops inlining: that is worth a third of its speed (test/bench/page-walk.ts).
   */
  walk(root: number, high: number, low: number): WalkStatus {
    const masks = this.#masks
    const memory = this.#memory
    this.#root = root
    this.#high = high
    this.#low = low
    let table = root
    let common = -1
    let noExecute = 0
    let depth = 0
    let level = masks[0]!
    let entryLow: number
    let entryHigh: number
    for (;;) {
      const words = memory.locate(table)
      const at = memory.base + levelIndex(high, low, level.shift) * 2
      entryLow = words[at]!
      entryHigh = words[at + 1]!
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
    this.leafLow = entryLow
    this.#common = common
    this.rights = ((common >>> 1) & 3) | ((noExecute >>> 31) << 2)
    // Bit 12 of a large leaf is its PAT bit, not part of the address: the mask drops it.
    this.frame =
      (entryHigh & 0xf_ffff) * 0x10_0000 + (((entryLow >>> 12) & ~within) | ((low >>> 12) & within))
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

  /** The entries that the last walk read, from the root down: the frame of each table and the index in it. Call it before the tables change. */
  path(): { readonly table: number; readonly index: number }[] {
    const path: { table: number; index: number }[] = []
    let table = this.#root
    for (let depth = 0; depth <= this.depth; depth++) {
      const index = levelIndex(this.#high, this.#low, this.#masks[depth]!.shift)
      path.push({ table, index })
      const words = this.#memory.locate(table)
      const at = this.#memory.base + index * 2
      table = entryFrame(words[at]!, words[at + 1]!)
    }
    return path
  }

  /**
   * Sets the accessed flag of every entry that the last walk used, and the dirty flag of the leaf for a write (SDM Vol. 3, 4.8).
   * It is called for accesses that are allowed only: the accessed flags of a walk that faults stay as they are, which the SDM permits.
   */
  markUsed(write: boolean): void {
    const isDirty = !write || (this.leafLow & Entry.Dirty) !== 0
    if (!isDirty || (this.#common & Entry.Accessed) === 0) this.#setFlags(write)
  }

  #setFlags(write: boolean): void {
    for (const [depth, { table, index }] of this.path().entries()) {
      const flags = depth === this.depth && write ? Entry.Accessed | Entry.Dirty : Entry.Accessed
      const words = this.#memory.locate(table)
      if ((words[this.#memory.base + index * 2]! & flags) === flags) continue
      const own = this.#memory.locateForWrite(table)
      own[this.#memory.base + index * 2]! |= flags
    }
  }
}
