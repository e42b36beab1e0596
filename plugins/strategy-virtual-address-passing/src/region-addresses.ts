import { PAGE_SIZE, phys } from '@trapdoor/core'
import {
  efiIoremap,
  type Kernel,
  kernelAddress,
  type PageTableStrategy,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import {
  descriptorEnd,
  EfiStatus,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
} from '@trapdoor/uefi'

/** Uncached memory at a constant distance, as region 6 of ia64; x86-64 kernels have nothing there. */
const REGION_6 = 0xffff_ec00_0000_0000n
const REGION_6_END = 0xffff_ed00_0000_0000n

/** efi_enter_virtual_mode() of ia64: `__va()` of what is cached, region 6 for the rest. */
function place(kernel: Kernel, descriptor: MemoryDescriptor): MemoryDescriptor {
  const { physicalStart, attribute } = descriptor
  if ((attribute & MemoryAttribute.WB) !== 0n) {
    return { ...descriptor, virtualStart: efiIoremap(kernel, descriptor) }
  }
  const virtualStart = REGION_6 + BigInt(physicalStart)
  const bytes = descriptorEnd(descriptor) - physicalStart
  kernel.tables.swapper.mapRange(
    kernelAddress(virtualStart),
    phys(physicalStart),
    Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE,
    { global: true, cacheDisable: true },
  )
  return { ...descriptor, virtualStart }
}

/** `__pa(__va(pointer))`: the region bits go, whether they are there already or not. */
function withoutRegion({ tables }: Kernel, pointer: bigint): bigint {
  const { pageOffset, pageOffsetEnd } = tables.layout
  if (pointer >= pageOffset && pointer < pageOffsetEnd) return pointer - pageOffset
  if (pointer >= REGION_6 && pointer < REGION_6_END) return pointer - REGION_6
  return pointer
}

function create(): PageTableStrategy {
  return {
    virtualMap: (kernel) =>
      kernel.requireEfi.memoryMap.map((descriptor) =>
        isRuntime(descriptor) ? place(kernel, descriptor) : descriptor,
      ),
    physicalAddress: withoutRegion,
    purgatory: (kernel, machine) => {
      const nothing = machine.gates.bind({
        name: 'SetVirtualAddressMap',
        image: 'purgatory',
        run: () => EfiStatus.SUCCESS,
      })
      machine.memory.write(Number(kernel.requireEfi.setVirtualAddressMap), nothing)
    },
  }
}

/** ia64's way: every kernel has firmware at the same addresses, and what must not be called twice is replaced by something that does nothing. */
export const regionAddresses: StrategyDefinition = {
  name: 'region-addresses',
  title:
    'as on ia64: fixed region addresses, and kexec’s purgatory replaces SetVirtualAddressMap by a function that does nothing',
  mode: 'virtual',
  rewindable: true,
  sources: [
    'Linux arch/ia64/kernel/efi.c: efi_enter_virtual_mode()',
    'kexec-tools purgatory/arch/ia64/purgatory-ia64.c',
    'Simon Horman, Tony Luck, replies to "EFI: run EFI in physical mode", LKML, August 2010',
  ],
  create,
}
