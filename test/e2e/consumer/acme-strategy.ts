import { PAGE_SIZE, phys, virt } from '@trapdoor/core'
import type { Kernel, StrategyDefinition } from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** 64 GiB in the hole below the direct map, which no kernel of 2010 uses. */
const WINDOW = 0xffff_8700_0000_0000n

/** Runtime regions at a constant distance from their physical addresses, in the kernel's own tables. */
function mapIntoWindow(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap.map((descriptor) => {
    if (!isRuntime(descriptor)) return descriptor
    const virtualStart = virt(WINDOW + BigInt(descriptor.physicalStart))
    kernel.tables.swapper.mapRange(
      virtualStart,
      phys(descriptor.physicalStart),
      descriptor.numberOfPages * PAGE_SIZE,
      { executable: descriptor.type === MemoryType.RuntimeServicesCode, global: true },
    )
    return { ...descriptor, virtualStart }
  })
}

export const acmeWindow: StrategyDefinition = {
  name: 'acme-window',
  title: 'SetVirtualAddressMap to a window of its own, at a constant offset',
  mode: 'virtual',
  sources: ['ACME OS 1.0'],
  create: () => ({ virtualMap: mapIntoWindow }),
}
