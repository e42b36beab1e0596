import {
  type Cpu,
  type DescriptorTable,
  type FrameOwner,
  type Machine,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
  type PhysicalAddress,
  type Rewind,
  type VirtualAddress,
} from '@trapdoor/core'
import type { Architecture, MemoryDescriptor } from '@trapdoor/uefi'
import type { BootParams } from './boot/boot-params.ts'
import type { ByteRange, RealImage } from './boot/loader.ts'
import type { CommandLine } from './boot/command-line.ts'
import { switchPagingMode } from './boot/paging-mode-switch.ts'
import type { EfiState } from './efi/efi-init.ts'
import type { PageTableStrategy, StrategyChoice, StrategyDefinition } from './efi/strategy.ts'
import { KernelError, OutOfMemory } from './error.ts'
import { BOOT_PHASES, type BootPhase, type KernelHooks } from './hooks.ts'
import { DescriptorTables } from './interrupt/descriptor-tables.ts'
import type { Interruption } from './interrupt/interrupts.ts'
import type { E820Entry } from './memory/e820.ts'
import type { RealModeMemory } from './memory/identity-map.ts'
import { KernelImage } from './memory/kernel-image.ts'
import { KernelTables } from './memory/kernel-tables.ts'
import { type AddressSpaceLayout, kernelAddress, kernelArchitecture } from './memory/layout.ts'
import type { PageAllocator, Placement } from './memory/page-allocator.ts'
import type { ArgumentArea, Task } from './task/task.ts'

/** What is compiled into a kernel: its address-space layout and its EFI strategies, of which the command line picks one. */
export interface KernelProfile {
  readonly layout: AddressSpaceLayout
  /** Where the randomness of a layout with KASLR comes from; without it nothing is randomized. */
  readonly kaslrSeed?: number
  /** The version of Linux, such as "6.1", where it is known more exactly than by the strategy, which stands for many. */
  readonly linux?: string
  /** At most one of each mode, and one that a word of the command line chooses. */
  readonly strategies: readonly StrategyChoice[]
}

/** A 64-bit variable in the kernel's memory: static, or one copy for each CPU. Accesses go through the page tables of `cpu`. */
export interface KernelVariable {
  read(cpu: Cpu): bigint
  write(cpu: Cpu, value: bigint): void
}

/** The strategy that runs, and what it was made from. */
export interface ActiveStrategy {
  readonly definition: StrategyDefinition
  readonly instance: PageTableStrategy
}

/** A memory range that an address space of this kernel is rooted in. */
export interface TableRoot {
  readonly name: string
  readonly root: PhysicalAddress
}

