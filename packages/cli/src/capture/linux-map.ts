import type { CallPlan } from '@trapdoor/capture'
import { TopDownPlacement } from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/**
 * The map that Linux passes to SetVirtualAddressMap since 4.3: runtime and boot services' regions, the last first, each below the one before (efi_map_regions() and should_map_region() in arch/x86/platform/efi/efi.c,
 * efi_map_region() in efi_64.c, 6.1).
 */
export const LINUX_MAP: CallPlan = {
  rule: 'linux-6.1',
  virtualMap: (memoryMap) => {
    const placement = new TopDownPlacement()
    const place = (region: MemoryDescriptor): MemoryDescriptor => ({
      ...region,
      virtualStart: placement.place(region) ?? 0n,
    })
    return memoryMap.filter(isPassed).toReversed().map(place)
  },
}

function isPassed(region: MemoryDescriptor): boolean {
  const { BootServicesCode, BootServicesData } = MemoryType
  return isRuntime(region) || region.type === BootServicesCode || region.type === BootServicesData
}
