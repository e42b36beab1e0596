import type { CpuFeatures } from '../cpu/features.ts'
import { Entry } from './entry.ts'

/** One level of a paging mode. */
export interface PagingLevel {
  /** The SDM's short name of an entry at this level. */
  readonly entry: 'PML4E' | 'PDPTE' | 'PDE' | 'PTE'
  /** Lowest bit of the linear address that selects the entry. */
  readonly shift: number
  /** Pages of 4 KiB that a leaf at this level maps. */
  readonly frames: number
  /** What bit 7 means here: nothing but a PAT bit (`pte`), always reserved, a leaf, or a leaf where the CPU has 1 GiB pages. */
  readonly pageSize: 'pte' | 'reserved' | 'leaf' | 'leaf-with-1g'
  /** Reserved low-half bits of a leaf: the address bits that its alignment leaves no use for. */
  readonly leafReservedLow: number
}

/** A paging mode as data: its levels from the root to the last. */
export interface PagingMode {
  readonly name: string
  readonly levels: readonly PagingLevel[]
}

/** 4-level paging (SDM Vol. 3, 4.5). */
export const FOUR_LEVEL: PagingMode = {
  name: '4-level',
  levels: [
    { entry: 'PML4E', shift: 39, frames: 0x800_0000, pageSize: 'reserved', leafReservedLow: 0 },
    {
      entry: 'PDPTE',
      shift: 30,
      frames: 0x4_0000,
      pageSize: 'leaf-with-1g',
      leafReservedLow: 0x3fff_e000,
    },
    { entry: 'PDE', shift: 21, frames: 0x200, pageSize: 'leaf', leafReservedLow: 0x1f_e000 },
    { entry: 'PTE', shift: 12, frames: 1, pageSize: 'pte', leafReservedLow: 0 },
  ],
}

/** The nine bits of a linear address, given as halves, that select an entry at `shift`. */
export function levelIndex(high: number, low: number, shift: number): number {
  return shift >= 32
    ? (high >>> (shift - 32)) & 511
    : ((high << (32 - shift)) | (low >>> shift)) & 511
}

/** The bits of an entry at one level that decide how a CPU reads it, as masks of its halves. */
export interface EntryMasks {
  readonly shift: number
  /** Pages of 4 KiB that a leaf maps. */
  readonly frames: number
  /** The entry is a leaf where it has this bit: P at the last level, PS where large pages exist, else none. */
  readonly leafBit: number
  readonly reservedHigh: number
  /** Reserved in the low half of an entry that points to a table. */
  readonly reservedLow: number
  /** Reserved in the low half of a leaf. */
  readonly leafReservedLow: number
}

/** The masks of each level of a mode on a CPU; `noExecute` is EFER.NXE (SDM Vol. 3, 4.5.4 and 4.5.5). */
export function entryMasks(
  mode: PagingMode,
  features: CpuFeatures,
  noExecute: boolean,
): readonly EntryMasks[] {
  const addressBits = 0xf_ffff & ~((1 << (features.maxPhysicalAddressBits - 32)) - 1)
  return mode.levels.map((level) => {
    const leaves =
      level.pageSize === 'leaf' || (level.pageSize === 'leaf-with-1g' && features.pages1G)
    return {
      shift: level.shift,
      frames: level.frames,
      leafBit: level.pageSize === 'pte' ? Entry.Present : leaves ? Entry.PageSize : 0,
      reservedHigh: (noExecute ? 0 : Entry.NoExecuteHigh) | addressBits,
      reservedLow: leaves || level.pageSize === 'pte' ? 0 : Entry.PageSize,
      leafReservedLow: level.leafReservedLow,
    }
  })
}