/** A kernel on a machine, from its first instruction on. `bootKernel()` makes one; strategies and watchers get it. */
export class Kernel {
  /** Such as "first kernel". */
  readonly name: string
  readonly machine: Machine
  readonly bootCpu: Cpu
  readonly profile: KernelProfile
  readonly hooks: KernelHooks
  readonly image: KernelImage
  readonly tables: KernelTables
  /** Physical address of boot_params. */
  readonly bootParamsAddress: PhysicalAddress
  /** Every root of page tables that the kernel made, `swapper_pg_dir` first. */
  roots: readonly TableRoot[] = []
  /** Tasks by CPU number; empty before phase `running`. */
  tasks: readonly Task[] = []
  /** A second process of each CPU, by its number, once the scheduler has run one. */
  otherTasks: ReadonlyMap<number, Task> = new Map()
  /** Argument memory by CPU number. */
  argumentAreas: readonly ArgumentArea[] = []
  /** The physical bytes that `crashkernel=` reserved; `end` is exclusive. */
  crashRegion: { readonly start: number; readonly end: number } | undefined
  /** What it reserved below 4 GiB beside a region above. */
  crashLowRegion: { readonly start: number; readonly end: number } | undefined
  /** Where the image of the real kernel lies that this one stands for; see {@link HandOff.realImage}. */
  readonly realImage: RealImage | undefined
  /** Pages of page tables that setting up the runtime services took, split large pages included. */
  efiTablePages = 0
  /** Allocations of pages that setting up the runtime services took. */
  efiAllocations = 0
  /** Where the memory map for the firmware is mapped 1:1 in the EFI page tables, physical bytes. */
  efiMemmap: { readonly start: number; readonly bytes: number } | undefined
  /** What the kernel could not map for the firmware for want of memory, and has said so: linear bytes. */
  unmappedRegions: readonly { readonly virtual: bigint; readonly bytes: number }[] = []
  /** What reserve_real_mode() found below 1 MiB; undefined where nothing was free. */
  realModeMemory: RealModeMemory | undefined
  /** Whether the trampoline's own page tables have been made. */
  hasTrampolinePgd = false
  /** The identity map that a strategy shares with all who need one; by default each of them has its own. */
  identityMap: PageTableBuilder | undefined
  /** What each CPU is handling, by its number, from the delivery of the interrupt to IRET. */
  readonly handling: Map<number, Interruption> = new Map()
  /** Locks that calls of runtime services wait for, and the CPU that holds each. */
  heldLocks: ReadonlyMap<string, Cpu> = new Map()
  /** Why there are no EFI runtime services, where the kernel decided so. */
  efiRefusal: string | undefined
  /** The memory map of the firmware in the boot that brought this kernel back from hibernation, as the kernel that restored it was given it; undefined before, and where that had none. */
  restoredMap: readonly MemoryDescriptor[] | undefined

  #phase: BootPhase = 'head_64'
  #rodata: ByteRange = { start: 0, end: 0 }
  #bootParams: BootParams | undefined
  #commandLine: CommandLine | undefined
  #e820: readonly E820Entry[] = []
  #allocator: PageAllocator | undefined
  #efi: EfiState | undefined
  #strategy: ActiveStrategy | undefined
  #tablePages = 0
  #allocations = 0
  #failedAllocation: number | undefined
  #onlineCpus: readonly Cpu[]
  readonly #owners: Map<string, FrameOwner> = new Map()
  #staticArea: { next: number; end: number } | undefined
  /** The builders of {@link roots}. */
  #builders: readonly PageTableBuilder[]
  readonly #perCpuArea: PhysicalAddress
  readonly #descriptorTables: DescriptorTables
  #perCpuNext = 0

  constructor(options: {
    readonly name: string
    readonly machine: Machine
    readonly profile: KernelProfile
    /** The profile's layout, or the one that takes its place. */
    readonly layout: AddressSpaceLayout
    readonly hooks: KernelHooks
    readonly imageBase: PhysicalAddress
    readonly bootParamsAddress: PhysicalAddress
    readonly realImage?: RealImage | undefined
  }) {
    this.name = options.name
    this.machine = options.machine
    this.bootCpu = options.machine.bootCpu
    this.profile = options.profile
    this.hooks = options.hooks
    this.bootParamsAddress = options.bootParamsAddress
    this.realImage = options.realImage
    this.#onlineCpus = [this.bootCpu]
    this.image = new KernelImage(options.layout, options.imageBase)
    this.tables = new KernelTables({
      memory: this.machine.memory,
      layout: options.layout,
      image: this.image,
      pages1G: this.machine.features.pages1G,
      allocateTable: () => this.allocateTable(),
      onlineCpus: () => this.#onlineCpus,
    })
    this.roots = [{ name: 'swapper_pg_dir', root: this.tables.swapper.root }]
    this.#builders = [this.tables.swapper]
    this.#perCpuArea = this.image.staticPages(this.machine.cpus.length)
    this.#descriptorTables = new DescriptorTables(this)
  }

