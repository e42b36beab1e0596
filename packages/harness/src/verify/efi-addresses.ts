/** Where the upper half of the tables begins that hold the window of EFI addresses: their last root entry, −512 GiB. */
const LAST_ROOT_ENTRY = 0xffff_ff80_0000_0000n
/** Where the kernel's own image is mapped from, which those tables have from `swapper_pg_dir`. */
const START_KERNEL_MAP = 0xffff_ffff_8000_0000n

/**
 * Whether a linear address of the EFI page tables is EFI's own: in the low half, or below the kernel's image under the root's last entry, where efi_64.c puts its window (−68 GiB to
 * −4 GiB) and nothing else is. The rest of these tables is the kernel's.
 */
export function isEfiAddress(address: bigint): boolean {
  return address < 2n ** 63n || (address >= LAST_ROOT_ENTRY && address < START_KERNEL_MAP)
}
