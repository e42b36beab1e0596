import { Cr4 } from '@trapdoor/core'
import type { Kernel } from '@trapdoor/kernel'
import type { MemoryDescriptor } from '@trapdoor/uefi'
import { rwx, RuntimeTables } from './runtime-tables.ts'

/**
 * SetVirtualAddressMap as a boot loader calls it: right after ExitBootServices, while boot-services memory is as it was, on tables that map everything 1:1 and the regions
 * of `map` at their virtual addresses too; with `offset` everything that is mapped 1:1, whether the map lists it or not, is also mapped that much higher. Runs where nothing has been allocated yet. Throws StrategyRefusal where firmware refuses.
 */
export function mapInLoader(
  kernel: Kernel,
  map: readonly MemoryDescriptor[],
  offset?: bigint,
): void {
  const tables = new RuntimeTables(kernel, 'boot loader')
  tables.mapFirstGigabytes()
  tables.mapEverything(kernel.requireEfi.memoryMap)
  for (const region of map) tables.map(region, region.virtualStart, rwx(region))
  if (offset !== undefined) tables.copyLowHalf(offset)
  // A loader runs with the CR4 that firmware has set for itself, SSE included (UEFI 2.10, 2.3.4.2), where a kernel's entry code has cleared it.
  const { bootCpu: cpu } = kernel
  const { cr4 } = cpu
  cpu.writeCr4(cr4 | Cr4.OSFXSR | Cr4.OSXMMEXCPT)
  tables.setVirtualAddressMap(map)
  cpu.writeCr4(cr4)
}
