import {
  type Cpu,
  Cr4,
  Entry,
  highHalf,
  lowHalf,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  type PageFlags,
  PageTableBuilder,
  phys,
  type PhysicalMemory,
  type Rewind,
  type VirtualAddress,
} from '@trapdoor/core'
import { KernelPanic, OutOfMemory } from '../error.ts'
import { KERNEL_IMAGE_BYTES, KERNEL_TEXT_BYTES, type KernelImage } from './kernel-image.ts'
import { type AddressSpaceLayout, kernelAddress } from './layout.ts'

/** Root entries; `end` is exclusive. */
export interface RootEntries {
  readonly first: number
  readonly end: number
}

/** Low half of the PTE that early_ioremap() writes: PAGE_KERNEL without NX. */
const EARLY_PTE = 0x163n
const NX = 1n << 63n
/** Of 32-bit paging (PSE). */
const PAGE_SIZE_4M = 0x40_0000
/** _PAGE_TABLE. */
const PAGE_TABLE = 0x67n
/** Pages that one early_ioremap() can map, and how many of them may be live (NR_FIX_BTMAPS, FIX_BTMAPS_SLOTS). */
const EARLY_SLOT_PAGES = 64
const EARLY_SLOTS = 4

/** Bytes of physical memory that the direct map covers; ends are exclusive. */
interface DirectMapExtent {
  readonly lowEnd: number
  readonly highEnd: number
}

/**
 * `swapper_pg_dir` and what the kernel does to it (arch/x86/mm/init_64.c, ioremap.c, pageattr.c of 2.6.35): the map of its own image, the direct map, early_ioremap,
 * ioremap, set_memory_*. Sizes are in bytes.
 */
export class KernelTables {
  readonly swapper: PageTableBuilder
  readonly layout: AddressSpaceLayout
  readonly #memory: PhysicalMemory
  readonly #allocateTable: () => number
  readonly #image: KernelImage
  /** Bytes of the page that a page-directory entry maps: 2 MiB, or 4 MiB where entries have 32 bits. */
  readonly largePage: number
  /** The largest page of the direct map. */
  readonly #largestPage: number
  readonly #onlineCpus: () => readonly Cpu[]
  #mapped: DirectMapExtent = { lowEnd: 0, highEnd: 0 }
  readonly #earlySlots: boolean[] = Array.from({ length: EARLY_SLOTS }, () => false)
  #vmallocNext: bigint
  #cpaAllowed = false

  constructor(options: {
    readonly memory: PhysicalMemory
    readonly layout: AddressSpaceLayout
    readonly image: KernelImage
    readonly pages1G: boolean
    readonly allocateTable: () => number
    readonly onlineCpus: () => readonly Cpu[]
  }) {
    this.layout = options.layout
    this.#memory = options.memory
    this.#allocateTable = options.allocateTable
    this.#image = options.image
    const { mode } = options.layout
    this.largePage = mode.entryBytes === 4 ? PAGE_SIZE_4M : PAGE_SIZE_2M
    this.#largestPage = options.pages1G && mode.linearBits !== 32 ? PAGE_SIZE_1G : this.largePage
    this.#onlineCpus = options.onlineCpus
    this.#vmallocNext = options.layout.vmallocStart
    this.swapper = new PageTableBuilder(
      options.memory,
      options.image.staticPages(1),
      options.allocateTable,
      { mode: options.layout.mode },
    )
    this.#mapImage()
    if (mode.rootInRegisters) this.#preallocatePmds()
  }

