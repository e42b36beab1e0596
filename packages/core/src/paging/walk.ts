import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, entryFrame, patIndex } from './entry.ts'
import { levelIndex, type PagingLevel, type PagingMode } from './mode.ts'

/** How a walk ended: with a page, at an entry whose P flag is 0, or at an entry with a reserved bit set. */
export const WalkStatus = { Mapped: 0, NotPresent: 1, ReservedBit: 2 } as const
export type WalkStatus = (typeof WalkStatus)[keyof typeof WalkStatus]

/** Bits of {@link PageWalker.rights}: the AND of R/W and U/S over the levels, the OR of NX. */
export const Rights = { Writable: 1, User: 2, NoExecute: 4 } as const

interface LevelMasks {
  readonly shift: number
  readonly frames: number
  readonly reservedHigh: number
  /** Bits of the low half that are reserved whenever the entry is present. */
  readonly reservedLow: number
  /** Whether bit 7 makes the entry a leaf. */
  readonly leafBit: boolean
  readonly last: boolean
  readonly leafReservedLow: number
}

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
  /** The leaf's halves. */
  leafLow = 0
  leafHigh = 0
  /** Index into the mode's levels at which the walk ended. */
  depth = 0
  /** PAT index of the leaf. */
  patIndex = 0
  /** Memory references that walks have made so far, an entry each. */
  references = 0

  readonly #memory: PhysicalMemory
  readonly #levels: readonly LevelMasks[]
  readonly #tableFrames: Float64Array
  readonly #indexes: Int32Array

  /** `noExecute` is EFER.NXE: without it bit 63 is reserved (SDM Vol. 3, 4.5.5). */
  constructor(memory: PhysicalMemory, mode: PagingMode, features: CpuFeatures, noExecute: boolean) {
    this.mode = mode
    this.#memory = memory
    this.#levels = mode.levels.map((level, depth) =>
      levelMasks(level, depth === mode.levels.length - 1, features, noExecute),
    )
    this.#tableFrames = new Float64Array(mode.levels.length)
    this.#indexes = new Int32Array(mode.levels.length)
  }

  /** Translates the address with these halves, from the root table in frame `root`. */
  walk(root: number, high: number, low: number): WalkStatus {
    const levels = this.#levels
    let table = root
    let rights: number = Rights.Writable | Rights.User
    for (let depth = 0; depth < levels.length; depth++) {
      const level = levels[depth]!
      const index = levelIndex(high, low, level.shift)
      const words = this.#memory.locate(table)
      const at = this.#memory.base + index * 2
      const entryLow = words[at]!
      const entryHigh = words[at + 1]!
      this.#tableFrames[depth] = table
      this.#indexes[depth] = index
      this.depth = depth
      this.leafLow = entryLow
      this.leafHigh = entryHigh
      this.references++
      if ((entryLow & Entry.Present) === 0) return WalkStatus.NotPresent
      if ((entryHigh & level.reservedHigh) !== 0 || (entryLow & level.reservedLow) !== 0) {
        return WalkStatus.ReservedBit
      }
      rights &= ((entryLow >>> 1) & 3) | (rights & Rights.NoExecute)
      rights |= (entryHigh >>> 31) << 2
      const frame = entryFrame(entryLow, entryHigh)
      if (level.last || (level.leafBit && (entryLow & Entry.PageSize) !== 0)) {
        this.rights = rights
        if (level.last) {
          this.frame = frame
          this.patIndex = patIndex(entryLow, (entryLow & Entry.Pat4K) >>> 7)
          return WalkStatus.Mapped
        }
        if ((entryLow & level.leafReservedLow) !== 0) return WalkStatus.ReservedBit
        const within = ((high << 20) | (low >>> 12)) & (level.frames - 1)
        // Bit 12 of a large leaf is its PAT bit, not part of the address.
        this.frame = frame - (frame % level.frames) + within
        this.patIndex = patIndex(entryLow, (entryLow & Entry.PatLarge) >>> 12)
        return WalkStatus.Mapped
      }
      table = frame
    }
    throw new Error('a paging mode ends with a level whose entries are leaves')
  }

  /** Pages of 4 KiB in the page that the last walk found. */
  get pageFrames(): number {
    return this.#levels[this.depth]!.frames
  }

  /** The frame of the table that the last walk read at `depth`. */
  tableFrame(depth: number): number {
    return this.#tableFrames[depth]!
  }

  /** The index that the last walk used at `depth`. */
  tableIndex(depth: number): number {
    return this.#indexes[depth]!
  }

  /**
   * Sets the accessed flag of every entry that the last walk used, and the dirty flag of the leaf for a write (SDM Vol. 3, 4.8).
   * It is called for accesses that are allowed only: the accessed flags of a walk that faults stay as they are, which the SDM permits.
   */
  markUsed(write: boolean): void {
    for (let depth = 0; depth <= this.depth; depth++) {
      const flags = depth === this.depth && write ? Entry.Accessed | Entry.Dirty : Entry.Accessed
      const frame = this.#tableFrames[depth]!
      const offset = this.#indexes[depth]! * 2
      const words = this.#memory.locate(frame)
      if ((words[this.#memory.base + offset]! & flags) === flags) continue
      const own = this.#memory.locateForWrite(frame)
      own[this.#memory.base + offset]! |= flags
    }
  }
}

function levelMasks(
  level: PagingLevel,
  last: boolean,
  features: CpuFeatures,
  noExecute: boolean,
): LevelMasks {
  const bits = features.maxPhysicalAddressBits
  const addressBits = 0xf_ffff & ~((1 << (bits - 32)) - 1)
  const leafBit =
    level.pageSize === 'leaf' || (level.pageSize === 'leaf-with-1g' && features.pages1G)
  return {
    shift: level.shift,
    frames: level.frames,
    reservedHigh: (noExecute ? 0 : Entry.NoExecuteHigh) | addressBits,
    reservedLow: leafBit || level.pageSize === 'pte' ? 0 : Entry.PageSize,
    leafBit,
    last,
    leafReservedLow: level.leafReservedLow,
  }
}
