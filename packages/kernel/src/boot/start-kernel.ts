import { CpuException, Cr0, Cr4, Efer, PAGE_SIZE, PAT_LINUX, phys } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'
import { dmiScanMachine, efiInit } from '../efi/efi-init.ts'
import { createStrategy, type StrategyChoice, StrategyRefusal } from '../efi/strategy.ts'
import { makeRuntimeCodeExecutable, setVirtualAddressMap } from '../efi/virtual-mode.ts'
import { KernelError } from '../error.ts'
import { createKernelHooks, type KernelHooks } from '../hooks.ts'
import { Kernel, type KernelProfile } from '../kernel.ts'
import { isLinux } from '../linux-version.ts'
import { readHandOver, SETUP_EFI_BYTES } from '../kexec/setup-data.ts'
import {
  E820Type,
  endOfRam,
  ramRanges,
  removeE820,
  sanitizeE820,
  updateE820,
} from '../memory/e820.ts'
import { HAND_OFF_BYTES, KERNEL_IMAGE_BYTES } from '../memory/kernel-image.ts'
import { randomizeLayout } from '../memory/kaslr.ts'
import type { AddressSpaceLayout } from '../memory/layout.ts'
import { placeVmalloc } from '../memory/layout-i386.ts'
import { PageAllocator } from '../memory/page-allocator.ts'
import { ArgumentArea, Task } from '../task/task.ts'
import { BOOT_PARAMS_BYTES, decodeBootParams } from './boot-params.ts'
import { commandLineWords, parseCommandLine } from './command-line.ts'
import { reserveCrashKernel } from './crash-kernel.ts'
import type { Injections } from './injections.ts'
import type { ByteRange, HandOff } from './loader.ts'
import { efiBgrtInit } from '../efi/tables/bgrt.ts'
import { efiEsrtInit } from '../efi/tables/esrt.ts'
import { readWords, reportUnknownWords, reportWordsWithoutEffect } from './parameters.ts'
import { switchPagingMode } from './paging-mode-switch.ts'

/** What a kernel is booted with beside what its loader has left. */
export interface BootOptions {
  /** Such as "first kernel": it appears in events, owners and findings. */
  readonly name: string
  readonly profile: KernelProfile
  readonly hooks?: KernelHooks
  readonly injections?: Injections
}

/** Where real mode reaches. */
const LOW_MEMORY = 0x10_0000
/** What kernels from 2.6.37 on reserve of low memory before anything else (CONFIG_X86_RESERVE_LOW): BIOSes write there. */
const RESERVE_LOW = 0x1_0000
const RODATA_PAGES = 16
const INIT_STACK_PAGES = 4
/** Bytes of struct page for each page of memory. */
const STRUCT_PAGE_BYTES = { x64: 56, ia32: 32 } as const
/** What memory in use reads as. */
const PAGE_CACHE_PATTERN = 0x6361_6368
const MEM_MAP_PATTERN = 0x7061_6765
/** Pages that stay free when the machine has run for a while. */
const FREE_PAGES_LEFT = 256

/**
 * Boots a kernel from what a loader or kexec left, through the phases of `BOOT_PHASES`, to processes that run on every CPU and memory in use.
 * Throws what kills it: a {@link CpuException} that nothing catches so early, or a KernelPanic; or a KernelError where it was given what no kernel could be given.
 */
export function bootKernel(handOff: HandOff, options: BootOptions): Kernel {
  const kernel = bootToRuntimeServices(handOff, options)
  finishBoot(kernel, options.injections)
  return kernel
}

/** The first part of {@link bootKernel}: up to where memory is up and the runtime services are about to be set up. */
export function bootToRuntimeServices(
  handOff: HandOff,
  options: Omit<BootOptions, 'injections'>,
): Kernel {
  const kernel = new Kernel({
    name: options.name,
    machine: handOff.machine,
    profile: options.profile,
    layout: chooseLayout(handOff, options.profile),
    hooks: options.hooks ?? createKernelHooks(),
    imageBase: handOff.imageBase,
    bootParamsAddress: handOff.bootParams,
    realImage: handOff.realImage,
  })
  kernel.machine.log.era = kernel.name
  reportingDeath(kernel, () => {
    head64(kernel)
    setupArch(kernel, handOff.reserved ?? [])
    startMemory(kernel)
  })
  return kernel
}

