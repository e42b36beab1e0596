/** Memory types by their architectural encoding (SDM Vol. 3, table 12-2); UC- exists in the PAT alone. */
export const MemoryKind = { UC: 0, WC: 1, WT: 4, WP: 5, WB: 6, UCMinus: 7 } as const
export type MemoryKind = (typeof MemoryKind)[keyof typeof MemoryKind]
/** The types that an MTRR can have. */
export type MtrrKind = Exclude<MemoryKind, 7>

const NAMES: Readonly<Record<MemoryKind, string>> = {
  0: 'UC',
  1: 'WC',
  4: 'WT',
  5: 'WP',
  6: 'WB',
  7: 'UC-',
}

/** The short name of a memory type, such as "WB". */
export function memoryKindName(kind: MemoryKind): string {
  return NAMES[kind]
}

/** A PAT: the memory type of each of its eight entries. */
export type PageAttributeTable = readonly MemoryKind[]

const { UC, WC, WT, WP, WB, UCMinus } = MemoryKind

/** IA32_PAT after reset (SDM Vol. 3, 12.12.4). */
export const PAT_AT_RESET: PageAttributeTable = [WB, WT, UCMinus, UC, WB, WT, UCMinus, UC]
/** What Linux 2.6.3x loads: entry 1 is write combining (arch/x86/mm/pat.c, pat_init). */
export const PAT_LINUX: PageAttributeTable = [WB, WC, UCMinus, UC, WB, WC, UCMinus, UC]

/** MTRRs as ranges of bytes (`end` exclusive); the last range that holds an address decides, no range means UC. */
export type MtrrRanges = readonly {
  readonly start: number
  readonly end: number
  readonly kind: MtrrKind
}[]

/** The MTRR type of a physical address. */
export function mtrrKind(ranges: MtrrRanges, address: number): MtrrKind {
  for (let index = ranges.length - 1; index >= 0; index--) {
    const range = ranges[index]!
    if (address >= range.start && address < range.end) return range.kind
  }
  return UC
}

/** Table 12-7: rows are the MTRR's type, columns the PAT's UC, UC-, WC, WT, WB, WP. */
const EFFECTIVE: Readonly<Record<MtrrKind, readonly MemoryKind[]>> = {
  [UC]: [UC, UC, WC, UC, UC, UC],
  [WC]: [UC, WC, WC, UC, WC, UC],
  [WT]: [UC, UC, WC, WT, WT, WP],
  [WB]: [UC, UC, WC, WT, WB, WP],
  [WP]: [UC, WC, WC, WT, WP, WP],
}
const PAT_COLUMNS: PageAttributeTable = [UC, UCMinus, WC, WT, WB, WP]

/** The effective type of an access, from the MTRR's and the PAT's (SDM Vol. 3, table 12-7; 11-7 before 2023). An MTRR has no UC-. */
export function effectiveMemoryKind(mtrr: MtrrKind, pat: MemoryKind): MemoryKind {
  return EFFECTIVE[mtrr][PAT_COLUMNS.indexOf(pat)]!
}
