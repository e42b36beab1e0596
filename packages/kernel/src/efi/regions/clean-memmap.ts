import { PAGE_SIZE } from '@trapdoor/core'
import { type MemoryDescriptor, memoryTypeName } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'

/** EFI_PAGES_MAX: more pages than 64 address bits can hold. */
const MOST_PAGES = 2 ** 52

/**
 * efi_clean_memmap() (arch/x86/platform/efi/efi.c, Linux 4.10 and later): leaves out descriptors that are empty, too long, or wrap around, and says so.
 */
export function cleanMemmap(kernel: Kernel, map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  return map.filter((descriptor) => {
    if (isValidDescriptor(descriptor)) return true
    const { type, physicalStart, numberOfPages } = descriptor
    kernel.print(
      `[Firmware Bug]: Invalid EFI memory map entry: ${memoryTypeName(type)} at 0x${physicalStart.toString(16)}, ${numberOfPages} pages`,
    )
    return false
  })
}

/** Whether a descriptor has pages, and no more than 64 bits can address. */
export function isValidDescriptor({ physicalStart, numberOfPages }: MemoryDescriptor): boolean {
  return (
    numberOfPages > 0 &&
    numberOfPages < MOST_PAGES &&
    BigInt(physicalStart) + BigInt(numberOfPages) * BigInt(PAGE_SIZE) <= 2n ** 64n
  )
}
