import type { Random } from './random.ts'
import { entryIndex, type TableLayout } from './table-layout.ts'
import { PAGE_BYTES, Table } from './table.ts'

/** Bits of an entry (SDM Vol. 3, 4.5). */
const PRESENT = 0x1n
const WRITABLE = 0x2n
const USER = 0x4n
const PAGE_SIZE = 0x80n
const PAT_OF_LARGE_PAGE = 0x1000n
const NO_EXECUTE = 1n << 63n
const ADDRESS = 0xf_ffff_ffff_f000n
/** Bits 62 to 52, which PAE paging reserves. */
const HIGH_BITS = 0x7ffn << 52n
/** What the PDPTEs of PAE paging may have beside an address: P, PWT, PCD, bits 11 to 9. A reserved bit would be refused with CR3. */
const PDPTE_OF_PAE = 0xe19n

const GIBIBYTE = 2 ** 30
const BELOW_4_GIB = 4
/** Entries of a table that are filled, and so the linear addresses that lead anywhere. */
const FILLED = 8

/** Where tables and data can be on an emulated machine. */
export interface TablePlaces {
  /** Whole GiB of memory that are the cases' alone, by number. No two are equal modulo 32. */
  readonly gibibytes: readonly number[]
  /** MAXPHYADDR. */
  readonly physicalBits: number
}

/** An entry on the way of a translation. */
export interface PathStep {
  /** The level that the walk is at, which need not be the table's own. */
  readonly level: number
  readonly table: Table
  readonly index: number
  readonly entry: bigint
}

/**
 * Random page tables of one run: a stock of tables of each level that point to each other at random, so that tables are shared, some across levels, and a way
 * down combines entries that were made independently. Entries are random in every bit.
 */
export class TableSet {
  readonly layout: TableLayout
  readonly tables: readonly Table[]
  /** The tables that CR3 can name. */
  readonly roots: readonly Table[]
  /** Physical addresses of the frames that pages map. */
  readonly dataFrames: readonly number[]
  /** Filled indexes by level, from level 1. */
  readonly indexes: readonly (readonly number[])[]
  /** Physical addresses that a large page of level 2 can have. */
  readonly #largePages: readonly number[]
  readonly #byLevel: readonly (readonly Table[])[]
  readonly #lowDataFrames: readonly number[]
  readonly #dataFrames: ReadonlySet<number>
  readonly #byAddress: ReadonlyMap<number, Table>
  readonly #places: TablePlaces

