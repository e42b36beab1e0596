import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry } from './entry.ts'
import { entryMasks, PAE } from './mode.ts'
import type { PathEntry } from './walk.ts'

/**
 * The four PDPTE registers of PAE paging. The processor reads them from memory with CR3 and not again: what is written to the table afterwards
 * counts from the next load on (SDM Vol. 3, 4.4.1).
 */
export class PdpteRegisters {
  /** Physical address in bytes that they were read from, a multiple of 32. */
  readonly table: number
  readonly #words: Int32Array

  private constructor(table: number, words: Int32Array) {
    this.table = table
    this.#words = words
  }

  /** The registers as memory has them, or undefined where a present entry has a reserved bit set, which is #GP(0) for who loads them. */
  static load(
    memory: PhysicalMemory,
    table: number,
    features: CpuFeatures,
  ): PdpteRegisters | undefined {
    const registers = PdpteRegisters.read(memory, table)
    const { reservedLow, reservedHigh } = entryMasks(PAE, features, true)[0]!
    for (let index = 0; index < 4; index++) {
      const { low, high } = registers.pathEntry(index)
      const isReserved = ((low & reservedLow) | (high & reservedHigh)) !== 0
      if ((low & Entry.Present) !== 0 && isReserved) return undefined
    }
    return registers
  }

  /** The registers as memory has them, reserved bits and all: for inspectors. */
  static read(memory: PhysicalMemory, table: number): PdpteRegisters {
    const words = new Int32Array(8)
    for (let word = 0; word < 8; word++) words[word] = memory.read32(table + word * 4)
    return new PdpteRegisters(table, words)
  }

  /** A register as the first entry of a walk. */
  pathEntry(index: number): PathEntry {
    return {
      depth: 0,
      table: this.table,
      index,
      low: this.#words[index * 2]!,
      high: this.#words[index * 2 + 1]!,
    }
  }
}
