import { formatAddress, type PageTableBuilder, phys, virt } from '@trapdoor/core'
import { type Kernel, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { EfiPgdSwitch, PATCH_STATES, SAVE_AREA } from '@trapdoor/strategy-private-efi-pgd'
import { descriptorEnd } from '@trapdoor/uefi'
import { i386Layout, KERNEL_CONFIGURATION } from './kernel-configuration.ts'

/** Where linear addresses of 32 bits end. */
const FOUR_GIBIBYTES = 2 ** 32

/** efi_pagetable_init(), for as much of the regions as there are linear addresses for. */
function mapOneToOne(kernel: Kernel, efiPgd: PageTableBuilder, state: string): void {
  for (const descriptor of kernel.requireEfi.memoryMap) {
    const rights = PATCH_STATES[state]!.rights(descriptor)
    const { physicalStart: start } = descriptor
    const end = Math.min(descriptorEnd(descriptor), FOUR_GIBIBYTES)
    if (rights === undefined || start >= end) continue
    efiPgd.mapRange(virt(start), phys(start), end - start, {
      ...rights,
      global: true,
      replace: true,
    })
  }
}

/** A region that reaches into the kernel's part of the address space has no 1:1 addresses there. */
function refuseCollisions({ requireEfi: efi, tables }: Kernel, state: string): void {
  const { kernelHalfStart } = tables
  const region = efi.memoryMap.find(
    (each) =>
      PATCH_STATES[state]!.rights(each) !== undefined &&
      BigInt(descriptorEnd(each)) > kernelHalfStart,
  )
  if (region === undefined) return
  throw new StrategyRefusal(
    `the region at ${formatAddress(region.physicalStart)} reaches above PAGE_OFFSET (${formatAddress(kernelHalfStart)})`,
  )
}

/**
 * The patch of August 2010 as it would be on i386: a page table of its own, 1:1 below PAGE_OFFSET, with the kernel's part above. Its stubs for i386 only printed "not supported". Above
 * 3 GiB, where flash chips and devices are, one of the two has to give way.
 */
export const i386PrivateEfiPgd: StrategyDefinition = {
  name: 'i386-private-efi-pgd',
  title:
    'i386: firmware stays physical; a page table of its own, 1:1 below PAGE_OFFSET, the kernel above',
  mode: 'physical',
  rewindable: true,
  layout: i386Layout,
  options: {
    ...KERNEL_CONFIGURATION,
    state: {
      title: 'A: regions by type bits; C: by the RUNTIME attribute',
      values: ['A', 'C'],
      default: 'C',
    },
    above: {
      title:
        'above PAGE_OFFSET: the kernel as it is, the firmware written over it, or no runtime services where a region reaches there',
      values: ['kernel', 'firmware', 'refuse'],
      default: 'kernel',
    },
    saveArea: SAVE_AREA,
  },
  sources: [
    'Takao Indoh, "EFI: run EFI in physical mode", LKML, 13 August 2010: efi_32.c prints "not supported"',
    'RHEL 6 kernel, arch/x86/kernel/efi_64.c: efi_pagetable_init(), efi_call_phys_prelog_in_physmode()',
  ],
  create: ({ state = 'C', above, saveArea }) =>
    new EfiPgdSwitch(
      (kernel, efiPgd) => {
        if (above === 'refuse') refuseCollisions(kernel, state)
        // What is there last is there: entries of the root, or leaves in tables that the kernel shares.
        if (above === 'firmware') kernel.tables.copyKernelHalf(efiPgd)
        mapOneToOne(kernel, efiPgd, state)
        if (above !== 'firmware') kernel.tables.copyKernelHalf(efiPgd)
      },
      { perCpuSaveArea: saveArea !== 'static' },
    ),
}