  /** Remembers how far the direct map and vmalloc space go at this moment. What is mapped is in memory. */
  checkpoint(): Rewind {
    const mapped = this.#mapped
    const earlySlots = [...this.#earlySlots]
    const vmallocNext = this.#vmallocNext
    const cpaAllowed = this.#cpaAllowed
    return () => {
      this.#mapped = mapped
      this.#earlySlots.splice(0, Infinity, ...earlySlots)
      this.#vmallocNext = vmallocNext
      this.#cpaAllowed = cpaAllowed
    }
  }

  /** __va(): where the direct map has a physical address, whether it is mapped or not. */
  directMapAddress(physical: number): VirtualAddress {
    return kernelAddress(this.layout.pageOffset + BigInt(physical))
  }

  /** pgd_index(): the entry of a root that an address goes through. */
  rootIndex(address: bigint): number {
    const { shift, indexBits } = this.layout.mode.levels[0]!
    const from = shift < 32 ? lowHalf(address) >>> shift : highHalf(address) >>> (shift - 32)
    return from & (2 ** indexBits - 1)
  }

  /** Bytes that an entry of a root is for. */
  get bytesOfRootEntry(): bigint {
    return 1n << BigInt(this.layout.mode.levels[0]!.shift)
  }

  /** The first linear address of the kernel's half: the middle of the address space, or PAGE_OFFSET where processes have more than half. */
  get kernelHalfStart(): bigint {
    const { mode, pageOffset } = this.layout
    return mode.linearBits === 32
      ? pageOffset
      : BigInt.asUintN(64, -1n << BigInt(mode.linearBits - 1))
  }

  /** One more than the last linear address that is not the kernel's: where a 1:1 map has to end. */
  get lowHalfEnd(): bigint {
    const { mode, pageOffset } = this.layout
    return mode.linearBits === 32 ? pageOffset : 1n << BigInt(mode.linearBits - 1)
  }

  /** KERNEL_PGD_BOUNDARY and KERNEL_PGD_PTRS: the entries of a root that are the kernel's. */
  get kernelHalf(): RootEntries {
    const { indexBits } = this.layout.mode.levels[0]!
    return { first: this.rootIndex(this.kernelHalfStart), end: 2 ** indexBits }
  }

  /** max_low_pfn_mapped and max_pfn_mapped, in bytes: what the direct map covers below 4 GiB, and from there on. */
  get directMapEnds(): DirectMapExtent {
    return this.#mapped
  }

  /** Whether the direct map covers a range that ends at `end` (exclusive), by the test of efi_enter_virtual_mode(). */
  isDirectMapped(end: number): boolean {
    return end <= this.#mapped.lowEnd || (end > 2 ** 32 && end <= this.#mapped.highEnd)
  }

  /** The direct map as setup_arch() makes it: all bytes up to `lowEnd`, and from 4 GiB up to `highEnd` where there is memory that high. */
  mapMemory(lowEnd: number, highEnd: number): void {
    const { lowMemoryEnd = Infinity } = this.layout
    const end = Math.min(lowEnd, lowMemoryEnd)
    this.initMemoryMapping(0, end)
    const hasHigh = highEnd > 2 ** 32 && lowMemoryEnd === Infinity
    if (hasHigh) this.initMemoryMapping(2 ** 32, highEnd)
    this.#mapped = { lowEnd: end, highEnd: hasHigh ? highEnd : end }
  }

  /** init_memory_mapping(): adds physical bytes `start` up to `end` to the direct map: no execution, global, the largest pages that fit. */
  initMemoryMapping(start: number, end: number): void {
    const first = Math.floor(start / PAGE_SIZE) * PAGE_SIZE
    const last = Math.ceil(end / PAGE_SIZE) * PAGE_SIZE
    const text = { start: this.#image.base, end: this.#image.base + KERNEL_TEXT_BYTES }
    const isAround = this.layout.imageInDirectMap === true && first < text.end && text.start < last
    // Text in the direct map stays as it is.
    const pieces = isAround
      ? [
          { start: first, end: text.start },
          { start: text.end, end: last },
        ]
      : [{ start: first, end: last }]
    for (const { start: from, end: to } of pieces.filter((piece) => piece.start < piece.end)) {
      this.swapper.mapRange(this.directMapAddress(from), phys(from), to - from, {
        largestPage: this.#largestPage,
        global: true,
        replace: true,
      })
    }
  }

  /** Gives every root entry of the direct map of `physicalEnd` bytes, and of vmalloc space, a table, empty where nothing is mapped yet. */
  preallocateRootEntries(physicalEnd: number): void {
    const { pageOffset, vmallocStart, vmallocEnd } = this.layout
    const spaces = [
      [pageOffset, pageOffset + BigInt(physicalEnd)],
      [vmallocStart, vmallocEnd],
    ] as const
    for (const [start, end] of spaces) {
      const last = this.rootIndex(end - 1n)
      for (let index = this.rootIndex(start); index <= last; index++) {
        if ((this.swapper.rootEntry(index) & BigInt(Entry.Present)) !== 0n) continue
        const frame = this.#allocateTable()
        this.#memory.clearFrame(frame)
        this.swapper.setRootEntry(index, (BigInt(frame) << 12n) | PAGE_TABLE)
      }
    }
  }

  /**
   * early_ioremap(): maps physical bytes in a boot-time fixmap slot and returns where. As in 2.6.35 nothing checks the address: bits above
   * MAXPHYADDR go into the entry as they are. Runs `use` and unmaps.
   */
  withEarlyIoremap<T>(
    cpu: Cpu,
    physical: bigint,
    bytes: number,
    use: (address: VirtualAddress) => T,
  ): T {
    const offset = physical & 0xfffn
    const pages = Math.ceil((Number(offset) + bytes) / PAGE_SIZE)
    const slot = this.#earlySlots.indexOf(false)
    if (slot < 0 || pages > EARLY_SLOT_PAGES) {
      throw new KernelPanic(
        `early_ioremap(${physical.toString(16)}, ${bytes}): more than a fixmap slot holds`,
      )
    }
    this.#earlySlots[slot] = true
    const start = this.layout.fixmapStart + BigInt(slot * EARLY_SLOT_PAGES * PAGE_SIZE)
    for (let page = 0; page < pages; page++) {
      const frame = (physical & ~0xfffn) + BigInt(page * PAGE_SIZE)
      this.swapper.writeEntry(
        kernelAddress(start + BigInt(page * PAGE_SIZE)),
        BigInt.asUintN(this.layout.mode.entryBytes * 8, frame | EARLY_PTE | NX),
      )
      cpu.invlpg(start + BigInt(page * PAGE_SIZE))
    }
    const result = use(kernelAddress(start + offset))
    for (let page = 0; page < pages; page++) {
      const address = kernelAddress(start + BigInt(page * PAGE_SIZE))
      this.swapper.writeEntry(address, 0n).flush(cpu)
    }
    this.#earlySlots[slot] = false
    return result
  }

  /**
   * ioremap(), or ioremap_cache(): maps physical bytes into vmalloc space, uncached (UC-) unless `cached`, and returns where: 0, as NULL, where vmalloc space has no room for them or
   * page tables no bits for their address.
   */
  ioremap(
    physical: number,
    bytes: number,
    { cached = false }: { readonly cached?: boolean } = {},
  ): VirtualAddress {
    const first = Math.floor(physical / PAGE_SIZE) * PAGE_SIZE
    const last = Math.ceil((physical + bytes) / PAGE_SIZE) * PAGE_SIZE
    const isAddressable = last <= (this.layout.memoryEnd ?? Infinity)
    const start = isAddressable ? this.tryReserveVmalloc(last - first) : undefined
    if (start === undefined) return kernelAddress(0n)
    this.swapper.mapRange(start, phys(first), last - first, { global: true, cacheDisable: !cached })
    return kernelAddress(start + BigInt(physical - first))
  }

  /** A range of vmalloc space that nobody has, with the guard page behind it. Panics where there is none left. */
  reserveVmalloc(bytes: number): VirtualAddress {
    const start = this.tryReserveVmalloc(bytes)
    if (start !== undefined) return start
    throw new KernelPanic(
      'vmap allocation failed: use vmalloc=<size> to increase size. (mm/vmalloc.c)',
    )
  }

  /** As {@link reserveVmalloc}, but undefined where there is none left. */
  tryReserveVmalloc(bytes: number): VirtualAddress | undefined {
    const start = this.#vmallocNext
    const end = start + BigInt(bytes + PAGE_SIZE)
    if (end > this.layout.vmallocEnd) return undefined
    this.#vmallocNext = end
    return kernelAddress(start)
  }

  /** Takes the bytes from `start` on for whoever maps them there; false where they are not vmalloc space or somebody has them. */
  claimVmalloc(start: bigint, bytes: number): boolean {
    if (start < this.#vmallocNext || start >= this.layout.vmallocEnd) return false
    this.#vmallocNext = start + BigInt(bytes + PAGE_SIZE)
    return true
  }

  /** The page allocator is up: from now on page attributes may be changed, which may need pages for split tables. */
  allowAttributeChanges(): void {
    this.#cpaAllowed = true
  }

  /** set_memory_x() or set_memory_nx(). Large pages are split where the range ends inside them; holes are passed over. Entries of 32 bits have no NX, and there is nothing to do. */
  setMemoryExecutable(start: VirtualAddress, bytes: number, executable: boolean): void {
    if (this.layout.mode.entryBytes === 4) return
    this.#changeAttributes(start, bytes, { executable })
  }

  /** set_memory_uc(): UC-, that is PCD without PWT. */
  setMemoryUncached(start: VirtualAddress, bytes: number): void {
    this.#changeAttributes(start, bytes, { cacheDisable: true })
  }

  /** flush_tlb_all(), on every CPU that runs: toggling CR4.PGE drops global translations too. */
  flushAll(): void {
    for (const cpu of this.#onlineCpus()) {
      cpu.writeCr4(cpu.cr4 & ~Cr4.PGE)
      cpu.writeCr4(cpu.cr4 | Cr4.PGE)
    }
    for (const flush of this.swapper.outstanding) flush.ignore('CR4.PGE was toggled on every CPU')
  }

  /** __flush_tlb_all() on one CPU: its global translations go too, and those of other CPUs stay. */
  flushLocal(cpu: Cpu): void {
    cpu.writeCr4(cpu.cr4 & ~Cr4.PGE)
    cpu.writeCr4(cpu.cr4 | Cr4.PGE)
    for (const flush of this.swapper.outstanding) flush.ignore('CR4.PGE was toggled on this CPU')
  }

  /** Copies the kernel's half of `swapper_pg_dir` to another root. */
  copyKernelHalf(root: PageTableBuilder): void {
    const { first, end } = this.kernelHalf
    this.copyRootEntries(root, first, end)
  }

  /** Copies root entries `first` up to `end` (exclusive) of `swapper_pg_dir` to another root, as clone_pgd_range() does. */
  copyRootEntries(root: PageTableBuilder, first: number, end: number): void {
    root.copyRootEntries(this.swapper, first, end)
  }

  #changeAttributes(start: VirtualAddress, bytes: number, flags: Partial<PageFlags>): void {
    if (!this.#cpaAllowed) {
      throw new KernelPanic('change_page_attr before the page allocator is up (mm/pageattr.c)')
    }
    try {
      this.swapper.protectMapped(start, bytes, flags)
    } catch (error) {
      // Callers of set_memory_*() in the EFI code do not look at what it returns.
      if (!(error instanceof OutOfMemory)) throw error
    }
    this.flushAll()
  }

  /** initial_pg_pmd (head_32.S): with PAE every entry of the kernel's half has its table before CR3 is loaded, as the processor reads those entries then and not again. */
  #preallocatePmds(): void {
    const { first, end } = this.kernelHalf
    for (let index = first; index < end; index++) {
      if ((this.swapper.rootEntry(index) & BigInt(Entry.Present)) !== 0n) continue
      const frame = this.#allocateTable()
      this.#memory.clearFrame(frame)
      this.swapper.setRootEntry(index, (BigInt(frame) << 12n) | BigInt(Entry.Present))
    }
  }

  /** level2_kernel_pgt: text read-only and executable, data and bss the other way round, as after mark_rodata_ro(). */
  #mapImage(): void {
    const image = this.#image
    this.swapper.mapRange(image.start, image.base, KERNEL_TEXT_BYTES, {
      largestPage: this.largePage,
      writable: false,
      executable: true,
      global: true,
    })
    const data = image.base + KERNEL_TEXT_BYTES
    this.swapper.mapRange(
      image.virtualAddress(data),
      phys(data),
      KERNEL_IMAGE_BYTES - KERNEL_TEXT_BYTES,
      { largestPage: this.largePage, global: true },
    )
  }
}
