import { Cr0, Cr4, Efer } from '../cpu/control.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import { Entry } from './entry.ts'

/** One level of a paging mode. */
export interface PagingLevel {
  /** The SDM's short name of an entry at this level. */
  readonly entry: 'PML5E' | 'PML4E' | 'PDPTE' | 'PDE' | 'PTE'
  /** Lowest bit of the linear address that selects the entry. */
  readonly shift: number
  /** How many bits of the linear address select the entry: a table has 2^indexBits entries. */
  readonly indexBits: number
  /** Pages of 4 KiB that a leaf at this level maps. */
  readonly frames: number
  /**
   * What bit 7 means here: a PAT bit, as every entry is a leaf (`pte`); always reserved; ignored; a leaf; or a leaf where the CPU has
   * 1 GiB pages, else reserved.
   */
  readonly pageSize: 'pte' | 'reserved' | 'ignored' | 'leaf' | 'leaf-with-1g'
  /** Reserved low-half bits of a leaf: the address bits that its alignment leaves no use for. */
  readonly leafReservedLow: number
}

/** A paging mode as data: its levels from the root to the last. */
export interface PagingMode {
  readonly name: 'off' | '32-bit' | '32-bit PSE' | 'PAE' | '4-level' | '5-level'
  /** Bits of a linear address; above 32, bits 63 up to here must equal the highest one. */
  readonly linearBits: 32 | 48 | 57
  /** Bytes of an entry. */
  readonly entryBytes: 4 | 8
  /** Whether the four entries of the root are processor registers, loaded with CR3 (SDM Vol. 3, 4.4.1). */
  readonly rootInRegisters: boolean
  /** Bits 62 to 52 of an entry: ignored (4- and 5-level, where 62 to 59 hold a protection key) or reserved (PAE). */
  readonly highBits: 'ignored' | 'reserved'
  readonly levels: readonly PagingLevel[]
}

const PTE: PagingLevel = {
  entry: 'PTE',
  shift: 12,
  indexBits: 9,
  frames: 1,
  pageSize: 'pte',
  leafReservedLow: 0,
}
const PDE: PagingLevel = {
  entry: 'PDE',
  shift: 21,
  indexBits: 9,
  frames: 0x200,
  pageSize: 'leaf',
  leafReservedLow: 0x1f_e000,
}
const PDPTE: PagingLevel = {
  entry: 'PDPTE',
  shift: 30,
  indexBits: 9,
  frames: 0x4_0000,
  pageSize: 'leaf-with-1g',
  leafReservedLow: 0x3fff_e000,
}
const PML4E: PagingLevel = {
  entry: 'PML4E',
  shift: 39,
  indexBits: 9,
  frames: 0x800_0000,
  pageSize: 'reserved',
  leafReservedLow: 0,
}
const PML5E: PagingLevel = {
  entry: 'PML5E',
  shift: 48,
  indexBits: 9,
  frames: 0x10_0000_0000,
  pageSize: 'reserved',
  leafReservedLow: 0,
}
const PTE_32: PagingLevel = { ...PTE, indexBits: 10 }
const PDE_32: PagingLevel = {
  entry: 'PDE',
  shift: 22,
  indexBits: 10,
  frames: 0x400,
  pageSize: 'ignored',
  leafReservedLow: 0,
}

/** CR0.PG clear: linear addresses are physical ones (SDM Vol. 3, 4.1.1). */
export const PAGING_OFF: PagingMode = {
  name: 'off',
  linearBits: 32,
  entryBytes: 4,
  rootInRegisters: false,
  highBits: 'ignored',
  levels: [],
}
/** 32-bit paging with CR4.PSE clear: 4 KiB pages only (SDM Vol. 3, 4.3). */
export const BITS_32: PagingMode = {
  name: '32-bit',
  linearBits: 32,
  entryBytes: 4,
  rootInRegisters: false,
  highBits: 'ignored',
  levels: [PDE_32, PTE_32],
}
/** 32-bit paging with CR4.PSE set: 4 MiB pages, whose bits 20 to 13 are address bits 39 to 32 or reserved (SDM Vol. 3, table 4-4). */
export const BITS_32_PSE: PagingMode = {
  ...BITS_32,
  name: '32-bit PSE',
  levels: [{ ...PDE_32, pageSize: 'leaf', leafReservedLow: 0x3f_e000 }, PTE_32],
}
/** PAE paging: 32-bit linear addresses, 64-bit entries, 2 MiB pages (SDM Vol. 3, 4.4). */
export const PAE: PagingMode = {
  name: 'PAE',
  linearBits: 32,
  entryBytes: 8,
  rootInRegisters: true,
  highBits: 'reserved',
  levels: [{ ...PDPTE, indexBits: 2, pageSize: 'reserved', leafReservedLow: 0 }, PDE, PTE],
}
/** 4-level paging (SDM Vol. 3, 4.5). */
export const FOUR_LEVEL: PagingMode = {
  name: '4-level',
  linearBits: 48,
  entryBytes: 8,
  rootInRegisters: false,
  highBits: 'ignored',
  levels: [PML4E, PDPTE, PDE, PTE],
}
/** 5-level paging (SDM Vol. 3, 4.5). */
export const FIVE_LEVEL: PagingMode = {
  ...FOUR_LEVEL,
  name: '5-level',
  linearBits: 57,
  levels: [PML5E, PML4E, PDPTE, PDE, PTE],
}

