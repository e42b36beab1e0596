import { PAGE_SIZE, PAGE_SIZE_2M } from '@trapdoor/core'
import type { MemoryDescriptor } from '@trapdoor/uefi'

/** EFI_VA_START: −4 GiB, the exclusive end of the window that runtime regions are placed in, from above. */
export const EFI_VA_START = 0xffff_ffff_0000_0000n
/** EFI_VA_END: −68 GiB, the first address of the window. */
export const EFI_VA_END = 0xffff_ffef_0000_0000n

const LARGE = BigInt(PAGE_SIZE_2M)

/**
 * The placement of efi_map_region() (Linux 3.14 and later, arch/x86/platform/efi/efi_64.c): each region goes below the one before, at the address that has the same offset in a
 * 2 MiB page as its physical one.
 */
export class TopDownPlacement {
  #efiVa = EFI_VA_START

  /**
   * The virtual address of the next region; undefined where the 64 GiB are used up ("VA address range overflow!"), for all regions from then on.
   */
  place({ physicalStart, numberOfPages }: MemoryDescriptor): bigint | undefined {
    const offset = BigInt(physicalStart % PAGE_SIZE_2M)
    let efiVa = this.#efiVa - BigInt(numberOfPages * PAGE_SIZE)
    if (offset === 0n) {
      efiVa -= efiVa % LARGE
    } else {
      const before = efiVa
      efiVa = efiVa - (efiVa % LARGE) + offset
      if (efiVa > before) efiVa -= LARGE
    }
    this.#efiVa = efiVa
    return efiVa < EFI_VA_END ? undefined : efiVa
  }
}
