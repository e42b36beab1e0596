import {
  copyEntries,
  FIVE_LEVEL,
  PAGE_SIZE,
  type PageTableBuilder,
  phys,
  type PhysicalAddress,
} from '@trapdoor/core'
import { descriptorEnd, MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'
import { OutOfMemory } from '../../error.ts'
import type { Kernel } from '../../kernel.ts'
import { EFI_VA_END, EFI_VA_START } from '../regions/top-down.ts'
import { kernelMapPagesInPgd, type PageRights } from './map-pages.ts'
import { kernelAddress } from '../../memory/layout.ts'

/** Entries of a paging structure in 4- and 5-level paging, and bytes of one. */
const ENTRIES = 512n
const ENTRY_BYTES = 8
/** _PAGE_TABLE. */
const TABLE = 0x67n
const ADDRESS_MASK = 0x000f_ffff_ffff_f000n

/** The page tables that firmware runs under from Linux 3.14 on, and how the kernel fills them (arch/x86/platform/efi/efi_64.c). */
export class EfiPgd {
  readonly tables: PageTableBuilder
  readonly #kernel: Kernel

  private constructor(kernel: Kernel, tables: PageTableBuilder) {
    this.#kernel = kernel
    this.tables = tables
  }

  /**
   * `trampoline_pgd` as Linux 3.14 to 4.5 use it (setup_real_mode()): entry 0 is the direct map's first, so that both lead to the same tables, and entry 511
   * is the kernel's own.
   */
  static trampoline(kernel: Kernel): EfiPgd {
    const tables = kernel.newPageTable('trampoline_pgd')
    const { swapper } = kernel.tables
    const directMap = kernel.tables.rootIndex(kernel.tables.directMapAddress(0))
    tables.setRootEntry(0, swapper.rootEntry(directMap))
    tables.setRootEntry(511, swapper.rootEntry(511))
    return new EfiPgd(kernel, tables)
  }

  /** efi_alloc_page_tables() of Linux 4.6 and later: a root of its own, with tables of its own for the window of EFI virtual addresses. */
  static own(kernel: Kernel): EfiPgd {
    const tables = kernel.newPageTable('efi_pgd')
    let table: number = tables.root
    for (let depth = 0; depth < tables.mode.levels.length - 3; depth++) {
      const frame = kernel.allocateTable()
      kernel.machine.memory.clearFrame(frame)
      kernel.machine.memory.write64(table + 511 * ENTRY_BYTES, BigInt(frame * PAGE_SIZE) | TABLE)
      table = frame * PAGE_SIZE
    }
    return new EfiPgd(kernel, tables)
  }

  get root(): PhysicalAddress {
    return this.tables.root
  }

  /** __map_region(): maps a region at `virtual`, writable, uncached where the map does not say write-back. */
  mapRegion(descriptor: MemoryDescriptor, virtual: bigint, executable: boolean): void {
    if (descriptor.numberOfPages === 0) return
    const cacheDisable = (descriptor.attribute & MemoryAttribute.WB) === 0n
    const rights = { writable: true, executable, cacheDisable }
    this.#mapOrWarn(virtual, descriptor.physicalStart, descriptor.numberOfPages, rights)
  }

  /**
   * efi_update_mappings(): changes the rights of a part of a region at its physical and at its virtual address, not whether it is cached. Both are tried; where one cannot be
   * done, for want of a table when a large page is split, the kernel says so.
   */
  updateMappings(
    part: MemoryDescriptor,
    rights: Omit<PageRights, 'cacheDisable'>,
  ): 'applied' | 'failed' {
    const { physicalStart, virtualStart, numberOfPages } = part
    let result: 'applied' | 'failed' = 'applied'
    for (const [kind, address] of [
      ['1:1', BigInt(physicalStart)],
      ['VA', virtualStart],
    ] as const) {
      try {
        this.#map(address, physicalStart, numberOfPages, { ...rights, cacheDisable: false })
      } catch (error) {
        if (!(error instanceof OutOfMemory)) throw error
        result = 'failed'
        this.#kernel.print(
          `Error while updating ${kind} mapping PA 0x${physicalStart.toString(16)} -> VA 0x${virtualStart.toString(16)}!`,
        )
      }
    }
    return result
  }

  /** efi_setup_page_tables(): the map that firmware will be given, 1:1, and page 0 as `page0` says. Throws OutOfMemory. */
  setupPageTables(
    memmap: PhysicalAddress,
    pages: number,
    page0: 'unmapped' | 'executable' | 'no-execute',
  ): void {
    this.#kernel.efiMemmap = { start: memmap, bytes: pages * PAGE_SIZE }
    const rights = { writable: true, cacheDisable: false }
    this.#map(BigInt(memmap), memmap, pages, { ...rights, executable: false })
    if (page0 === 'unmapped') return
    this.#map(0n, 0, 1, { ...rights, executable: page0 === 'executable' })
  }

  /** kernel_map_pages_in_pgd() of bytes from `start` up to `end`, physical, where they are. */
  mapOneToOne(start: number, end: number, rights: Omit<PageRights, 'cacheDisable'>): void {
    this.#map(BigInt(start), start, (end - start) / PAGE_SIZE, { ...rights, cacheDisable: false })
  }

  /** kernel_unmap_pages_in_pgd() of such bytes. */
  unmapOneToOne(start: number, end: number): void {
    this.tables.unmapRange(kernelAddress(BigInt(start)), end - start)
  }

  /** efi_unmap_pages() of Linux 5.0 and later: a region disappears from its physical and from its virtual address. */
  unmapRegion(descriptor: MemoryDescriptor): void {
    const bytes = descriptorEnd(descriptor) - descriptor.physicalStart
    this.tables.unmapRange(kernelAddress(BigInt(descriptor.physicalStart)), bytes)
    if (descriptor.virtualStart === 0n) return
    this.tables.unmapRange(kernelAddress(descriptor.virtualStart), bytes)
  }

  /**
   * efi_sync_low_kernel_mappings() for the trampoline: the root entries from the direct map's to the modules', which are not the one that the window is in.
   */
  syncTrampoline(): void {
    const { tables } = this.#kernel
    const first = tables.rootIndex(tables.layout.pageOffset)
    const end = tables.rootIndex(tables.layout.modulesStart)
    tables.copyRootEntries(this.tables, first, end)
  }

  /**
   * efi_sync_low_kernel_mappings() of Linux 4.6 and later: the root entries from the direct map's up to the window's, and in the window's own structures every entry that does
   * not belong to the window.
   */
  syncLowKernelMappings(): void {
    const { tables } = this.#kernel
    const { layout, swapper } = tables
    const first = tables.rootIndex(layout.pageOffset)
    tables.copyRootEntries(this.tables, first, 511)
    const { memory } = this.#kernel.machine
    const lastTable = (table: number): number =>
      Number(memory.read64(table + 511 * ENTRY_BYTES) & ADDRESS_MASK)
    let own = lastTable(this.tables.root)
    let kernels = lastTable(swapper.root)
    if (this.tables.mode === FIVE_LEVEL) {
      copyEntries(memory, kernels / PAGE_SIZE, own / PAGE_SIZE, 0, 511)
      own = lastTable(own)
      kernels = lastTable(kernels)
    }
    copyEntries(memory, kernels / PAGE_SIZE, own / PAGE_SIZE, 0, PDPT_WINDOW.first)
    copyEntries(memory, kernels / PAGE_SIZE, own / PAGE_SIZE, PDPT_WINDOW.end, 512)
  }

  /** Where no table is to be had the kernel says so and goes on without the mapping. */
  #mapOrWarn(virtual: bigint, physical: number, pages: number, rights: PageRights): void {
    try {
      this.#map(virtual, physical, pages, rights)
    } catch (error) {
      if (!(error instanceof OutOfMemory)) throw error
      const kernel = this.#kernel
      kernel.print(`Error mapping PA 0x${physical.toString(16)} -> VA 0x${virtual.toString(16)}!`)
      kernel.unmappedRegions = [...kernel.unmappedRegions, { virtual, bytes: pages * PAGE_SIZE }]
    }
  }

  #map(virtual: bigint, physical: number, pages: number, rights: PageRights): void {
    const cpu = this.#kernel.bootCpu
    const range = { virtual, physical: phys(physical), bytes: pages * PAGE_SIZE }
    kernelMapPagesInPgd(cpu, this.tables, range, rights)
    if (this.tables.outstanding.length === 0) return
    for (const flush of this.tables.outstanding) flush.ignore('__flush_tlb_all()')
    this.#kernel.tables.flushAll()
  }
}

/** PDPT entries of the window: 444 up to 508. */
const PDPT_WINDOW = {
  first: Number((EFI_VA_END >> 30n) % ENTRIES),
  end: Number((EFI_VA_START >> 30n) % ENTRIES),
} as const
