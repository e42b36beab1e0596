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
import { ramRanges } from '../../memory/e820.ts'
import { KERNEL_IMAGE_BYTES } from '../../memory/kernel-image.ts'

const LOW_MEMORY = 0x10_0000

/** Whether a descriptor is boot-services code or data. */
export function isBootServices({ type }: MemoryDescriptor): boolean {
  return type === MemoryType.BootServicesCode || type === MemoryType.BootServicesData
}

/**
 * efi_reserve_boot_services() (arch/x86/platform/efi/quirks.c, Linux 3.0 and later): keeps boot-services memory until SetVirtualAddressMap is over. What
 * somebody else has reserved already, what the kernel lies in, and what is not all RAM in the e820 map is marked with EFI_MEMORY_RUNTIME instead, so that it is never given
 * back (`mark`, Linux 4.5 and later), or left out of the map as a descriptor of no pages (`forget`, before). Returns the map as the kernel goes on with it.
 */
export function reserveBootServices(
  kernel: Kernel,
  map: readonly MemoryDescriptor[],
  shared: 'forget' | 'mark',
): MemoryDescriptor[] {
  return map.map((descriptor) => {
    if (!isBootServices(descriptor) || descriptor.numberOfPages === 0) return descriptor
    const start = descriptor.physicalStart / PAGE_SIZE
    const end = start + descriptor.numberOfPages
    if (!kernel.allocator.isReserved(start, end)) {
      kernel.allocator.reserve(start, end)
      if (canFreeRegion(kernel, descriptor)) return descriptor
    }
    if (shared === 'forget') return { ...descriptor, numberOfPages: 0 }
    return { ...descriptor, attribute: descriptor.attribute | MemoryAttribute.RUNTIME }
  })
}

/**
 * efi_free_boot_services(): gives boot-services memory without the mark back to the page allocator, after `unmap` has taken it out of whatever maps it. Returns the map without
 * these regions. What lies below 1 MiB stays reserved since Linux 5.13 (commit f1d4d47c5851).
 */
export function freeBootServices(
  kernel: Kernel,
  map: readonly MemoryDescriptor[],
  unmap?: (descriptor: MemoryDescriptor) => void,
): MemoryDescriptor[] {
  const freed = map.filter((descriptor) => isBootServices(descriptor) && !isRuntime(descriptor))
  const lowest = isLinux(kernel, '5.13') ? LOW_MEMORY / PAGE_SIZE : 0
  for (const descriptor of freed) {
    unmap?.(descriptor)
    const start = descriptor.physicalStart / PAGE_SIZE
    const end = start + descriptor.numberOfPages
    if (end > lowest) kernel.allocator.release(Math.max(start, lowest), end)
  }
  const pages = freed.reduce((sum, { numberOfPages }) => sum + numberOfPages, 0)
  kernel.print(`efi: Freeing EFI boot services memory: ${pages * 4}K`)
  return map.filter((descriptor) => !freed.includes(descriptor))
}

/** can_free_region(). */
function canFreeRegion(kernel: Kernel, descriptor: MemoryDescriptor): boolean {
  const start = descriptor.physicalStart
  const end = descriptorEnd(descriptor)
  const { base } = kernel.image
  const images = [{ start: base, end: base + KERNEL_IMAGE_BYTES }, kernel.realImage]
  if (images.some((image) => image !== undefined && end > image.start && start <= image.end)) {
    return false
  }
  return ramRanges(kernel.e820).some((ram) => ram.start <= start && end <= ram.end)
}
