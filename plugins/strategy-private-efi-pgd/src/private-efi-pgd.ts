import { PAGE_SIZE, type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { Kernel, StrategyDefinition } from '@trapdoor/kernel'
import { descriptorEnd, type MemoryDescriptor } from '@trapdoor/uefi'
import { EfiPgdSwitch, SAVE_AREA } from './efi-pgd-switch.ts'
import { type LeafRights, PATCH_STATES, type PatchState } from './states.ts'

/** efi_pagetable_init(): a page table of its own that maps the firmware 1:1, with the kernel's half as the patch's states have it. */
function efiPagetableInit(
  kernel: Kernel,
  efiPgd: PageTableBuilder,
  state: PatchState,
  page0: string | undefined,
): void {
  // dell_efi_quirk() comes first, with PAGE_KERNEL.
  if (page0 === 'mapped') {
    efiPgd.mapRange(virt(0), phys(0), PAGE_SIZE, { global: true, executable: false })
  }
  for (const descriptor of kernel.requireEfi.memoryMap) {
    const rights = state.rights(descriptor)
    if (rights !== undefined) mapDescriptor(efiPgd, descriptor, rights)
  }
  const { tables } = kernel
  if (state.wholeKernelHalf) {
    tables.copyKernelHalf(efiPgd)
    return
  }
  const directMap = tables.rootIndex(tables.layout.pageOffset)
  tables.copyRootEntries(efiPgd, directMap, directMap + 1)
  tables.copyRootEntries(efiPgd, 511, 512)
}

/** The loop runs to PFN_UP(end) inclusive: one page too many, which the next descriptor may overwrite. */
function mapDescriptor(
  efiPgd: PageTableBuilder,
  descriptor: MemoryDescriptor,
  rights: LeafRights,
): void {
  const start = descriptor.physicalStart
  const bytes = descriptorEnd(descriptor) - start + PAGE_SIZE
  efiPgd.mapRange(virt(start), phys(start), bytes, { ...rights, global: true, replace: true })
}

/** The patch of 2010, "EFI: run EFI in physical mode", as it was sent (state A), as it was revised (B), and as RHEL 6 shipped it (C): efi_pgd, loaded around each call. */
export const privateEfiPgd: StrategyDefinition = {
  name: 'private-efi-pgd',
  title: 'firmware stays physical; a 1:1 page table of its own, CR3 switched around calls',
  mode: 'physical',
  rewindable: true,
  sources: [
    'Takao Indoh, "EFI: run EFI in physical mode", LKML, 13 August 2010',
    'RHEL 6 kernel, arch/x86/kernel/efi_64.c: efi_pagetable_init(), efi_call_phys_prelog_in_physmode()',
  ],
  options: {
    state: {
      title:
        'A: type bits, two kernel entries; B: type bits, whole kernel half; C: RUNTIME attribute',
      values: ['A', 'B', 'C'],
      default: 'C',
    },
    saveArea: SAVE_AREA,
    page0: {
      title: 'whether page 0 is mapped 1:1, as state C does on Dell machines',
      values: ['unmapped', 'mapped'],
      default: 'unmapped',
    },
  },
  create: ({ state, saveArea, page0 }) =>
    new EfiPgdSwitch(
      (kernel, efiPgd) => {
        efiPagetableInit(kernel, efiPgd, PATCH_STATES[state ?? 'C']!, page0)
      },
      {
        perCpuSaveArea: saveArea !== 'static',
        clonesAgain: PATCH_STATES[state ?? 'C']!.wholeKernelHalf,
        reservesBootServices: PATCH_STATES[state ?? 'C']!.reservesBootServices,
      },
    ),
}