/** The rest of {@link bootKernel}. */
export function finishBoot(kernel: Kernel, injections: Injections = {}): void {
  reportingDeath(kernel, () => {
    startKernel(kernel, injections)
  })
}

/** early_idt_handler(): an exception that nothing catches so early is printed. */
function reportingDeath(kernel: Kernel, boot: () => void): void {
  try {
    boot()
  } catch (error) {
    if (error instanceof CpuException) {
      kernel.print(
        `PANIC: early exception ${error.vector.toString(16).padStart(2, '0')} cr2 ${kernel.bootCpu.cr2.toString(16)}: ${error.message}`,
      )
    }
    throw error
  }
}

/** head_64.S and secondary_startup_64: control registers, `swapper_pg_dir`, the first stack. The low half is empty from here on. */
function head64(kernel: Kernel): void {
  const { bootCpu: cpu } = kernel
  kernel.enterPhase('head_64')
  cpu.interruptFlag = false
  cpu.abandonCalls()
  cpu.writeEfer(cpu.efer | (kernel.machine.features.nx ? Efer.NXE : 0))
  cpu.writeCr0(cpu.cr0 | Cr0.WP)
  cpu.writeCr4(cpu.cr4 & (Cr4.PAE | Cr4.PSE | Cr4.LA57))
  cpu.pat = PAT_LINUX
  switchPagingMode(cpu, kernel.tables.layout.mode, kernel.tables.swapper.root)
  cpu.writeCr4(cpu.cr4 | Cr4.PGE)
  // Below init_thread_union, the first of .data, lie tables that are read-only later: who leaves the stack writes over them first (vmlinux.lds.S).
  const rodata = kernel.image.staticPages(RODATA_PAGES)
  kernel.rodata = { start: rodata, end: rodata + RODATA_PAGES * PAGE_SIZE }
  const stack = kernel.image.staticPages(INIT_STACK_PAGES)
  cpu.rsp = kernel.image.virtualAddress(stack) + BigInt(INIT_STACK_PAGES * PAGE_SIZE) - 256n
  kernel.loadDescriptorTables(cpu)
}

/** configure_5level_paging() and kernel_randomize_memory(), by a command line that is read on the identity map that the boot code was given. */
function chooseLayout(
  { machine, bootParams }: HandOff,
  { layout, kaslrSeed }: KernelProfile,
): AddressSpaceLayout {
  const params = decodeBootParams(machine.memory.read(bootParams, BOOT_PARAMS_BYTES))
  const { no5lvl, nokaslr } = parseCommandLine(params.commandLine)
  const chosen =
    layout.fiveLevel !== undefined && machine.features.la57 && !no5lvl ? layout.fiveLevel : layout
  return kaslrSeed === undefined || chosen.kaslr !== true || nokaslr
    ? placeVmalloc(chosen, endOfRam(params.e820))
    : randomizeLayout(chosen, kaslrSeed, endOfRam(params.e820))
}