/** The mode that control registers select (SDM Vol. 3, 4.1.1); EFER.LME decides, as LMA follows it when paging is switched on. */
export function pagingMode(cr0: number, cr4: number, efer: number): PagingMode {
  if ((cr0 & Cr0.PG) === 0) return PAGING_OFF
  if ((cr4 & Cr4.PAE) === 0) return (cr4 & Cr4.PSE) === 0 ? BITS_32 : BITS_32_PSE
  if ((efer & Efer.LME) === 0) return PAE
  return (cr4 & Cr4.LA57) === 0 ? FOUR_LEVEL : FIVE_LEVEL
}

/** The index bits of a linear address, given as halves, that select an entry at `shift` in a table of `mask + 1` entries. */
export function levelIndex(high: number, low: number, shift: number, mask = 511): number {
  return shift >= 32
    ? (high >>> (shift - 32)) & mask
    : ((high << (32 - shift)) | (low >>> shift)) & mask
}

/** How a CPU reads the entries of one level: the bits that decide, as masks of their halves. */
export interface EntryMasks {
  readonly shift: number
  /** One less than the entries of a table. */
  readonly indexMask: number
  /** 32-bit words of an entry. */
  readonly words: number
  /** Where the high half of an entry lies after its low half, and what of it counts: nothing where entries have 32 bits. */
  readonly highAt: number
  readonly highMask: number
  /** Pages of 4 KiB that a leaf maps. */
  readonly frames: number
  /** The entry is a leaf where it has this bit: P at the last level, PS where large pages exist, else none. */
  readonly leafBit: number
  readonly reservedHigh: number
  /** Reserved in the low half of an entry that points to a table. */
  readonly reservedLow: number
  /** Reserved in the low half of a leaf. */
  readonly leafReservedLow: number
  /** Which of a leaf's bits 20 to 13, moved down, are address bits from 32 up (PSE-36). */
  readonly pse36: number
  /** Flags that every entry here counts as having: a PDPTE of PAE paging has neither rights nor an accessed flag. */
  readonly implied: number
}

/** Bits 2, 1 and 8 to 5 of a PDPTE of PAE paging (SDM Vol. 3, table 4-8). */
const PDPTE_REGISTER_RESERVED = 0x1e6

/** Masks that were computed before, by CPU model and mode, without and with NX: inspectors ask again and again. */
const COMPUTED: WeakMap<
  CpuFeatures,
  Map<PagingMode, (readonly EntryMasks[] | undefined)[]>
> = new WeakMap()

/** The masks of each level of a mode on a CPU; `noExecute` is EFER.NXE (SDM Vol. 3, 4.3 to 4.5). */
export function entryMasks(
  mode: PagingMode,
  features: CpuFeatures,
  noExecute: boolean,
): readonly EntryMasks[] {
  let modes = COMPUTED.get(features)
  if (modes === undefined) {
    modes = new Map()
    COMPUTED.set(features, modes)
  }
  let masks = modes.get(mode)
  if (masks === undefined) {
    masks = [undefined, undefined]
    modes.set(mode, masks)
  }
  return (masks[noExecute ? 1 : 0] ??= computeMasks(mode, features, noExecute))
}

function computeMasks(
  mode: PagingMode,
  features: CpuFeatures,
  noExecute: boolean,
): readonly EntryMasks[] {
  const wide = mode.entryBytes === 8
  const reservedHigh = wide ? reservedHighBits(mode, features, noExecute) : 0
  return mode.levels.map((level, depth) => {
    const isRegister = mode.rootInRegisters && depth === 0
    const leaves =
      level.pageSize === 'leaf' || (level.pageSize === 'leaf-with-1g' && features.pages1G)
    const largeReserved = level.pageSize === 'reserved' || level.pageSize === 'leaf-with-1g'
    const isAbovePdptes = level.entry === 'PML4E' || level.entry === 'PML5E'
    const pse36 = wide || !leaves ? 0 : pse36AddressBits(features)
    return {
      shift: level.shift,
      indexMask: 2 ** level.indexBits - 1,
      words: mode.entryBytes / 4,
      highAt: wide ? 1 : 0,
      highMask: wide ? -1 : 0,
      frames: level.frames,
      leafBit: level.pageSize === 'pte' ? Entry.Present : leaves ? Entry.PageSize : 0,
      reservedHigh: isRegister ? -1 << (features.maxPhysicalAddressBits - 32) : reservedHigh,
      reservedLow:
        (isRegister ? PDPTE_REGISTER_RESERVED : 0) |
        (largeReserved && !leaves ? Entry.PageSize : 0) |
        (isAbovePdptes && features.nonLeafGlobalReserved ? Entry.Global : 0),
      leafReservedLow: level.leafReservedLow & ~(pse36 << 13),
      pse36,
      implied: isRegister ? Entry.Writable | Entry.User | Entry.Accessed : 0,
    }
  })
}

function reservedHighBits(mode: PagingMode, features: CpuFeatures, noExecute: boolean): number {
  const beyondMaxPhysical = 0xf_ffff & (-1 << (features.maxPhysicalAddressBits - 32))
  return (
    beyondMaxPhysical |
    (noExecute ? 0 : Entry.NoExecuteHigh) |
    (mode.highBits === 'reserved' ? 0x7ff0_0000 : 0)
  )
}

/** Bits 39 to 32 of a 4 MiB page as far as MAXPHYADDR goes, moved down to 0; none without PSE-36. */
function pse36AddressBits(features: CpuFeatures): number {
  return features.pse36 ? 2 ** Math.min(8, features.maxPhysicalAddressBits - 32) - 1 : 0
}
