import { PAGE_SIZE } from '@trapdoor/core'
import {
  descriptorEnd,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'
import { isLinux } from '../../linux-version.ts'
import { E820Type, updateE820 } from '../../memory/e820.ts'
import { fakeMemmap } from '../regions/fake-mem.ts'

/** Since when what is reserved leaves the RAM of the e820 map, too: in 5.6, not in 5.4. */
const UPDATES_E820_SINCE = '5.5'

/** efi_mem_desc_lookup() (drivers/firmware/efi/efi.c): the descriptor that covers a physical address. */
export function efiMemDescLookup(kernel: Kernel, address: number): MemoryDescriptor | undefined {
  return kernel.requireEfi.memoryMap.find(
    (each) => each.physicalStart <= address && address < descriptorEnd(each),
  )
}

/**
 * efi_mem_reserve() (drivers/firmware/efi/efi.c): `bytes` from the physical address `start` on are never given to anybody. From Linux 4.9 on that takes a descriptor of its own, which
 * efi_arch_mem_reserve() (arch/x86/platform/efi/quirks.c) cuts out of a region of boot-services data and marks with EFI_MEMORY_RUNTIME, so that efi_free_boot_services() leaves it alone; firmware
 * is then told a virtual address for it.
 */
export function efiMemReserve(kernel: Kernel, start: number, bytes: number): void {
  const first = Math.floor(start / PAGE_SIZE) * PAGE_SIZE
  const end = Math.ceil((start + bytes) / PAGE_SIZE) * PAGE_SIZE
  kernel.allocator.reserve(first / PAGE_SIZE, end / PAGE_SIZE)
  if (isLinux(kernel, '4.9')) archMemReserve(kernel, start, start + bytes, { start: first, end })
}

function archMemReserve(
  kernel: Kernel,
  start: number,
  end: number,
  pages: { readonly start: number; readonly end: number },
): void {
  const region = efiMemDescLookup(kernel, start)
  const updatesE820 = isLinux(kernel, UPDATES_E820_SINCE)
  const isRefused = isLinux(kernel, '4.19') && region?.type !== MemoryType.BootServicesData
  if (region === undefined || isRefused) {
    kernel.print(`efi: Failed to lookup EFI memory descriptor for 0x${start.toString(16)}`)
    return
  }
  if (end > descriptorEnd(region)) {
    kernel.print(`efi: Region spans EFI memory descriptors, 0x${start.toString(16)}`)
    return
  }
  if (!updatesE820 && isLinux(kernel, '4.11') && isRuntime(region)) return
  const efi = kernel.requireEfi
  // efi_memmap_insert() splits as efi_fake_memmap() does.
  efi.memoryMap = fakeMemmap(efi.memoryMap, [{ ...pages, attribute: MemoryAttribute.RUNTIME }])
  if (!updatesE820) return
  kernel.e820 = updateE820(kernel.e820, pages.start, pages.end, E820Type.RAM, E820Type.RESERVED)
}