function setupArch(kernel: Kernel, loaded: readonly ByteRange[]): void {
  const { bootCpu: cpu, tables } = kernel
  kernel.enterPhase('setup_arch')
  kernel.bootParams = tables.withEarlyIoremap(
    cpu,
    BigInt(kernel.bootParamsAddress),
    BOOT_PARAMS_BYTES,
    (address) => decodeBootParams(cpu.readBytes(address, BOOT_PARAMS_BYTES)),
  )
  const words = commandLineWords(kernel.bootParams.commandLine)
  const { understood, unknown } = readWords(kernel, words)
  kernel.commandLine = { ...parseCommandLine(understood.join(' ')), text: words.join(' ') }
  reportUnknownWords(kernel, unknown)
  reportWordsWithoutEffect(kernel)
  kernel.e820 = trimBiosRange(sanitizeE820(kernel.bootParams.e820))
  const reserved = reserveEarly(kernel, loaded)
  kernel.strategy = chooseStrategy(kernel)

  kernel.enterPhase('efi_init')
  const { efi: info } = kernel.bootParams
  if (kernel.strategy !== undefined && info !== undefined) {
    const handOver =
      kernel.strategy.instance.takeOver === undefined ? undefined : readHandOver(kernel)
    kernel.efi = efiInit(kernel, info, handOver)
    dmiScanMachine(kernel, kernel.efi)
  }

  const { lowMemoryEnd = Infinity } = kernel.tables.layout
  kernel.allocator = new PageAllocator(
    kernel.machine.memory,
    usableRam(kernel).map((range) => ({
      start: range.start / PAGE_SIZE,
      end: range.end / PAGE_SIZE,
    })),
    lowMemoryEnd / PAGE_SIZE,
  )
  for (const range of reserved) {
    kernel.allocator.reserve(Math.floor(range.start / PAGE_SIZE), Math.ceil(range.end / PAGE_SIZE))
  }
  if (isLinux(kernel, '3.0')) kernel.allocator.reserve(0, RESERVE_LOW / PAGE_SIZE)
  if (kernel.efi !== undefined) {
    efiEsrtInit(kernel)
    orRefuse(kernel, () => kernel.strategy?.instance.reserve?.(kernel))
    efiBgrtInit(kernel)
  }
  reserveRealMode(kernel)
  kernel.enterPhase('init_memory_mapping')
  tables.mapMemory(endOfRam(kernel.e820, 2 ** 32), endOfRam(kernel.e820))
  if (tables.layout.rootEntriesAtBoot === true) {
    tables.preallocateRootEntries(2 ** kernel.machine.features.maxPhysicalAddressBits)
  }
  reserveCrashKernel(kernel)
  if (kernel.efi !== undefined) {
    orRefuse(kernel, () => kernel.strategy?.instance.setupEarly?.(kernel))
  }
}

/** fpu_init(), later fpu__init_cpu(): FXSAVE and SIMD exceptions are the kernel's from here on, and SSE is no invalid opcode. Every kernel has come by before it calls firmware. */
function fpuInit({ bootCpu: cpu }: Kernel): void {
  cpu.writeCr4(cpu.cr4 | Cr4.OSFXSR | Cr4.OSXMMEXCPT)
}

function startMemory(kernel: Kernel): void {
  fpuInit(kernel)
  kernel.enterPhase('mm_init')
  allocateMemoryMap(kernel)
  kernel.tables.allowAttributeChanges()
  kernel.argumentAreas = kernel.machine.cpus.map((cpu) => new ArgumentArea(kernel, cpu.id))
}

function startKernel(
  kernel: Kernel,
  { failedAllocation, beforeRuntimeServices }: Injections,
): void {
  beforeRuntimeServices?.(kernel)
  // local_irq_enable() comes before efi_enter_virtual_mode() in every start_kernel().
  kernel.bootCpu.interruptFlag = true
  harden(kernel, 'before-setup')
  kernel.enterPhase('efi')
  const tablePages = kernel.tablePages
  const allocations = kernel.countAllocations(failedAllocation)
  setUpRuntimeServices(kernel)
  kernel.efiAllocations = allocations()
  kernel.efiTablePages = kernel.tablePages - tablePages

  harden(kernel, 'after-setup')
  kernel.enterPhase('running')
  for (const cpu of kernel.machine.cpus.slice(1, kernel.commandLine.maxCpus)) kernel.bringUp(cpu)
  kernel.tasks = kernel.onlineCpus.map((cpu) => new Task(kernel, cpu))
  for (const task of kernel.tasks) {
    task.switchTo()
    task.cpu.interruptFlag = true
  }
  useMemory(kernel)
}

/** trim_bios_range(): page 0 is reserved and the legacy hole below 1 MiB taken out of RAM, whatever the map says. */
function trimBiosRange(entries: Kernel['e820']): Kernel['e820'] {
  const withoutPage0 = updateE820(entries, 0, PAGE_SIZE, E820Type.RAM, E820Type.RESERVED)
  return removeE820(withoutPage0, 0xa_0000, 0x10_0000, E820Type.RAM)
}

/** RAM in whole pages, as far as the kernel's page tables reach ("Warning only 4GB will be used. Use a HIGHMEM64G enabled kernel."). */
function usableRam({ e820, tables }: Kernel): { start: number; end: number }[] {
  const { memoryEnd = Infinity } = tables.layout
  return ramRanges(e820)
    .map(({ start, end }) => ({ start, end: Math.min(end, memoryEnd) }))
    .filter(({ start, end }) => start < end)
}

