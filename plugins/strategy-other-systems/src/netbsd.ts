import { LAYOUT_FIXED_ROOT, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { isRuntime, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { CLOCK_AND_VARIABLES } from './called-services.ts'
import { type Rights, RuntimeTables } from './runtime-tables.ts'

/** End of the half of the address space that is not the kernel's. */
const LOW_HALF = 2n ** 47n

/** Uncached wherever the map offers that, be it one of several types: EFI_MEMORY_UC is looked at first, and WC next, whose PAT entry is PWT's here. */
function rightsOf({ attribute, type }: MemoryDescriptor): Rights {
  const has = (bit: bigint): boolean => (attribute & bit) !== 0n
  return {
    writable: !has(MemoryAttribute.RO),
    executable: type === MemoryType.RuntimeServicesCode && !has(MemoryAttribute.XP),
    cacheDisable: has(MemoryAttribute.UC),
    writeThrough: !has(MemoryAttribute.UC) && has(MemoryAttribute.WC),
  }
}

/** NetBSD: as OpenBSD with interrupts on, and not where a region begins in the kernel's map or in its direct map. */
export const netbsd: StrategyDefinition = {
  name: 'netbsd',
  title:
    'NetBSD: no SetVirtualAddressMap, runtime regions 1:1, code writable and executable, uncached where that is possible, a mutex',
  mode: 'physical',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'NetBSD 10 sys/arch/x86/x86/efi_machdep.c: efi_runtime_init(), efi_runtime_enter(), efi_runtime_ops',
  ],
  create: () => {
    let pmap: RuntimeTables | undefined
    return {
      serialised: true,
      offers: (_kernel, service) => CLOCK_AND_VARIABLES.has(service),
      setup: (kernel) => {
        pmap = new RuntimeTables(kernel, 'efi_runtime_pmap')
        for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
          const address = region.virtualStart || BigInt(region.physicalStart)
          if (address >= LOW_HALF) {
            throw new StrategyRefusal('efi runtime overlaps kernel map')
          }
          pmap.map(region, address, rightsOf(region))
        }
      },
      enter: ({ cpu }) => {
        pmap!.enter(cpu)
      },
      leave: (call) => {
        pmap!.leave(call)
      },
    }
  },
}
