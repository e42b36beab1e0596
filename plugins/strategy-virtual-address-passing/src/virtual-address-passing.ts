import { formatAddress, phys, virt } from '@trapdoor/core'
import {
  efiIoremap,
  type EfiHandOver,
  type Kernel,
  makeRuntimeCodeExecutable,
  type StrategyDefinition,
  StrategyRefusal,
} from '@trapdoor/kernel'
import { enterVirtualMode } from '@trapdoor/strategy-legacy-virtual'
import { descriptorEnd, isRuntime, MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'

/** The tables' physical addresses, noted before SetVirtualAddressMap hid them, and the regions with their virtual addresses. */
function handOver(kernel: Kernel): EfiHandOver {
  const efi = kernel.requireEfi
  return {
    vendor: Number(efi.vendorAddress),
    runtime: Number(efi.runtimeAddress),
    configurationTable: Number(efi.configurationTableAddress),
    memoryMap: efi.memoryMap.filter(isRuntime),
  }
}

/** Maps every region where the kernel before had it; firmware cannot be told another address any more. */
function takeOver(kernel: Kernel, { memoryMap }: EfiHandOver): void {
  const efi = kernel.requireEfi
  for (const descriptor of memoryMap) mapAtPassedAddress(kernel, descriptor)
  const systab = memoryMap.find(
    ({ physicalStart, ...rest }) =>
      physicalStart <= efi.info.systab &&
      efi.info.systab < descriptorEnd({ physicalStart, ...rest }),
  )
  if (systab === undefined) {
    throw new StrategyRefusal('no passed region holds the EFI system table')
  }
  makeRuntimeCodeExecutable(kernel, memoryMap)
  efi.systab = systab.virtualStart + BigInt(efi.info.systab - systab.physicalStart)
}

function mapAtPassedAddress(kernel: Kernel, descriptor: MemoryDescriptor): void {
  const { tables } = kernel
  const { physicalStart, virtualStart } = descriptor
  const bytes = descriptorEnd(descriptor) - physicalStart
  const cacheDisable = (descriptor.attribute & MemoryAttribute.WB) === 0n
  if (virtualStart === tables.directMapAddress(physicalStart)) {
    efiIoremap(kernel, descriptor)
    if (cacheDisable) tables.setMemoryUncached(virt(virtualStart), bytes)
  } else if (tables.claimVmalloc(virtualStart, bytes)) {
    tables.swapper.mapRange(virt(virtualStart), phys(physicalStart), bytes, {
      global: true,
      cacheDisable,
    })
  } else {
    throw new StrategyRefusal(
      `firmware lives at ${formatAddress(virtualStart)} for ever, which a kernel with the layout of ${tables.layout.name} uses for something else`,
    )
  }
}

/** What ia64's purgatory does, on x86-64: SetVirtualAddressMap once, and each kernel hands the addresses on to the next, which has to map firmware there. Linux 3.14 came to it by SETUP_EFI. */
export const virtualAddressPassing: StrategyDefinition = {
  name: 'virtual-address-passing',
  title: 'as legacy-virtual, and the virtual addresses are handed to the next kernel (as on ia64)',
  mode: 'virtual',
  rewindable: true,
  sources: [
    'Tony Luck, Eric W. Biederman, Simon Horman, replies to "EFI: run EFI in physical mode", LKML, August 2010',
    'kexec-tools purgatory/arch/ia64/purgatory-ia64.c',
    'Linux 3.14 arch/x86/platform/efi/efi.c: efi_setup, kexec_enter_virtual_mode()',
  ],
  create: () => ({ virtualMap: enterVirtualMode, handOver, takeOver }),
}