/** The image, what the loader handed over and what else it has loaded, the EFI memory map (efi_reserve_early()), and setup_data (memblock_x86_reserve_range_setup_data()). */
function reserveEarly(kernel: Kernel, loaded: readonly ByteRange[]): ByteRange[] {
  const { image, bootParams, machine } = kernel
  const imageEnd = image.base + KERNEL_IMAGE_BYTES
  const handOff = {
    start: kernel.bootParamsAddress,
    end: kernel.bootParamsAddress + HAND_OFF_BYTES,
  }
  const ranges: (ByteRange & { use: string })[] = [
    { start: image.base, end: imageEnd, use: 'image' },
    { ...handOff, use: 'boot parameters' },
    ...loaded.map((range) => ({ ...range, use: 'initrd' })),
  ]
  // What lies inside what the loader handed over is kept already.
  const keep = (start: number, end: number, use: string): void => {
    if (start < handOff.start || end > handOff.end) ranges.push({ start, end, use })
  }
  const { efi, setupData } = bootParams
  if (efi !== undefined) {
    const count = Math.floor(efi.memmapSize / efi.memdescSize)
    keep(efi.memmap, efi.memmap + count * efi.memdescSize, 'EFI memory map')
  }
  if (setupData !== 0) keep(setupData, setupData + SETUP_EFI_BYTES, 'setup_data')
  for (const range of ranges) {
    machine.memory.owners.set(
      Math.floor(range.start / PAGE_SIZE),
      Math.ceil(range.end / PAGE_SIZE),
      kernel.owner(range.use),
    )
  }
  return ranges
}

/** The strategy that the command line and the loader leave: none with `noefi` or without EFI, the virtual one with `virtefi`, else the physical one if there is one. */
function chooseStrategy(kernel: Kernel): Kernel['strategy'] {
  const { commandLine, profile } = kernel
  const refusal = whyWithoutRuntimeServices(kernel)
  if (refusal !== undefined) {
    kernel.efiRefusal = refusal
    kernel.hooks.refused.call(kernel, kernel.efiRefusal)
    return undefined
  }
  const ofMode = (mode: 'virtual' | 'physical'): StrategyChoice | undefined =>
    profile.strategies.find((choice) => choice.definition.mode === mode)
  const byWord = profile.strategies.find(
    ({ definition: { chosenByEfi } }) =>
      chosenByEfi !== undefined && commandLine.efi.has(chosenByEfi),
  )
  const choice =
    byWord ??
    (commandLine.virtefi && !commandLine.physefi
      ? ofMode('virtual')
      : (ofMode('physical') ?? ofMode('virtual')))
  if (choice === undefined) {
    throw new KernelError('KERNEL_NO_STRATEGY', {
      expected: commandLine.virtefi ? 'a strategy of mode "virtual"' : 'a strategy',
      found: profile.strategies.map((each) => each.definition.name).join(', ') || 'none',
      hint: 'virtefi needs one that calls SetVirtualAddressMap, such as legacy-virtual',
    })
  }
  return { definition: choice.definition, instance: createStrategy(choice) }
}

function whyWithoutRuntimeServices({
  commandLine,
  bootParams,
  architecture,
  profile,
}: Kernel): string | undefined {
  if (bootParams.efi === undefined) return 'not booted by EFI'
  if (commandLine.noefi) return 'noefi on the command line'
  if (commandLine.efi.has('noruntime')) return 'efi=noruntime on the command line'
  // setup_arch() of 2.6.35 compares the signature with the one of its own width; efi_runtime_supported() and "No EFI runtime due to 32/64-bit mismatch with kernel" from 3.2 on.
  const { architecture: firmware } = bootParams.efi
  const fits = ({ definition }: StrategyChoice): boolean =>
    (definition.firmware ?? architecture.name) === firmware.name
  if (!profile.strategies.some(fits)) {
    return `32/64-bit mismatch: firmware for ${firmware.name}, ${describeWidth(architecture, profile)}`
  }
  return undefined
}

function describeWidth({ name }: Architecture, { strategies }: KernelProfile): string {
  const isMixed = strategies.some(({ definition }) => definition.firmware !== undefined)
  return isMixed ? `kernel for ${name} in mixed mode` : `kernel for ${name}`
}

