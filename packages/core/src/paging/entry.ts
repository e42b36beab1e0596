/**
 * Bits of a paging-structure entry (SDM Vol. 3, 4.5.5). Those below bit 32 as numbers that apply to the low half of an
 * entry; NX, the only one above, to the high half.
 */
export const Entry = {
  Present: 0x1,
  Writable: 0x2,
  User: 0x4,
  WriteThrough: 0x8,
  CacheDisable: 0x10,
  Accessed: 0x20,
  Dirty: 0x40,
  PageSize: 0x80,
  Global: 0x100,
  /** The PAT bit of a 4 KiB page-table entry. */
  Pat4K: 0x80,
  /** The PAT bit of an entry that maps a 2 MiB or 1 GiB page. */
  PatLarge: 0x1000,
  /** XD in the SDM, NX in the APM: bit 63, here bit 31 of the high half. */
  NoExecuteHigh: -0x8000_0000,
} as const

/** Flags of a mapping, apart from where they sit in an entry. */
export interface PageFlags {
  readonly writable: boolean
  readonly user: boolean
  readonly executable: boolean
  readonly global: boolean
  /** PWT: selects PAT entry 1, 3, 5 or 7. */
  readonly writeThrough: boolean
  /** PCD: selects PAT entry 2, 3, 6 or 7. */
  readonly cacheDisable: boolean
}

/** The physical frame that the halves of an entry point to, in pages of 4 KiB. */
export function entryFrame(low: number, high: number): number {
  return (high & 0xf_ffff) * 0x10_0000 + (low >>> 12)
}

/** The high half of an entry that points to `frame` (in pages of 4 KiB). */
export function frameHigh(frame: number): number {
  return Math.floor(frame / 0x10_0000)
}

/** The low half of an entry that points to `frame`, without flags. */
export function frameLow(frame: number): number {
  return (frame << 12) | 0
}

/** The PAT index that the low half of a leaf selects (SDM Vol. 3, 4.9.2); `frames` tells the size of its page. */
export function leafPatIndex(low: number, frames: number): number {
  const pat = frames === 1 ? low & Entry.Pat4K : low & Entry.PatLarge
  return (pat === 0 ? 0 : 4) | ((low & (Entry.CacheDisable | Entry.WriteThrough)) >>> 3)
}
