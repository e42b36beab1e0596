import type { CallPlan } from '@trapdoor/capture'
import { TopDownPlacement } from '@trapdoor/kernel'
import { isRuntime, MemoryType } from '@trapdoor/uefi'

/**
 * The map that Linux passes to SetVirtualAddressMap since 4.3: runtime and boot services' regions, the last first, each below the one before (efi_map_regions() and should_map_region() in arch/x86/platform/efi/efi.c,
 * efi_map_region() in efi_64.c, 6.1).
 */
export const LINUX_MAP: CallPlan = {
  rule: 'linux-6.1',
  virtualMap: (memoryMap) => {
    const placement = new TopDownPlacement()
    return memoryMap
      .filter(
        (each) =>
          isRuntime(each) ||
          each.type === MemoryType.BootServicesCode ||
          each.type === MemoryType.BootServicesData,
      )
      .toReversed()
      .map((each) => ({ ...each, virtualStart: placement.place(each) ?? 0n }))
  },
}
