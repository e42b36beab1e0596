import { PAGE_SIZE } from '@trapdoor/core'
import type { CallPlan } from '@trapdoor/capture'
import { LAYOUT_I386_PAE, TopDownPlacement } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/**
 * The map that Linux passes to SetVirtualAddressMap since 4.3. With 64 bits: runtime and boot services' regions, the last first, each below the one before (efi_map_regions() and should_map_region() in
 * arch/x86/platform/efi/efi.c, efi_map_region() in efi_64.c, 6.1). With 32: runtime regions alone, in order, in the direct map or in vmalloc space (old_map_region() in efi_32.c).
 */
export const LINUX_MAP: CallPlan = {
  rule: 'linux-6.1',
  virtualMap: (memoryMap, architecture) =>
    architecture === 'x64' ? mapOf64Bits(memoryMap) : mapOf32Bits(memoryMap),
}

function mapOf64Bits(memoryMap: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  const placement = new TopDownPlacement()
  const place = (region: MemoryDescriptor): MemoryDescriptor => ({
    ...region,
    virtualStart: placement.place(region) ?? 0n,
  })
  return memoryMap.filter(isPassed).toReversed().map(place)
}

function isPassed(region: MemoryDescriptor): boolean {
  const { BootServicesCode, BootServicesData } = MemoryType
  return isRuntime(region) || region.type === BootServicesCode || region.type === BootServicesData
}

function mapOf32Bits(memoryMap: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  const { lowMemoryEnd = 0, pageOffset, vmallocStart } = LAYOUT_I386_PAE
  let next: bigint = vmallocStart
  const place = (region: MemoryDescriptor): bigint => {
    if (descriptorEnd(region) <= lowMemoryEnd) return pageOffset + BigInt(region.physicalStart)
    const start = next
    // vmalloc() leaves a page behind each.
    next += BigInt((region.numberOfPages + 1) * PAGE_SIZE)
    return start
  }
  const placed = (region: MemoryDescriptor): MemoryDescriptor => ({
    ...region,
    virtualStart: place(region),
  })
  return memoryMap.filter(isRuntime).map(placed)
}
