import {
  type Kernel,
  LAYOUT_FIXED_ROOT,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { isRuntime, type MemoryDescriptor, SystemTable } from '@trapdoor/uefi'
import { mapInLoader } from './loader.ts'
import { placedAt, RuntimeTables } from './runtime-tables.ts'

/** EFI_RT_VIRTUAL_OFFSET: where LoongArch has a direct-mapped window, a multiple of 512 GiB in the kernel's half that Linux on x86-64 uses for nothing. */
const OFFSET = 0xffff_8080_0000_0000n

/** efi_get_virtmap(). */
function placed(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap
    .filter(isRuntime)
    .map((region) => placedAt(region, OFFSET + BigInt(region.physicalStart)))
}

/** Whether a stub before this kernel has called SetVirtualAddressMap: kexec jumps to the kernel's entry, past the stub. */
function isConverted({ machine, requireEfi: { info } }: Kernel): boolean {
  return machine.memory.read64(info.systab + SystemTable.RuntimeServices) >= OFFSET
}

function createConstantOffset(): PageTableStrategy {
  let window: RuntimeTables | undefined
  return {
    serialised: true,
    callsEarly: false,
    /** TO_CACHE(), by which early_memremap() has everything in the window: an address that lies there already stays what it is. */
    physicalAddress: (_, pointer) => (pointer >= OFFSET ? pointer - OFFSET : pointer),
    /** The stub's efi_boot_kernel(). */
    reserve: (kernel) => {
      if (!isConverted(kernel)) mapInLoader(kernel, placed(kernel), OFFSET)
    },
    /** The window reaches all of memory, whether a map lists it or not, and knows no rights. */
    setup: (kernel) => {
      const efi = kernel.requireEfi
      const regions = placed(kernel)
      window = new RuntimeTables(kernel, 'direct-mapped window')
      window.mapFirstGigabytes()
      window.mapEverything(efi.memoryMap)
      window.copyLowHalf(OFFSET)
      window.tables.setRootEntry(0, 0n)
      efi.memoryMap = regions
      efi.virtualMode = true
      efi.systab = OFFSET + BigInt(efi.info.systab)
    },
    enter: ({ cpu }) => {
      window!.enter(cpu)
    },
    leave: (call) => {
      window!.leave(call)
    },
  }
}

/** LoongArch: every virtual address is the physical one and a constant. */
export const constantOffset: StrategyDefinition = {
  name: 'constant-offset',
  title:
    'LoongArch: VA = PA + a constant, in a window of all memory; the stub calls SetVirtualAddressMap, so that kexec does not',
  mode: 'virtual',
  rewindable: true,
  layout: LAYOUT_FIXED_ROOT,
  sources: [
    'Linux 6.1 drivers/firmware/efi/libstub/loongarch-stub.c: efi_boot_kernel(); efi-stub.c: efi_get_virtmap()',
    'Linux 6.1 arch/loongarch/kernel/efi.c: efi_init(), efi_runtime_init(); include/asm/efi.h: EFI_RT_VIRTUAL_OFFSET',
  ],
  create: createConstantOffset,
}
