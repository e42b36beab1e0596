/**
 * Which bits of a paging-structure entry are reserved, from the SDM's tables of entry formats (Vol. 3, tables 4-4 to 4-6 for 32-bit
 * paging, 4-8 to 4-11 for PAE paging, 4-14 to 4-20 for 4-level and 5-level paging) and, where AMD differs, the APM (Vol. 2, 5.3.3).
 */

export type Structure = '32-bit' | 'PAE' | '4-level' | '5-level'

export type EntryName = 'PML5E' | 'PML4E' | 'PDPTE' | 'PDE' | 'PTE'

/** What the meaning of a bit depends on. */
export interface EntryFormat {
  readonly structure: Structure
  /** MAXPHYADDR; the tables call it M. */
  readonly physicalAddressBits: number
  /** IA32_EFER.NXE. */
  readonly noExecute: boolean
  /** CR4.PSE, which only 32-bit paging looks at. */
  readonly pageSizeExtensions: boolean
  readonly pse36: boolean
  readonly pages1G: boolean
  /** The CPU is one of AMD's, where bit 8 of a PML4E and of a PML5E must be zero. */
  readonly amdGlobalBit: boolean
}

/** A set of entry bits as signed 32-bit halves. */
export interface BitSet {
  readonly low: number
  readonly high: number
}

/** Bits `highest` down to `lowest`, both included, as the manuals write them; none where `highest` is below. */
function bits(highest: number, lowest: number): bigint {
  return highest < lowest ? 0n : ((1n << BigInt(highest - lowest + 1)) - 1n) << BigInt(lowest)
}

function split(mask: bigint): BitSet {
  return { low: Number(BigInt.asIntN(32, mask)), high: Number(BigInt.asIntN(32, mask >> 32n)) }
}

/** Whether an entry with bit 7 set maps a page, at the levels where it may. */
export function largePageAllowed(format: EntryFormat, entry: EntryName): boolean {
  if (entry === 'PDE') return format.structure !== '32-bit' || format.pageSizeExtensions
  return entry === 'PDPTE' && format.structure !== 'PAE' && format.pages1G
}

/** Reserved bits of a present entry that maps a page (`leaf`) or points to a table. */
export function reservedBits(format: EntryFormat, entry: EntryName, leaf: boolean): BitSet {
  const m = format.physicalAddressBits
  const executeDisable = format.noExecute ? 0n : bits(63, 63)
  if (format.structure === '32-bit') {
    if (entry !== 'PDE' || !leaf) return { low: 0, high: 0 }
    // Table 4-4: bits M-20 to 13 extend the address, up to M-19 and 21 are reserved; M is at most 40, and 32 without PSE-36.
    const extended = format.pse36 ? Math.min(m, 40) : 32
    return split(bits(21, extended - 19))
  }
  if (format.structure === 'PAE') {
    if (entry === 'PDPTE') return split(bits(2, 1) | bits(8, 5) | bits(63, m))
    const alignment = entry === 'PDE' && leaf ? bits(20, 13) : 0n
    return split(alignment | bits(62, m) | executeDisable)
  }
  return split(longModeReserved(format, entry, leaf) | bits(51, m) | executeDisable)
}

/** Those that have a position of their own, in 4-level and 5-level paging. */
function longModeReserved(format: EntryFormat, entry: EntryName, leaf: boolean): bigint {
  if (entry === 'PML5E' || entry === 'PML4E')
    return bits(7, 7) | (format.amdGlobalBit ? bits(8, 8) : 0n)
  if (entry === 'PDPTE') {
    if (leaf) return bits(29, 13)
    return format.pages1G ? 0n : bits(7, 7)
  }
  return entry === 'PDE' && leaf ? bits(20, 13) : 0n
}
