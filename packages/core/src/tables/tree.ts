import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry, frameHigh, frameLow } from '../paging/entry.ts'
import type { PagingLevel, PagingMode } from '../paging/mode.ts'
import { LiveChanges } from './flush.ts'
import { type AllocateTable, FrameStock, type ReleaseTable } from './frame-stock.ts'
import { leafBit } from './leaf.ts'

/** Present, writable, user, accessed, dirty: Linux's _PAGE_TABLE (arch/x86/include/asm/pgtable_types.h). */
export const PAGE_TABLE_FLAGS = 0x67
/** A PDPTE of PAE paging has P, PWT, PCD and three bits for software; the other flags are reserved (SDM Vol. 3, table 4-8). */
const PDPTE_REGISTER_FLAGS = 0xe19

/** The tables under a root and the frames for more of them, entry by entry. Tables are named by their frame. */
export class TableTree {
  readonly memory: PhysicalMemory
  readonly mode: PagingMode
  readonly rootFrame: number
  /** 32-bit words of an entry. */
  readonly entryWords: number
  readonly stock: FrameStock
  readonly changes: LiveChanges
  /** High half of the entry that {@link read} read. */
  high = 0
  /** Word of the root's frame at which the root begins: PAE paging aligns it to 32 bytes only. */
  readonly #rootWord: number

  constructor(
    memory: PhysicalMemory,
    mode: PagingMode,
    root: number,
    allocate: AllocateTable,
    release: ReleaseTable | undefined,
  ) {
    this.memory = memory
    this.mode = mode
    this.rootFrame = Math.floor(root / 4096)
    this.#rootWord = (root % 4096) / 4
    this.entryWords = mode.entryBytes / 4
    this.stock = new FrameStock(allocate, release, mode.entryBytes)
    this.changes = new LiveChanges(mode)
  }

  level(depth: number): PagingLevel {
    return this.mode.levels[depth]!
  }

  /** Whether a present entry with this low half is a leaf. */
  isLeaf(depth: number, low: number): boolean {
    return (low & leafBit(this.mode.levels[depth]!)) !== 0
  }

  /** Word of a table's frame at which an entry begins. */
  wordOf(depth: number, index: number): number {
    return (depth === 0 ? this.#rootWord : 0) + index * this.entryWords
  }

  /** The low half of an entry; {@link high} is the other, 0 where entries have none. */
  read(table: number, depth: number, index: number): number {
    const words = this.memory.locate(table)
    const at = this.memory.base + this.wordOf(depth, index)
    this.high = this.entryWords === 2 ? words[at + 1]! : 0
    return words[at]!
  }

  write(table: number, depth: number, index: number, low: number, high: number): void {
    const words = this.memory.locateForWrite(table)
    const word = this.wordOf(depth, index)
    words[this.memory.base + word] = low
    if (this.entryWords === 2) words[this.memory.base + word + 1] = high
    this.memory.noteTableWrite(table, word, word + this.entryWords)
  }

  /** The entry for a page at depth `goal`, or the one above at which the tables end; {@link high} is its high half. */
  locate(
    page: number,
    goal: number,
  ): {
    readonly table: number
    readonly depth: number
    readonly index: number
    /** First page that the entry is for. */
    readonly first: number
    readonly low: number
  } {
    let table = this.rootFrame
    for (let depth = 0; ; depth++) {
      const { frames, indexBits } = this.level(depth)
      const index = Math.floor(page / frames) % (1 << indexBits)
      const low = this.read(table, depth, index)
      if (depth === goal || (low & Entry.Present) === 0 || this.isLeaf(depth, low)) {
        return { table, depth, index, first: page - (page % frames), low }
      }
      table = this.childOf(low)
    }
  }

  /** Makes an entry lead to the table in frame `child`. */
  point(table: number, depth: number, index: number, child: number, flags: number): void {
    this.write(table, depth, index, this.pointerLow(depth, child, flags), frameHigh(child))
  }

  /** The low half of an entry that leads to the table in frame `child`. */
  pointerLow(depth: number, child: number, flags: number): number {
    const allowed = this.mode.rootInRegisters && depth === 0 ? flags & PDPTE_REGISTER_FLAGS : flags
    return frameLow(child) | allowed
  }

  /**
   * The words of a frame that becomes a table; it begins at the memory's `base`. They are zeros, unless the caller writes all of them (`isWhole`) and
   * sets them without that.
   */
  blank(table: number, isWhole: boolean): Int32Array {
    const { memory } = this
    const isFlat = table * 1024 < memory.flatWords.length
    if (!isWhole || !isFlat) memory.clearFrame(table)
    const words = memory.locateForWrite(table)
    if (isWhole) memory.noteTableWrite(table, 0, 1024)
    return words
  }

  /** Whether a page is mapped below a table. */
  mapsAnything(table: number, depth: number): boolean {
    for (let index = 0; index < 1 << this.level(depth).indexBits; index++) {
      const low = this.read(table, depth, index)
      if ((low & Entry.Present) === 0) continue
      if (this.isLeaf(depth, low) || this.mapsAnything(this.childOf(low), depth + 1)) return true
    }
    return false
  }

  /** The frame of the table that the entry leads to which {@link read} read. */
  childOf(low: number): number {
    return (this.high & 0xf_ffff) * 0x10_0000 + (low >>> 12)
  }

  /**
   * Takes down every page that is mapped below a table, from page number `first` on, as changed, and gives back the frames of the table and of those
   * below it: the entry that led there is replaced. Where nothing is mapped, what processors keep of the entry itself is what must go.
   */
  discard(table: number, depth: number, first: number): void {
    if (!this.mapsAnything(table, depth)) {
      this.changes.addTable(first, this.level(depth).frames * (1 << this.level(depth).indexBits))
    }
    this.#discard(table, depth, first)
  }

  #discard(table: number, depth: number, first: number): void {
    const { frames, indexBits } = this.level(depth)
    for (let index = 0; index < 1 << indexBits; index++) {
      const low = this.read(table, depth, index)
      if ((low & Entry.Present) === 0) continue
      const page = first + index * frames
      if (this.isLeaf(depth, low)) this.changes.add(page, frames, frames)
      else this.#discard(this.childOf(low), depth + 1, page)
    }
    this.stock.give(table)
  }
}
