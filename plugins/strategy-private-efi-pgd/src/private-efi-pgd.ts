import { PAGE_SIZE, type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type {
  Kernel,
  KernelVariable,
  PageTableStrategy,
  RuntimeCall,
  StrategyDefinition,
} from '@trapdoor/kernel'
import { descriptorEnd, type MemoryDescriptor } from '@trapdoor/uefi'
import { type LeafRights, PATCH_STATES, type PatchState } from './states.ts'

/** The patch of August 2010: a page table of its own that maps the firmware 1:1, loaded around every call. */
class PrivateEfiPgd implements PageTableStrategy {
  readonly #state: PatchState
  readonly #perCpuSaveArea: boolean
  readonly #mapPageZero: boolean
  #efiPgd: PageTableBuilder | undefined
  #saveCr3: KernelVariable | undefined
  #efiFlags: KernelVariable | undefined

  constructor(state: PatchState, options: { perCpuSaveArea: boolean; mapPageZero: boolean }) {
    this.#state = state
    this.#perCpuSaveArea = options.perCpuSaveArea
    this.#mapPageZero = options.mapPageZero
  }

  /** efi_setup_physical_mode() and efi_pagetable_init(). */
  setup(kernel: Kernel): void {
    const efiPgd = kernel.staticPageTable('efi_pgd')
    for (const descriptor of kernel.requireEfi.memoryMap) {
      const rights = this.#state.rights(descriptor)
      if (rights !== undefined) mapDescriptor(efiPgd, descriptor, rights)
    }
    if (this.#mapPageZero) {
      efiPgd.mapRange(virt(0), phys(0), PAGE_SIZE, { global: true, replace: true })
    }
    this.#cloneKernelHalf(kernel, efiPgd)
    this.#efiPgd = efiPgd
    this.#saveCr3 = kernel.variable({ perCpu: this.#perCpuSaveArea })
    this.#efiFlags = kernel.variable({ perCpu: this.#perCpuSaveArea })
  }

  /** efi_call_phys_prelog_in_physmode(). */
  enter({ cpu }: RuntimeCall): void {
    this.#efiFlags!.write(cpu, cpu.interruptFlag ? 1n : 0n)
    cpu.interruptFlag = false
    this.#saveCr3!.write(cpu, BigInt(cpu.cr3))
    cpu.writeCr3(this.#efiPgd!.root)
  }

  /** efi_call_phys_epilog_in_physmode(): nothing but CR3 and IF; what the leaves' G bit keeps in the TLB stays there. */
  leave({ cpu }: RuntimeCall): void {
    cpu.writeCr3(Number(this.#saveCr3!.read(cpu)))
    cpu.interruptFlag = this.#efiFlags!.read(cpu) !== 0n
  }

  #cloneKernelHalf(kernel: Kernel, efiPgd: PageTableBuilder): void {
    if (this.#state.wholeKernelHalf) {
      kernel.tables.copyKernelHalf(efiPgd)
      return
    }
    const directMap = kernel.tables.rootIndex(kernel.tables.layout.pageOffset)
    kernel.tables.copyRootEntries(efiPgd, directMap, directMap + 1)
    kernel.tables.copyRootEntries(efiPgd, 511, 512)
  }
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
    saveArea: {
      title: 'where CR3 and IF are kept during a call',
      values: ['perCpu', 'static'],
      default: 'perCpu',
    },
    page0: {
      title: 'whether page 0 is mapped 1:1, as state C does on Dell machines',
      values: ['unmapped', 'mapped'],
      default: 'unmapped',
    },
  },
  create: (options) =>
    new PrivateEfiPgd(PATCH_STATES[options['state'] ?? 'C']!, {
      perCpuSaveArea: options['saveArea'] !== 'static',
      mapPageZero: options['page0'] === 'mapped',
    }),
}