  /** From _text up to _etext, in whole pages; those of the real image where they are known. Physical bytes. */
  get text(): ByteRange {
    const { start, end } = this.realImage?.text ?? this.image.text
    return { start, end: Math.floor(end / PAGE_SIZE) * PAGE_SIZE }
  }

  /** From __start_rodata up to __end_rodata, as {@link text}. */
  get rodata(): ByteRange {
    return this.realImage?.rodata ?? this.#rodata
  }

  set rodata(value: ByteRange) {
    this.#rodata = value
  }

  /** What the kernel is built for. */
  get architecture(): Architecture {
    return kernelArchitecture(this.tables.layout)
  }

  /** How far the boot has come. */
  get phase(): BootPhase {
    return this.#phase
  }

  /** Enters the next phase; throws KERNEL_WRONG_PHASE where that is not `phase`. */
  enterPhase(phase: BootPhase): void {
    const expected = BOOT_PHASES[BOOT_PHASES.indexOf(this.#phase) + 1]
    if (phase !== expected && !(phase === 'head_64' && this.#phase === 'head_64')) {
      throw new KernelError('KERNEL_WRONG_PHASE', {
        expected: `phase ${expected ?? 'running, the last'}`,
        found: phase,
      })
    }
    this.#phase = phase
    this.machine.log.emit({ kind: 'phase', name: phase })
    this.hooks.phase.call(this)
  }

  /** printk(). */
  print(text: string): void {
    this.machine.log.emit({ kind: 'message', source: 'kernel', text })
  }

  /** The CPUs that run. */
  get onlineCpus(): readonly Cpu[] {
    return this.#onlineCpus
  }

  /** start_secondary(): a CPU comes up on `swapper_pg_dir` with the boot CPU's control registers. */
  bringUp(cpu: Cpu): void {
    const { layout, swapper } = this.tables
    if (cpu.mode !== layout.mode) switchPagingMode(cpu, layout.mode, swapper.root)
    cpu.writeEfer(this.bootCpu.efer)
    cpu.writeCr4(this.bootCpu.cr4)
    cpu.writeCr0(this.bootCpu.cr0)
    cpu.pat = this.bootCpu.pat
    cpu.endbranchTracking = this.bootCpu.endbranchTracking
    cpu.writeCr3(swapper.root)
    this.loadDescriptorTables(cpu)
    this.#onlineCpus = [...this.#onlineCpus, cpu]
  }

  /** A CPU stops. */
  takeDown(cpu: Cpu): void {
    this.#onlineCpus = this.#onlineCpus.filter((each) => each !== cpu)
  }

  /** cpu_init(): GDT, IDT, TSS and segment registers. */
  loadDescriptorTables(cpu: Cpu): void {
    this.#descriptorTables.load(cpu)
  }

  /** Where the GDT of a CPU is, at its linear address. */
  gdtOf(cpu: Cpu): DescriptorTable {
    return this.#descriptorTables.gdtOf(cpu)
  }

  /** What an interrupt handler reads first: a variable of its CPU. */
  readPerCpu(cpu: Cpu): bigint {
    return cpu.read64(this.image.virtualAddress(this.#perCpuArea + cpu.id * PAGE_SIZE))
  }

  get bootParams(): BootParams {
    return this.#known(this.#bootParams, 'setup_arch')
  }

  set bootParams(value: BootParams) {
    this.#bootParams = value
  }

  get commandLine(): CommandLine {
    return this.#known(this.#commandLine, 'setup_arch')
  }

  set commandLine(value: CommandLine) {
    this.#commandLine = value
  }

  /** The memory map as the kernel corrected it. */
  get e820(): readonly E820Entry[] {
    return this.#e820
  }

  set e820(value: readonly E820Entry[]) {
    this.#e820 = value
  }

  /** Free physical memory: early_res before mm_init, the page allocator from then on. */
  get allocator(): PageAllocator {
    return this.#known(this.#allocator, 'setup_arch')
  }

  set allocator(value: PageAllocator) {
    this.#allocator = value
  }

  /** What efi_init() found out, or undefined where the kernel does not use EFI. */
  get efi(): EfiState | undefined {
    return this.#efi
  }

  set efi(value: EfiState | undefined) {
    this.#efi = value
  }

  /** {@link efi} for those who run only where there is one. */
  get requireEfi(): EfiState {
    return this.#known(this.#efi, 'efi_init')
  }

  /** The strategy in use; undefined with `noefi`. */
  get strategy(): ActiveStrategy | undefined {
    return this.#strategy
  }

  set strategy(value: ActiveStrategy | undefined) {
    this.#strategy = value
  }

  /** EFI runtime services are off from now on (clear_bit(EFI_RUNTIME_SERVICES, &efi.flags)): a decision of the kernel's, not its death. */
  disableRuntimeServices(reason: string): void {
    this.efiRefusal = reason
    this.#strategy = undefined
    this.print(`EFI runtime services disabled: ${reason}`)
    this.hooks.refused.call(this, reason)
  }

  /** Pages of page tables that the kernel has allocated so far, all roots together. */
  get tablePages(): number {
    return this.#tablePages
  }

  /** Counts allocations from now on, and has the one of this number fail, as the first is 1. Returns what ends that and says how many there were. */
  countAllocations(failed?: number): () => number {
    const before = this.#allocations
    this.#failedAllocation = failed === undefined ? undefined : before + failed
    return () => {
      this.#failedAllocation = undefined
      return this.#allocations - before
    }
  }

  /**
   * `count` contiguous physical pages for `use`, of low memory unless `place` says otherwise; they belong to this kernel from now on. Throws {@link OutOfMemory}, which kills who does
   * not catch it. Bytes.
   */
  allocatePages(use: string, count: number, place: Placement = {}): PhysicalAddress {
    this.#countAllocation(use, count)
    return phys(this.allocator.allocate(this.owner(use), count, place) * PAGE_SIZE)
  }

  /** A new, empty root of page tables. Its name appears where roots are listed. */
  newPageTable(name: string): PageTableBuilder {
    const root = phys(this.allocateTable() * PAGE_SIZE)
    return this.#root(name, root)
  }

  /** A root in the kernel's static data, as a page-aligned array in bss. */
  staticPageTable(name: string): PageTableBuilder {
    this.#tablePages++
    return this.#root(name, this.image.staticPages(1))
  }

  /** A frame for a page of page tables. Before there is an allocator it comes from the image, as level2_fixmap_pgt and its like do. */
  allocateTable(): number {
    this.#tablePages++
    this.#countAllocation('page tables')
    return this.#allocator === undefined
      ? this.image.staticPages(1) / PAGE_SIZE
      : this.#allocator.allocate(this.owner('page tables'))
  }

  /** The owner that frames used for `use` get. */
  owner(use: string): FrameOwner {
    let owner = this.#owners.get(use)
    if (owner === undefined) {
      owner = { kind: 'kernel', name: `${use} of the ${this.name}` }
      this.#owners.set(use, owner)
    }
    return owner
  }

  /** A 64-bit variable in bss, or one in each CPU's per-CPU area. */
  variable(options: { readonly perCpu: boolean }): KernelVariable {
    const address = options.perCpu ? this.#perCpuSlot() : this.#staticSlot()
    const of = (cpu: Cpu): VirtualAddress =>
      options.perCpu ? kernelAddress(address + BigInt(cpu.id * PAGE_SIZE)) : address
    return {
      read: (cpu) => cpu.read64(of(cpu)),
      write: (cpu, value) => {
        cpu.write64(of(cpu), value)
      },
    }
  }

  /**
   * Remembers what the kernel knows beside what is in its memory, for a rewind together with its machine's. Between two calls, and not while it boots, but for before the
   * runtime services are set up. What the strategy knows is not in it: see `StrategyDefinition.rewindable`.
   */
  checkpoint(): Rewind {
    const { roots, tasks, otherTasks, argumentAreas, crashRegion, efiMemmap } = this
    const { efiTablePages, efiAllocations, realModeMemory, hasTrampolinePgd, identityMap } = this
    const { heldLocks, efiRefusal, restoredMap, unmappedRegions } = this
    const known = { roots, tasks, otherTasks, argumentAreas, crashRegion, efiMemmap }
    const set = { efiTablePages, efiAllocations, realModeMemory, hasTrampolinePgd, identityMap }
    const phase = this.#phase
    const bootParams = this.#bootParams
    const commandLine = this.#commandLine
    const e820 = this.#e820
    const allocator = this.#allocator
    const efi = this.#efi
    const efiState = { ...efi }
    const strategy = this.#strategy
    const tablePages = this.#tablePages
    const allocations = this.#allocations
    const failedAllocation = this.#failedAllocation
    const onlineCpus = this.#onlineCpus
    const staticArea = this.#staticArea && { ...this.#staticArea }
    const perCpuNext = this.#perCpuNext
    const builders = this.#builders
    const parts = [
      this.image,
      this.tables,
      ...argumentAreas,
      ...builders,
      ...(allocator ? [allocator] : []),
    ]
    const rewinds = parts.map((part) => part.checkpoint())
    return () => {
      Object.assign(this, known, set)
      this.handling.clear()
      this.heldLocks = heldLocks
      this.efiRefusal = efiRefusal
      this.restoredMap = restoredMap
      this.unmappedRegions = unmappedRegions
      this.#phase = phase
      this.#bootParams = bootParams
      this.#commandLine = commandLine
      this.#e820 = e820
      this.#allocator = allocator
      this.#efi = efi
      if (efi !== undefined) Object.assign(efi, efiState)
      this.#strategy = strategy
      this.#tablePages = tablePages
      this.#allocations = allocations
      this.#failedAllocation = failedAllocation
      this.#onlineCpus = onlineCpus
      this.#staticArea = staticArea && { ...staticArea }
      this.#perCpuNext = perCpuNext
      this.#builders = builders
      for (const rewind of rewinds) rewind()
    }
  }

  #countAllocation(use: string, count = 1): void {
    this.#allocations++
    if (this.#allocations === this.#failedAllocation)
      throw new OutOfMemory(count, this.owner(use).name)
  }

  #root(name: string, root: PhysicalAddress): PageTableBuilder {
    const tables = new PageTableBuilder(this.machine.memory, root, () => this.allocateTable(), {
      mode: this.tables.swapper.mode,
    })
    this.machine.memory.clearFrame(root / PAGE_SIZE)
    this.roots = [...this.roots, { name, root }]
    this.#builders = [...this.#builders, tables]
    return tables
  }

  #staticSlot(): VirtualAddress {
    if (this.#staticArea === undefined || this.#staticArea.next === this.#staticArea.end) {
      const start = this.image.staticPages(1)
      this.#staticArea = { next: start, end: start + PAGE_SIZE }
    }
    const address = this.#staticArea.next
    this.#staticArea.next += 8
    return this.image.virtualAddress(address)
  }

  #perCpuSlot(): VirtualAddress {
    const address = this.#perCpuArea + this.#perCpuNext
    this.#perCpuNext += 8
    if (this.#perCpuNext > PAGE_SIZE) {
      throw new KernelError('KERNEL_NO_ROOM', {
        expected: 'at most 512 per-CPU variables',
        found: 'one more',
      })
    }
    return this.image.virtualAddress(address)
  }

  #known<T>(value: T | undefined, phase: BootPhase): T {
    if (value !== undefined) return value
    throw new KernelError('KERNEL_WRONG_PHASE', {
      expected: `a kernel that has been through ${phase}`,
      found: `phase ${this.#phase}`,
    })
  }
}
