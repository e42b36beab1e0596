import { LAYOUT_FIXED_ROOT, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime } from '@trapdoor/uefi'
import { codeExecutable, RuntimeTables } from './runtime-tables.ts'

/** End of the half of the address space that is not the kernel's. */
const LOW_HALF = 2 ** 47

/** NetBSD: as OpenBSD with interrupts on, and not where a region reaches into the kernel's half. */
export const netbsd: StrategyDefinition = {
  name: 'netbsd',
  title:
    'NetBSD: no SetVirtualAddressMap, runtime regions 1:1, code writable and executable, a mutex',
  mode: 'physical',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: ['NetBSD sys/arch/x86/x86/efi_machdep.c: efi_runtime_init(), efi_runtime_enter()'],
  create: () => {
    let pmap: RuntimeTables | undefined
    return {
      serialised: true,
      setup: (kernel) => {
        const regions = kernel.requireEfi.memoryMap.filter(isRuntime)
        if (regions.some((region) => descriptorEnd(region) > LOW_HALF)) {
          throw new StrategyRefusal('a runtime region overlaps the kernel’s half')
        }
        pmap = new RuntimeTables(kernel, 'efi_runtime_pmap')
        for (const region of regions) {
          pmap.map(region, BigInt(region.physicalStart), codeExecutable(region))
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
