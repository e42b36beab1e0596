import type { Quirk } from '@trapdoor/firmware'
import { MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** A runtime region of no pages at address 0, as if an entry had been forgotten. */
const EMPTY: MemoryDescriptor = {
  type: MemoryType.RuntimeServicesData,
  physicalStart: 0,
  virtualStart: 0n,
  numberOfPages: 0,
  attribute: MemoryAttribute.RUNTIME | MemoryAttribute.WB,
}
/** As many pages as 64 address bits hold: their bytes wrap around to none. */
const WRAPPING: MemoryDescriptor = {
  type: MemoryType.ReservedMemoryType,
  physicalStart: 0,
  virtualStart: 0n,
  numberOfPages: 2 ** 52,
  attribute: 0n,
}

/** The map ends with entries that nobody has filled in. */
export const zeroOrWrapMd: Quirk = {
  id: 'Q23',
  name: 'zero-or-wrap-md',
  title: 'The memory map ends with an empty runtime descriptor and one that wraps around',
  sources: [
    'Linux 4.10 0100a3e67a9c: efi_clean_memmap() (ThinkPad W541, firmware GNET80WW)',
    'Phoenix notebook, linux-efi, April 2020: five entries of 0 pages at 0',
  ],
  hooks: { memoryMap: (descriptors) => [...descriptors, EMPTY, WRAPPING] },
}
