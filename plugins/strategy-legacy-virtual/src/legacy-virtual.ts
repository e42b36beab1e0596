import {
  callersLock,
  efiIoremap,
  isServiceOf2635,
  type Kernel,
  restoreXmm,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'

/** A runtime region in the direct map, or where efi_ioremap() puts it when that does not reach; UC- where it cannot be cached. Returns it with its virtual address, or as it was where there is none. */
export function mapIntoDirectMap(kernel: Kernel, descriptor: MemoryDescriptor): MemoryDescriptor {
  const virtualStart = efiIoremap(kernel, descriptor)
  if (virtualStart === 0n) return descriptor
  if ((descriptor.attribute & MemoryAttribute.WB) === 0n) {
    const bytes = descriptorEnd(descriptor) - descriptor.physicalStart
    kernel.tables.setMemoryUncached(virtualStart, bytes)
  }
  return { ...descriptor, virtualStart }
}

/**
 * The mapping half of efi_enter_virtual_mode() in 2.6.35. Returns the whole firmware map, in its order, with the virtual addresses of runtime regions in it.
 */
export function enterVirtualMode(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap.map((descriptor) =>
    isRuntime(descriptor) ? mapIntoDirectMap(kernel, descriptor) : descriptor,
  )
}

/** L1: SetVirtualAddressMap with addresses of the direct map, and calls on the current task's page tables. */
export const legacyVirtual: StrategyDefinition = {
  name: 'legacy-virtual',
  title:
    'SetVirtualAddressMap into the direct map, calls on the current page tables (Linux up to 2.6.39)',
  mode: 'virtual',
  rewindable: true,
  linux: { from: '2.6', before: '3.0' },
  sources: [
    'Linux 2.6.35 arch/x86/kernel/efi.c: efi_enter_virtual_mode()',
    'Linux 2.6.35 arch/x86/kernel/efi_64.c: efi_ioremap(), efi_call_phys_prelog()',
    'Linux 2.6.35 arch/x86/kernel/efi_stub_64.S: SAVE_XMM, RESTORE_XMM',
    'Linux 2.6.35 drivers/firmware/efivars.c: efivars_lock; arch/x86/kernel/rtc.c: rtc_lock',
  ],
  create: () => ({
    virtualMap: enterVirtualMode,
    leave: restoreXmm,
    lockOf: (service) => callersLock(service, 'efivars_lock'),
    offers: (_, service) => isServiceOf2635(service),
  }),
}
