/**
 * The dimensions of kvm-unit-tests' x86/access.c and which combinations of them it runs, so that counts can be compared with what it reports. The
 * forced-emulation prefix is left out, as it is where a processor does not know it.
 */
export const Flag: {
  readonly PteWritable: 0x1
  readonly PteUser: 0x2
  readonly PteAccessed: 0x4
  readonly PteDirty: 0x8
  readonly PteNoExecute: 0x10
  readonly PtePresent: 0x20
  readonly PteBit51: 0x40
  readonly PteBit36: 0x80
  readonly PdeWritable: 0x100
  readonly PdeUser: 0x200
  readonly PdeAccessed: 0x400
  readonly PdeDirty: 0x800
  readonly PdePageSize: 0x1000
  readonly PdeNoExecute: 0x2000
  readonly PdePresent: 0x4000
  readonly PdeBit51: 0x8000
  readonly PdeBit36: 0x1_0000
  readonly PdeBit13: 0x2_0000
  readonly PdpteReadOnly: 0x4_0000
  readonly KeyAccessDisable: 0x8_0000
  readonly KeyWriteDisable: 0x10_0000
  readonly KeyOne: 0x20_0000
  readonly User: 0x40_0000
  readonly Write: 0x80_0000
  readonly Fetch: 0x100_0000
  readonly Twice: 0x200_0000
  readonly EferNxe: 0x400_0000
  readonly Cr0Wp: 0x800_0000
  readonly Cr4Pke: 0x1000_0000
} = {
  PteWritable: 0x1,
  PteUser: 0x2,
  PteAccessed: 0x4,
  PteDirty: 0x8,
  PteNoExecute: 0x10,
  PtePresent: 0x20,
  PteBit51: 0x40,
  PteBit36: 0x80,
  PdeWritable: 0x100,
  PdeUser: 0x200,
  PdeAccessed: 0x400,
  PdeDirty: 0x800,
  PdePageSize: 0x1000,
  PdeNoExecute: 0x2000,
  PdePresent: 0x4000,
  PdeBit51: 0x8000,
  PdeBit36: 0x1_0000,
  PdeBit13: 0x2_0000,
  PdpteReadOnly: 0x4_0000,
  KeyAccessDisable: 0x8_0000,
  KeyWriteDisable: 0x10_0000,
  KeyOne: 0x20_0000,
  User: 0x40_0000,
  Write: 0x80_0000,
  Fetch: 0x100_0000,
  Twice: 0x200_0000,
  EferNxe: 0x400_0000,
  Cr0Wp: 0x800_0000,
  Cr4Pke: 0x1000_0000,
}

/** Flags of the PTE and of the PDE. */
export const ENTRY_FLAGS = 0x3_ffff

/** All flags of the entries, of protection keys, of the access, and of the control registers. */
export const ALL_FLAGS = 0x1fff_ffff

/** The flags that the product has on a processor: bits that are part of its physical addresses are not set, nor keys used that it lacks. */
export function productFlags(physicalAddressBits: number, protectionKeys: boolean): number {
  let flags = ALL_FLAGS
  if (physicalAddressBits >= 52) flags &= ~(Flag.PteBit51 | Flag.PdeBit51)
  if (physicalAddressBits >= 37) flags &= ~(Flag.PteBit36 | Flag.PdeBit36)
  if (!protectionKeys)
    flags &= ~(Flag.KeyAccessDisable | Flag.KeyWriteDisable | Flag.KeyOne | Flag.Cr4Pke)
  return flags
}

/** Whether the product runs the combination. CR4.SMEP is not among the flags, since access.c runs none with it. */
export function isLegal(flags: number): boolean {
  const fetchAndWrite = Flag.Fetch | Flag.Write
  if ((flags & fetchAndWrite) === fetchAndWrite) return false
  // PKRU is written only where it counts.
  if ((flags & Flag.Cr4Pke) === 0 && (flags & (Flag.KeyAccessDisable | Flag.KeyWriteDisable)) !== 0)
    return false
  // Bit 13 is reserved in a PDE that maps a page, and an address bit in one that points to a table.
  if ((flags & Flag.PdeBit13) !== 0 && (flags & Flag.PdePageSize) === 0) return false
  // At most one reserved bit at a time.
  let reserved =
    flags & (Flag.PdeBit51 | Flag.PdeBit36 | Flag.PdeBit13 | Flag.PteBit51 | Flag.PteBit36)
  if ((flags & Flag.EferNxe) === 0) reserved |= flags & (Flag.PdeNoExecute | Flag.PteNoExecute)
  return (reserved & (reserved - 1)) === 0
}

/** Every subset of `mask` that fits legally with the flags `rest`, in ascending order. */
export function legalSubsets(mask: number, rest: number): number[] {
  const subsets: number[] = []
  let subset = 0
  do {
    if (isLegal(subset | rest)) subsets.push(subset)
    subset = (subset - mask) & mask
  } while (subset !== 0)
  return subsets
}
