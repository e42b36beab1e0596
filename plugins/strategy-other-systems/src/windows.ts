import { phys, virt } from '@trapdoor/core'
import type { PageTableStrategy, StrategyDefinition } from '@trapdoor/kernel'
import { memattrApplyPermissions, memattrInit } from '@trapdoor/kernel'
import {
  descriptorEnd,
  isRuntime,
  type MemoryAttributesTable,
  type MemoryDescriptor,
} from '@trapdoor/uefi'
import { isWriteBack, RuntimeTables } from './runtime-tables.ts'

function createWindows(options: Readonly<Record<string, string>>): PageTableStrategy {
  let attributes: MemoryAttributesTable | undefined
  return {
    serialised: true,
    reserve: (kernel) => {
      if (options['attributes'] === 'table') attributes = memattrInit(kernel)
    },
    /** Regions are mapped in the kernel's own half first; SetVirtualAddressMap sees them there and 1:1. */
    setup: (kernel) => {
      const efi = kernel.requireEfi
      const map = efi.memoryMap.filter(isRuntime).map((region): MemoryDescriptor => {
        const bytes = descriptorEnd(region) - region.physicalStart
        const virtualStart = kernel.tables.reserveVmalloc(bytes)
        kernel.tables.swapper.mapRange(virtualStart, phys(region.physicalStart), bytes, {
          executable: true,
          cacheDisable: !isWriteBack(region),
        })
        return { ...region, virtualStart }
      })
      const loader = new RuntimeTables(kernel, 'boot manager')
      loader.mapEverything(efi.memoryMap)
      loader.setVirtualAddressMap(map)
      if (attributes === undefined) return
      memattrApplyPermissions(kernel, attributes, (entry, rights) => {
        const bytes = descriptorEnd(entry) - entry.physicalStart
        kernel.tables.swapper.protectRange(virt(entry.virtualStart), bytes, rights)
        kernel.tables.flushAll()
      })
    },
  }
}

/** Windows: the kernel's own tables, nothing 1:1 after the boot. What firmware is tested against. */
export const windows: StrategyDefinition = {
  name: 'windows',
  title:
    'Windows: regions in the kernel’s half, mapped before SetVirtualAddressMap; calls on the kernel’s tables, nothing 1:1',
  mode: 'virtual',
  sources: [
    'Ard Biesheuvel, linux-efi, 12 November 2025: what firmware is tested with',
    'OpenCore manual, Booter quirks (secondary: Windows’ own source is not public)',
  ],
  options: {
    attributes: {
      title: 'whether the memory attributes table is applied, as newer versions do',
      values: ['none', 'table'],
      default: 'table',
    },
  },
  create: createWindows,
}
