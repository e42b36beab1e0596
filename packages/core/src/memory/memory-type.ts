import { CoreError } from '../error.ts'

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

/** What decides memory types on a CPU, apart from the entries that map addresses. */
export interface CachingControls {
  readonly pat: PageAttributeTable
  readonly mtrrs: MtrrRanges
  /** CR0.CD: nothing is cached. Default false. */
  readonly cacheDisable?: boolean
}

/**
 * The effective type of an access to the physical address `physical` (in bytes) whose entry selects PAT entry `patIndex`. The accesses of a walk are typed too:
 * for those to a table, bits 4 and 3 (PCD and PWT) of CR3 or of the entry that points to it are the index (SDM Vol. 3, 4.9.2).
 */
export function memoryKindAt(
  caching: CachingControls,
  patIndex: number,
  physical: number,
): MemoryKind {
  if (caching.cacheDisable === true) return UC
  return effectiveMemoryKind(mtrrKind(caching.mtrrs, physical), caching.pat[patIndex]!)
}

/**
 * The PAT that the value of IA32_PAT (MSR 277H) stands for, entry 0 in its lowest byte (SDM Vol. 3, 12.12.2). A byte that stands for no type is
 * CORE_BAD_MEMORY_TYPE: hardware refuses to load it.
 */
export function decodePat(value: bigint): PageAttributeTable {
  return Array.from({ length: 8 }, (_, entry) => {
    const kind = Number((value >> BigInt(entry * 8)) & 0xffn)
    if (isMemoryKind(kind)) return kind
    throw new CoreError('CORE_BAD_MEMORY_TYPE', {
      expected: 'a memory type (0, 1 or 4 to 7) in each byte of IA32_PAT',
      found: `0x${kind.toString(16)} in entry ${entry}`,
    })
  })
}

/** Whether a number is the encoding of a memory type; as an MTRR's type it must not be 7 (UC-). */
export function isMemoryKind(value: number): value is MemoryKind {
  return NAMES[value as MemoryKind] !== undefined
}
