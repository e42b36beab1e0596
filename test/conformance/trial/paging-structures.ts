import type { PhysicalMemory } from '@trapdoor/core'

import type { Structure } from '../oracle/reserved-bits.ts'
import { Path, STRUCTURE_LEVELS } from '../oracle/translation.ts'

/** Frames of the tables by depth. Any two differ in more than one bit, so that a pointer with one wrong bit hits no other table. */
export const LOW_TABLES: readonly number[] = [0x111, 0x222, 0x444, 0x888, 0x1777]

/** The same above 4 GiB, for processors with at least `physicalAddressBits`. */
export function highTables(physicalAddressBits: number): readonly number[] {
  return LOW_TABLES.map((frame) => 2 ** (physicalAddressBits - 13) + frame)
}

/**
 * The tables on the way of one linear address at a time, in a machine's memory. `current` is what memory should hold; entries not placed
 * are zero.
 */
export class PagingStructures {
  readonly depths: number
  readonly current: Path = new Path()
  readonly tables: readonly number[]
  readonly #structure: Structure
  readonly #memory: PhysicalMemory
  readonly #addresses: number[]
  /** Where the entries are in their tables, in words of 32 bits. */
  readonly #wordsAt: number[]
  readonly #wide: boolean
  #linearHigh = 0
  #linearLow = 0

  constructor(memory: PhysicalMemory, structure: Structure, tables: readonly number[]) {
    this.#memory = memory
    this.#structure = structure
    this.#wide = structure !== '32-bit'
    this.depths = STRUCTURE_LEVELS[structure].length
    this.tables = tables
    this.#addresses = STRUCTURE_LEVELS[structure].map((_, depth) => this.#entryAddress(depth))
    this.#wordsAt = this.#addresses.map((address) => (address % 4096) / 4)
  }

  /** What CR3 gets: the root table, in PAE paging 32 bytes into its frame. */
  static root(structure: Structure, tables: readonly number[]): number {
    return tables[0]! * 4096 + (structure === 'PAE' ? 0x20 : 0)
  }

  /** The table that the entry at `depth` must point to, as the low half of an entry without flags. */
  tableLow(depth: number): number {
    return (this.tables[depth + 1]! << 12) | 0
  }

  /** The high half of the same. */
  tableHigh(depth: number): number {
    return Math.floor(this.tables[depth + 1]! / 0x10_0000)
  }

  /** Turns to another linear address: the entries of the last one are cleared. */
  select(linearHigh: number, linearLow: number): void {
    const empty = new Path()
    this.place(empty)
    this.#linearHigh = linearHigh
    this.#linearLow = linearLow
    for (let depth = 0; depth < this.depths; depth++) {
      const address = this.#entryAddress(depth)
      this.#addresses[depth] = address
      this.#wordsAt[depth] = (address % 4096) / 4
    }
  }

  /** Makes memory hold the entries of `path`; tells whether the entry of the root changed. */
  place(path: Path): boolean {
    let rootChanged = false
    for (let depth = 0; depth < this.depths; depth++) {
      const low = path.low[depth]!
      const high = path.high[depth]!
      if (low !== this.current.low[depth]) {
        this.#memory.write32(this.#addresses[depth]!, low >>> 0)
        this.current.low[depth] = low
        if (depth === 0) rootChanged = true
      }
      if (this.#wide && high !== this.current.high[depth]) {
        this.#memory.write32(this.#addresses[depth]! + 4, high >>> 0)
        this.current.high[depth] = high
        if (depth === 0) rootChanged = true
      }
    }
    return rootChanged
  }

  /** Whether memory holds {@link current}. */
  matches(): boolean {
    for (let depth = 0; depth < this.depths; depth++) {
      const words = this.#memory.locate(this.tables[depth]!)
      const at = this.#memory.base + this.#wordsAt[depth]!
      if (words[at] !== this.current.low[depth]) return false
      if (this.#wide && words[at + 1] !== this.current.high[depth]) return false
    }
    return true
  }

  /** Takes over what memory holds, after a difference, and returns it. */
  readBack(): Path {
    const found = new Path()
    for (let depth = 0; depth < this.depths; depth++) {
      const address = this.#addresses[depth]!
      found.set(
        depth,
        this.#memory.read32(address) | 0,
        this.#wide ? this.#memory.read32(address + 4) | 0 : 0,
      )
    }
    this.current.copy(found)
    return found
  }

  #entryAddress(depth: number): number {
    const { shift } = STRUCTURE_LEVELS[this.#structure][depth]!
    const linear = (BigInt(this.#linearHigh >>> 0) << 32n) | BigInt(this.#linearLow >>> 0)
    if (this.#structure === '32-bit')
      return this.tables[depth]! * 4096 + Number((linear >> BigInt(shift)) & 0x3ffn) * 4
    const pdpte = this.#structure === 'PAE' && depth === 0
    const index = Number((linear >> BigInt(shift)) & (pdpte ? 3n : 0x1ffn))
    return this.tables[depth]! * 4096 + (pdpte ? 0x20 : 0) + index * 8
  }
}