/** reserve_real_mode(), before anything else takes what is free below 1 MiB; Linux reserves all the rest of that, too, since 5.13 (commit f1d4d47c5851). */
function reserveRealMode(kernel: Kernel): void {
  const frame = kernel.allocator.tryAllocate(kernel.owner('trampoline'), 2, {
    below: LOW_MEMORY / PAGE_SIZE,
  })
  if (frame === undefined) {
    kernel.print('No sub-1M memory is available for the trampoline')
  } else {
    kernel.realModeMemory = { code: phys(frame * PAGE_SIZE), root: phys((frame + 1) * PAGE_SIZE) }
  }
  if (isLinux(kernel, '5.13')) kernel.allocator.reserve(0, LOW_MEMORY / PAGE_SIZE)
}

/** mem_map: one struct page for each page of RAM, from the lowest free memory on. */
function allocateMemoryMap(kernel: Kernel): void {
  const pages = usableRam(kernel).reduce(
    (sum, range) => sum + (range.end - range.start) / PAGE_SIZE,
    0,
  )
  const bytes = pages * STRUCT_PAGE_BYTES[kernel.architecture.name]
  takeMemory(kernel, 'mem_map', Math.ceil(bytes / PAGE_SIZE), MEM_MAP_PATTERN)
}

/** Everything that is free goes into use, but a rest: what runs for a while fills memory, above all with cached files. */
function useMemory(kernel: Kernel): void {
  const lowEnd = (kernel.tables.layout.lowMemoryEnd ?? Infinity) / PAGE_SIZE
  const free = kernel.allocator.freeRanges.reduce(
    (sum, range) => sum + Math.max(0, Math.min(range.end, lowEnd) - range.start),
    0,
  )
  const use = 'page cache'
  // Who has cached everything still has some memory that the kernel itself can use.
  takeMemory(kernel, use, Infinity, PAGE_CACHE_PATTERN, lowEnd)
  takeMemory(kernel, use, Math.max(0, free - FREE_PAGES_LEFT), PAGE_CACHE_PATTERN, 0)
}

/** Takes `pages` pages from the lowest free ranges from `from` (a frame) on, and overwrites them. */
function takeMemory(
  kernel: Kernel,
  use: string,
  pages: number,
  pattern: number,
  from = 0x1000,
): void {
  const { memory } = kernel.machine
  const owner = kernel.owner(use)
  for (const { start, end } of kernel.allocator.takeLowest(pages, from)) {
    memory.owners.set(start, end, owner)
    memory.fill(start * PAGE_SIZE, end * PAGE_SIZE, pattern)
  }
}

/** setup_cet() and enable_lass(): what this kernel switches on at this time, on a CPU that has it. */
function harden(
  { bootCpu, machine, strategy }: Kernel,
  when: 'before-setup' | 'after-setup',
): void {
  const { ibt, lass } = strategy?.definition.hardening ?? {}
  if (ibt === when && machine.features.ibt) {
    bootCpu.writeCr4(bootCpu.cr4 | Cr4.CET)
    bootCpu.endbranchTracking = true
  }
  if (lass === when && machine.features.lass) {
    // Of data accesses LASS stops those that SMAP would, which is on in every kernel that has it.
    const smap = machine.features.smap ? Cr4.SMAP : 0
    bootCpu.writeCr4(bootCpu.cr4 | smap | Cr4.LASS)
  }
}

/** Where start_kernel() calls efi_enter_virtual_mode() or, with the patch, efi_setup_physical_mode(). */
function setUpRuntimeServices(kernel: Kernel): void {
  const { efi, strategy } = kernel
  if (efi === undefined || strategy === undefined) return
  const { instance } = strategy
  orRefuse(kernel, () => {
    const handOver = instance.takeOver === undefined ? undefined : readHandOver(kernel)
    if (handOver !== undefined) {
      instance.takeOver?.(kernel, handOver)
      return
    }
    instance.setup?.(kernel)
    const map = instance.virtualMap?.(kernel)
    if (map === undefined) return
    setVirtualAddressMap(kernel, map)
    makeRuntimeCodeExecutable(kernel, map)
    instance.enteredVirtualMode?.(kernel)
  })
}

/** Runs a part of a strategy; where that declines, the kernel goes on without runtime services. */
function orRefuse(kernel: Kernel, run: () => void): void {
  try {
    run()
  } catch (error) {
    if (!(error instanceof StrategyRefusal)) throw error
    kernel.disableRuntimeServices(error.message)
  }
}
