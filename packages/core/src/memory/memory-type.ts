/** Memory types by their architectural encoding (SDM Vol. 3, table 12-2); UC- exists in the PAT alone. */
export const MemoryKind = { UC: 0, WC: 1, WT: 4, WP: 5, WB: 6, UCMinus: 7 } as const
export type MemoryKind = (typeof MemoryKind)[keyof typeof MemoryKind]

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
  readonly kind: MemoryKind
}[]

/** The MTRR type of a physical address. */
export function mtrrKind(ranges: MtrrRanges, address: number): MemoryKind {
  for (let index = ranges.length - 1; index >= 0; index--) {
    const range = ranges[index]!
    if (address >= range.start && address < range.end) return range.kind
  }
  return UC
}

/** The effective type of an access, from the MTRR's and the PAT's (SDM Vol. 3, table 12-7). */
export function effectiveMemoryKind(mtrr: MemoryKind, pat: MemoryKind): MemoryKind {
  if (pat === WC) return WC
  if (pat === UC) return UC
  if (pat === UCMinus) return mtrr === WC ? WC : UC
  if (mtrr === UC) return UC
  if (pat === WB) return mtrr
  if (pat === WT) return mtrr === WC ? UC : mtrr === WP ? WP : WT
  // PAT WP: the remaining MTRR types are WC, WT, WP and WB.
  return mtrr === WC ? UC : mtrr === WT ? WT : WP
}
