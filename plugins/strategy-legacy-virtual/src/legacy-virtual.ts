import { efiIoremap, type Kernel, type StrategyDefinition } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'

/**
 * The mapping half of efi_enter_virtual_mode() in 2.6.35: every runtime region goes into the direct map, or through efi_ioremap() where that does not reach; what
 * cannot be cached becomes UC-. Returns the whole firmware map, in its order, with the virtual addresses in it.
 */
export function enterVirtualMode(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap.map((descriptor) => {
    if (!isRuntime(descriptor)) return descriptor
    const virtualStart = efiIoremap(kernel, descriptor)
    if ((descriptor.attribute & MemoryAttribute.WB) === 0n) {
      const bytes = descriptorEnd(descriptor) - descriptor.physicalStart
      kernel.tables.setMemoryUncached(virtualStart, bytes)
    }
    return { ...descriptor, virtualStart }
  })
}

/** L1: SetVirtualAddressMap with addresses of the direct map, and calls on the current task's page tables. */
export const legacyVirtual: StrategyDefinition = {
  name: 'legacy-virtual',
  title:
    'SetVirtualAddressMap into the direct map, calls on the current page tables (Linux up to 3.0)',
  mode: 'virtual',
  sources: [
    'Linux 2.6.35 arch/x86/kernel/efi.c: efi_enter_virtual_mode()',
    'Linux 2.6.35 arch/x86/kernel/efi_64.c: efi_ioremap(), efi_call_phys_prelog()',
  ],
  create: () => ({ virtualMap: enterVirtualMode }),
}