  constructor(random: Random, layout: TableLayout, places: TablePlaces) {
    const { levels, entryBytes } = layout
    this.layout = layout
    this.#places = places
    this.indexes = levels.map(({ indexBits }, at) =>
      at === levels.length - 1
        ? rootIndexes(random, 2 ** indexBits, layout.guestIndex)
        : random.distinct(FILLED, 2 ** indexBits),
    )
    const largeShift = levels[1]!.shift
    // In a page of 1 GiB, the index of level 2 is a part of the offset.
    const largeNumbers = layout.longMode
      ? this.indexes[1]!
      : random.distinct(FILLED, GIBIBYTE / 2 ** largeShift)
    this.#largePages = places.gibibytes.flatMap((gibibyte) =>
      largeNumbers.map((number) => gibibyte * GIBIBYTE + number * 2 ** largeShift),
    )
    this.dataFrames = this.#largePages.flatMap((base) =>
      this.indexes[0]!.map((page) => base + page * PAGE_BYTES),
    )
    this.#lowDataFrames = this.dataFrames.filter((frame) => frame < BELOW_4_GIB * GIBIBYTE)
    this.#dataFrames = new Set(this.dataFrames)
    const taken = new Set(this.dataFrames)
    this.tables = levels.flatMap((level, at) =>
      Array.from({ length: level.tables }, () => {
        // What CR3 or an entry of four bytes names lies below 4 GiB.
        const isLow = entryBytes === 4 || (!layout.longMode && at === levels.length - 1)
        return new Table(freeFrame(random, places, isLow, taken), at + 1, entryBytes)
      }),
    )
    this.#byLevel = levels.map((_, at) => this.tables.filter(({ level }) => level === at + 1))
    this.roots = this.#byLevel.at(-1)!
    this.#byAddress = new Map(this.tables.map((table) => [table.address, table]))
    for (const table of this.tables) {
      for (const index of this.indexes[table.level - 1]!) {
        table.setEntry(index, this.#entry(random, table.level))
      }
    }
  }

  /** The entries that a translation may read: down to one that is not present, that maps a page, or that points to no table. */
  path(root: Table, address: bigint): PathStep[] {
    const { levels } = this.layout
    const path: PathStep[] = []
    let table: Table | undefined = root
    for (let level = levels.length; level > 0 && table !== undefined; level--) {
      const { bit7 } = levels[level - 1]!
      const index = entryIndex(levels[level - 1]!, address)
      const entry: bigint = table.entry(index)
      path.push({ level, table, index, entry })
      if ((entry & PRESENT) === 0n || (bit7 !== 'other' && (entry & PAGE_SIZE) !== 0n)) break
      table = this.#byAddress.get(Number(entry & ADDRESS))
    }
    return path
  }

  /** Whether a way down ends at code: at a page that lies in the data frames. What else a way may end at is not to be executed. */
  leadsToData(path: readonly PathStep[], address: bigint): boolean {
    const { level, entry } = path.at(-1)!
    const { entryBytes, levels } = this.layout
    const within = (1n << BigInt(levels[level - 1]!.shift)) - 1n
    const far = entryBytes === 4 && level === 2 ? ((entry >> 13n) & 0xffn) << 32n : 0n
    const base = (entry & ADDRESS & ~within) | far
    return this.#dataFrames.has(Number(base | (address & within & ADDRESS)))
  }

  /** Whether a way down comes through the entry that roots have for the guest, as it can where a root is a table of another level too. */
  leadsToGuest(path: readonly PathStep[]): boolean {
    const { levels, guestIndex } = this.layout
    return path.some(({ table, index }) => table.level === levels.length && index === guestIndex)
  }

  /** Whether an address lies in the memory that is the cases' alone. */
  isOurs(physical: number): boolean {
    return this.#places.gibibytes.includes(Math.floor(physical / GIBIBYTE))
  }

  #entry(random: Random, level: number): bigint {
    const { layout } = this
    const { bit7 } = layout.levels[level - 1]!
    const isLeaf = level === 1 || (bit7 === 'leaf' && random.percent(level === 2 ? 35 : 25))
    // Every bit that is not an address bit is random; then those are put right that would make most ways end early.
    let entry = random.bits(64) & ~ADDRESS & ~(PRESENT | WRITABLE | USER | NO_EXECUTE)
    if (random.percent(96)) entry |= PRESENT
    if (random.percent(80)) entry |= WRITABLE
    if (random.percent(75)) entry |= USER
    if (random.percent(8)) entry |= NO_EXECUTE
    if (bit7 !== 'other') {
      entry &= ~PAGE_SIZE
      if (isLeaf || (bit7 === 'reserved' && random.percent(1))) entry |= PAGE_SIZE
    }
    if (!layout.longMode) entry &= ~HIGH_BITS
    if (layout.name === 'PAE' && level === layout.levels.length) {
      return (entry & PDPTE_OF_PAE) | BigInt(this.#tableAddress(random, level))
    }
    if (random.percent(1)) entry |= this.#reservedBit(random)
    if (isLeaf && level > 1) entry |= this.#largeBits(random, level)
    entry |= isLeaf ? this.#leafAddress(random, level) : BigInt(this.#tableAddress(random, level))
    return BigInt.asUintN(8 * layout.entryBytes, entry)
  }

  /** A bit above MAXPHYADDR; in PAE paging, also of those above. */
  #reservedBit(random: Random): bigint {
    const { physicalBits } = this.#places
    const end = this.layout.name === 'PAE' ? 63 : 52
    return 1n << BigInt(physicalBits + random.below(end - physicalBits))
  }

  /** A PAT bit, and seldom one that the alignment of a large page reserves. */
  #largeBits(random: Random, level: number): bigint {
    const { entryBytes, levels } = this.layout
    const pat = random.percent(50) ? PAT_OF_LARGE_PAGE : 0n
    if (!random.percent(8)) return pat
    const first = entryBytes === 4 ? 21 : 13
    return pat | (1n << BigInt(first + random.below(levels[level - 1]!.shift - first)))
  }

  #leafAddress(random: Random, level: number): bigint {
    const { entryBytes } = this.layout
    if (level === 3) return BigInt(random.pick(this.#places.gibibytes) * GIBIBYTE)
    if (entryBytes === 8)
      return BigInt(random.pick(level === 1 ? this.dataFrames : this.#largePages))
    if (level === 1) return BigInt(random.pick(this.#lowDataFrames))
    // PSE-36: address bits 39 to 32 are bits 20 to 13 of the entry.
    const base = BigInt(random.pick(this.#largePages))
    return (base & 0xffff_ffffn) | ((base >> 32n) << 13n)
  }

  #tableAddress(random: Random, level: number): number {
    // In entries of four bytes, a large page's entry could be taken for a page anywhere, the guest's among them.
    const isAnyLevel = this.layout.entryBytes === 8 && random.percent(1)
    return random.pick(isAnyLevel ? this.tables : this.#byLevel[level - 2]!).address
  }
}

/** Filled indexes of a root: not the guest's. */
function rootIndexes(random: Random, size: number, guestIndex: number): number[] {
  const first = guestIndex === 0 ? 1 : 0
  return random.distinct(Math.min(FILLED, size - 1), size - 1).map((index) => index + first)
}

function freeFrame(
  random: Random,
  { gibibytes }: TablePlaces,
  isLow: boolean,
  taken: Set<number>,
): number {
  const allowed = isLow ? gibibytes.filter((gibibyte) => gibibyte < BELOW_4_GIB) : gibibytes
  for (;;) {
    const address =
      random.pick(allowed) * GIBIBYTE + random.below(GIBIBYTE / PAGE_BYTES) * PAGE_BYTES
    if (taken.has(address)) continue
    taken.add(address)
    return address
  }
}
