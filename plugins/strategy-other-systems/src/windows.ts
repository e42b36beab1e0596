import { PAGE_SIZE_2M, phys, virt } from '@trapdoor/core'
import {
  LAYOUT_FIXED_ROOT,
  type Kernel,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { memattrApplyPermissions, memattrInit } from '@trapdoor/kernel'
import {
  descriptorEnd,
  isRuntime,
  type MemoryAttributesTable,
  type MemoryDescriptor,
} from '@trapdoor/uefi'
import { isWriteBack, RuntimeTables, placedAt } from './runtime-tables.ts'

/** Bytes that are reserved at most to keep the distances between regions. */
const SPAN = 2 ** 30

/** Regions in the kernel's half: near ones as far apart as they are, the rest one by one. */
function place(kernel: Kernel, regions: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  if (regions.length === 0) return []
  const lowest = Math.min(...regions.map(({ physicalStart }) => physicalStart))
  const near = regions.filter((region) => descriptorEnd(region) - lowest <= SPAN)
  const start = Math.floor(lowest / PAGE_SIZE_2M) * PAGE_SIZE_2M
  const base = kernel.tables.reserveVmalloc(Math.max(...near.map(descriptorEnd)) - start)
  return regions.map((region) =>
    placedAt(
      region,
      near.includes(region)
        ? base + BigInt(region.physicalStart - start)
        : kernel.tables.reserveVmalloc(descriptorEnd(region) - region.physicalStart),
    ),
  )
}

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
      const map = place(kernel, efi.memoryMap.filter(isRuntime))
      for (const region of map) {
        const bytes = descriptorEnd(region) - region.physicalStart
        kernel.tables.swapper.mapRange(
          virt(region.virtualStart),
          phys(region.physicalStart),
          bytes,
          {
            executable: true,
            cacheDisable: !isWriteBack(region),
            // Regions may overlap.
            replace: true,
          },
        )
      }
      const loader = new RuntimeTables(kernel, 'boot manager')
      loader.mapEverything(efi.memoryMap)
      loader.setVirtualAddressMap(map)
      if (attributes === undefined) return
      memattrApplyPermissions(kernel, attributes, (entry, rights) => {
        const bytes = descriptorEnd(entry) - entry.physicalStart
        kernel.tables.swapper.protectRange(virt(entry.virtualStart), bytes, rights)
        kernel.tables.flushAll()
        return 'applied'
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
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
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
