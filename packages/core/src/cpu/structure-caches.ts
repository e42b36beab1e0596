import type { Rewind } from '../rewind.ts'

/** What the entries that lead to a table grant, as a paging-structure cache holds it. */
export interface CachedStructure {
  /** Frame of the table that the entry points to. */
  readonly table: number
  /** The AND of the low halves of the entries that lead there. */
  readonly common: number
  /** The OR of their high halves. */
  readonly noExecute: number
  /** Epoch of the page tables (see TableJournal) in which the entries led there for the last time that anybody looked. */
  epoch: number
}

/** By context, then by level, then by address bits. */
type Contexts = Map<number, (Map<number, CachedStructure> | undefined)[]>

/** How many entries of one level a context keeps; the oldest go first. */
const CAPACITY = 4096

/**
 * A processor's paging-structure caches (SDM Vol. 3, 4.10.3): for each level above the last the entries that led to a table, by context and by the bits of
 * the address that selected them. Like the TLB they keep everything until something that the SDM names takes it away.
 */
export class StructureCaches {
  #contexts: Contexts = new Map()

  /** What is held for the address with these halves at `depth`, whose entries are selected by the bits from `shift` up. */
  find(
    pcid: number,
    depth: number,
    shift: number,
    high: number,
    low: number,
  ): CachedStructure | undefined {
    return this.#contexts.get(pcid)?.[depth]?.get(prefix(high, low, shift))
  }

  insert(
    pcid: number,
    depth: number,
    shift: number,
    high: number,
    low: number,
    structure: CachedStructure,
  ): void {
    let levels = this.#contexts.get(pcid)
    if (levels === undefined) {
      levels = []
      this.#contexts.set(pcid, levels)
    }
    const entries = (levels[depth] ??= new Map())
    if (entries.size >= CAPACITY) {
      for (const oldest of entries.keys()) {
        entries.delete(oldest)
        break
      }
    }
    entries.set(prefix(high, low, shift), structure)
  }

  /** Remembers what is held at this moment. */
  checkpoint(): Rewind {
    const saved = copyOf(this.#contexts)
    return () => {
      this.#contexts = copyOf(saved)
    }
  }

  /** Drops what is held for one address: a page fault takes it along (SDM Vol. 3, 4.10.4.1). */
  drop(pcid: number, depth: number, shift: number, high: number, low: number): void {
    this.#contexts.get(pcid)?.[depth]?.delete(prefix(high, low, shift))
  }

  /** Drops all of one context: INVLPG whatever its address, MOV to CR3, INVPCID types 0 and 1. */
  flushContext(pcid: number): void {
    this.#contexts.delete(pcid)
  }

  flushAll(): void {
    this.#contexts.clear()
  }
}

function copyOf(contexts: Contexts): Contexts {
  const copy: Contexts = new Map()
  for (const [pcid, levels] of contexts) {
    copy.set(
      pcid,
      levels.map((entries) => {
        if (entries === undefined) return undefined
        const own = new Map<number, CachedStructure>()
        for (const [bits, structure] of entries) own.set(bits, { ...structure })
        return own
      }),
    )
  }
  return copy
}

/** The bits of an address from `shift` up, exact as a number. */
function prefix(high: number, low: number, shift: number): number {
  return shift >= 32 ? high >>> (shift - 32) : (high >>> 0) * 2 ** (32 - shift) + (low >>> shift)
}
