/** One level of paging structures, as a case's generator needs to know it. */
export interface TableLevel {
  /** Lowest bit of the linear address that selects an entry. */
  readonly shift: number
  /** How many bits select it. */
  readonly indexBits: number
  /** What bit 7 of an entry means: a leaf, a reserved bit, or nothing that matters to the walk. */
  readonly bit7: 'leaf' | 'reserved' | 'other'
  /** Tables of this level in a set. */
  readonly tables: number
}

/** How the tables of a paging mode look (SDM Vol. 3, 4.3 to 4.5). */
export interface TableLayout {
  readonly name: '4-level' | '5-level' | 'PAE' | '32-bit' | '32-bit PSE'
  /** In IA-32e mode. */
  readonly longMode: boolean
  readonly entryBytes: 4 | 8
  readonly linearBits: 32 | 48 | 57
  /** The entry of every root that leads to the guest. */
  readonly guestIndex: number
  /** Level 1, whose entries map 4 KiB, first. */
  readonly levels: readonly TableLevel[]
}

const PT: TableLevel = { shift: 12, indexBits: 9, bit7: 'other', tables: 200 }
const PD: TableLevel = { shift: 21, indexBits: 9, bit7: 'leaf', tables: 200 }
const PDPT: TableLevel = { shift: 30, indexBits: 9, bit7: 'leaf', tables: 150 }
const PML4: TableLevel = { shift: 39, indexBits: 9, bit7: 'reserved', tables: 60 }
const PML5: TableLevel = { shift: 48, indexBits: 9, bit7: 'reserved', tables: 10 }

export const FOUR_LEVEL: TableLayout = {
  name: '4-level',
  longMode: true,
  entryBytes: 8,
  linearBits: 48,
  guestIndex: 511,
  levels: [PT, PD, PDPT, PML4],
}

export const FIVE_LEVEL: TableLayout = {
  ...FOUR_LEVEL,
  name: '5-level',
  linearBits: 57,
  levels: [PT, PD, PDPT, PML4, PML5],
}

export const PAE: TableLayout = {
  name: 'PAE',
  longMode: false,
  entryBytes: 8,
  linearBits: 32,
  guestIndex: 0,
  levels: [PT, PD, { ...PDPT, indexBits: 2, bit7: 'reserved', tables: 60 }],
}

export const BITS_32: TableLayout = {
  name: '32-bit',
  longMode: false,
  entryBytes: 4,
  linearBits: 32,
  guestIndex: 0,
  levels: [
    { ...PT, indexBits: 10 },
    { ...PD, shift: 22, indexBits: 10, bit7: 'other', tables: 60 },
  ],
}

export const BITS_32_PSE: TableLayout = {
  ...BITS_32,
  name: '32-bit PSE',
  levels: [BITS_32.levels[0]!, { ...BITS_32.levels[1]!, bit7: 'leaf' }],
}

/** The number of an address' entry in a table of a level. */
export function entryIndex({ shift, indexBits }: TableLevel, address: bigint): number {
  return Number((address >> BigInt(shift)) & ((1n << BigInt(indexBits)) - 1n))
}
