import { CpuException, mappedRanges, TripleFault } from '@trapdoor/core'
import { createFirmware } from '@trapdoor/firmware'
import type {
  BootMilestone,
  KernelEnding,
  ObservedBoot,
  ObservedFirmware,
  ObservedKernel,
  ObservedLeaf,
  ObservedRange,
} from '@trapdoor/intake'
import {
  bootKernel,
  type BootPhase,
  type ByteRange,
  crashKexec,
  createKernelHooks,
  type E820Entry,
  type Kernel,
  kexec,
  KernelError,
  KernelPanic,
  layoutOf,
  loadKernel,
  type NextKernel,
  type RealImage,
  sanitizeE820,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import type { Architecture, MemoryDescriptor } from '@trapdoor/uefi'
import { featuresOf } from './cpu-model.ts'
import { isEfiAddress } from './efi-addresses.ts'

/** A leaf with the entry of the PAT that it selects: PWT, PCD and PAT as a number. */
export type ReplayedLeaf = ObservedLeaf & { readonly patIndex: number }

/** What the model did where a kernel was observed. */
export interface ReplayedKernel {
  readonly strategy: string
  /** The e820 map that it was given, and that map as it corrected it. */
  readonly e820: readonly E820Entry[]
  readonly correctedE820: readonly E820Entry[]
  /** The EFI memory map that it was given; undefined where it does not use EFI. */
  readonly efiMap: readonly MemoryDescriptor[] | undefined
  /** Whether it was given SETUP_EFI. */
  readonly hasSetupEfi: boolean
  /** The EFI configuration tables by GUID. */
  readonly tables: ReadonlyMap<string, number>
  /** Whether it found a memory attributes table that it could not make sense of. */
  readonly refusesAttributesTable: boolean
  /** What `crashkernel=` reserved. */
  readonly crashKernel: readonly ByteRange[]
  /** efi.memmap with its virtual addresses; undefined without runtime services. */
  readonly runtimeMap: readonly MemoryDescriptor[] | undefined
  /** The leaves of the low half and of the window of EFI addresses; undefined without runtime services. */
  readonly leaves: readonly ReplayedLeaf[] | undefined
  /** Where the model's kernel put the map that firmware was given: first byte and bytes. */
  readonly memmap: { readonly start: number; readonly bytes: number } | undefined
  readonly runtimeServices: boolean
  /** The status that SetVirtualAddressMap failed with. */
  readonly svamStatus: bigint | undefined
  /** How it died, where it did: then of the rest there is what it had been given, and what had come of it by then. */
  readonly death: ReplayedDeath | undefined
}

/** The death of a kernel of the model. */
export interface ReplayedDeath extends Pick<KernelEnding, 'reached' | 'exception'> {
  /** What it died with. */
  readonly message: string
}

/** What a log tells of phases: the last function that one prints something before, or in. */
const MILESTONES: Readonly<Record<BootPhase, BootMilestone>> = {
  head_64: 'setup_arch',
  setup_arch: 'setup_arch',
  efi_init: 'efi_init',
  init_memory_mapping: 'efi_init',
  mm_init: 'mm_init',
  efi: 'mm_init',
  running: 'vfs_caches_init',
}

/** RESERVE_BRK(early_pgt_alloc): INIT_PGD_PAGE_COUNT, 4 * 4 pages, in arch/x86/mm/init.c. */
const EARLY_PAGE_TABLES = 16 * 0x1000
/**
 * What lies between __bss_stop and _end (arch/x86/kernel/vmlinux.lds.S: .brk): 64 KiB of slop, RESERVE_BRK(dmi_alloc) of 64 KiB (arch/x86/kernel/setup.c), and
 * {@link EARLY_PAGE_TABLES}. That is so with CONFIG_DMI, CONFIG_RANDOMIZE_MEMORY and CONFIG_X86_5LEVEL, as distributions' kernels have them: /proc/kallsyms of 6.1 and 6.12 says 192 KiB.
 * Without 5 levels it is 16 KiB less. iomem.txt ends the image at __bss_stop, and nothing that a boot leaves tells of _end.
 */
const BRK_BYTES = 0x1_0000 + 0x1_0000 + EARLY_PAGE_TABLES
/**
 * What is read with cmdline_find_option(), by boot code (arch/x86/boot/compressed/kaslr.c, pgtable_64.c) or by pti_check_boottime_disable() (arch/x86/mm/pti.c, 6.1): it has its effect, though
 * parse_args() knows no such parameter and the log calls it unknown.
 */
const WORDS_BEFORE_PARAMETERS = /^(?:nokaslr|no5lvl|nopti|pti=.*)$/

/** Boots the model on what the observed machine's firmware had reported, kernel after kernel, as long as they live. */
export function replayBoot(
  boot: ObservedBoot,
  firmware: ObservedFirmware,
  strategyOf: (version: string, architecture: Architecture['name']) => StrategyDefinition,
): ReplayedKernel[] {
  const architecture = architectureOf(boot)
  const powered = createFirmware({
    name: boot.name,
    memoryMap: firmware.memoryMap,
    architecture,
    features: featuresOf(boot.cpuModel),
    cpus: boot.cpus,
    memoryAttributesTable: firmware.memoryAttributes ?? 'none',
  }).powerOn()
  const replayed: ReplayedKernel[] = []
  let kernel: Kernel | undefined
  let booting: Kernel | undefined
  const hooks = createKernelHooks()
  hooks.phase.tap('replay', (each) => {
    booting = each
  })
  for (const observed of boot.kernels) {
    const definition = strategyOf(observed.version, architecture)
    booting = undefined
    try {
      kernel = start(kernel, observed, definition)
      replayed.push(describeKernel(kernel, definition))
    } catch (error) {
      if (!isDeath(error)) throw error
      replayed.push(describeDead(booting, definition, error))
      break
    }
  }
  return replayed

  function start(
    before: Kernel | undefined,
    observed: ObservedKernel,
    definition: StrategyDefinition,
  ): Kernel {
    const options = {
      name: observed.stage,
      hooks,
      profile: {
        layout: layoutOf({ definition }),
        linux: observed.version,
        strategies: [{ definition }],
      },
    }
    const loaded = loadedBy(observed)
    const commandLine = knownWords(observed)
    if (before === undefined) {
      return bootKernel({ ...loadKernel(powered, commandLine), ...loaded }, options)
    }
    const next: NextKernel = {
      ...options,
      ...loaded,
      commandLine,
      ...howLoaded(observed, before),
    }
    return /\belfcorehdr=/.test(observed.commandLine)
      ? crashKexec(before, next)
      : kexec(before, next)
  }
}

/** What the firmware was built for: only firmware of 32 bits is told its own physical addresses (efi_map_region() in mixed mode). */
function architectureOf({ kernels }: ObservedBoot): Architecture['name'] {
  const map = kernels[0]?.runtimeMap ?? []
  const isFlat = map.every(
    ({ physicalStart, virtualStart }) => virtualStart === BigInt(physicalStart),
  )
  return map.length > 0 && isFlat ? 'ia32' : 'x64'
}

/** What ends a kernel of the model, and not the model. */
function isDeath(error: unknown): error is Error {
  return (
    error instanceof KernelPanic ||
    error instanceof CpuException ||
    error instanceof TripleFault ||
    (error instanceof KernelError && error.code === 'KERNEL_BAD_HAND_OFF')
  )
}

const NOTHING = {
  strategy: '',
  e820: [],
  correctedE820: [],
  efiMap: undefined,
  hasSetupEfi: false,
  tables: new Map<string, number>(),
  refusesAttributesTable: false,
  crashKernel: [],
  runtimeMap: undefined,
  leaves: undefined,
  memmap: undefined,
  runtimeServices: false,
  svamStatus: undefined,
  death: undefined,
} as const satisfies ReplayedKernel

/** The command line without the words that this kernel, as it was configured, said it does not know, but for those of {@link WORDS_BEFORE_PARAMETERS}. */
function knownWords({ commandLine, unknownParameters }: ObservedKernel): string {
  const unknown = new Set(unknownParameters.filter((word) => !WORDS_BEFORE_PARAMETERS.test(word)))
  return commandLine
    .split(/\s+/)
    .filter((word) => !unknown.has(word))
    .join(' ')
}

/** What the observed loader had put where, which the model's loader puts elsewhere, and what a first kernel allocates before it looks for room for a crash kernel. */
function loadedBy({ iomem, initrd, loader, nodeData, setupData }: ObservedKernel): {
  readonly reserved: readonly ByteRange[]
  readonly realImage?: RealImage
} {
  const allocated = loader === undefined ? nodeData : []
  const ranges: (ObservedRange | undefined)[] = [initrd, ...setupData, ...allocated]
  const reserved = ranges.filter((range) => range !== undefined)
  const image = iomem?.image
  if (image === undefined) return { reserved }
  const { text, rodata } = iomem!
  const realImage = {
    start: image.start,
    end: image.end + BRK_BYTES,
    ...(text === undefined ? {} : { text }),
    ...(rodata === undefined ? {} : { rodata }),
  }
  return { reserved: [...reserved, image], realImage }
}

/**
 * By which system call, and where it left what a kernel hands over. kexec_file_load puts the runtime map right before SETUP_EFI, at multiples of 16 bytes (bzImage64_load()); kexec-tools
 * allocate it after SETUP_EFI, from the next page on (setup_efi_data()).
 */
function howLoaded({ loader }: ObservedKernel, before: Kernel): Partial<NextKernel> {
  if (loader === undefined) return {}
  const { syscall = 'kexec_file_load', noEfi, setupEfi } = loader
  const mapBytes = (before.efi?.memoryMap.length ?? 0) * (before.efi?.info.memdescSize ?? 0)
  const runtimeMap = (efi: number): number =>
    syscall === 'kexec_load'
      ? (Math.floor(efi / PAGE) + 1) * PAGE
      : efi - Math.ceil(mapBytes / 16) * 16
  return {
    loader: syscall,
    noEfi,
    ...(setupEfi === undefined
      ? {}
      : { handOverAt: { setupEfi, runtimeMap: runtimeMap(setupEfi) } }),
  }
}

const PAGE = 0x1000

function describeKernel(kernel: Kernel, definition: StrategyDefinition): ReplayedKernel {
  const { efi, strategy } = kernel
  const given = describeGiven(kernel, definition)
  if (efi === undefined || strategy === undefined) return given
  const root = kernel.roots.find(({ name }) => name === 'efi_pgd' || name === 'trampoline_pgd')
  return {
    ...given,
    runtimeMap: efi.memoryMap,
    leaves: root === undefined ? undefined : leavesOf(kernel, root.root),
    memmap: kernel.efiMemmap,
    runtimeServices: true,
  }
}

/** What a kernel was given, and what it made of that before it set up runtime services. */
function describeGiven(kernel: Kernel, definition: StrategyDefinition): ReplayedKernel {
  const { efi } = kernel
  return {
    ...NOTHING,
    strategy: definition.name,
    e820: sanitizeE820(kernel.bootParams.e820),
    correctedE820: kernel.e820,
    crashKernel: [kernel.crashLowRegion, kernel.crashRegion].filter((range) => range !== undefined),
    hasSetupEfi: kernel.bootParams.setupData !== 0,
    efiMap: efi?.firmwareMap,
    tables: new Map(efi?.configurationTable.map(({ guid, table }) => [guid, Number(table)])),
    refusesAttributesTable: efi?.refusesAttributesTable ?? false,
    svamStatus: efi?.svamStatus,
  }
}

/** What there is to say of a kernel that died, or of one that the loader could not start. */
function describeDead(
  kernel: Kernel | undefined,
  definition: StrategyDefinition,
  error: Error,
): ReplayedKernel {
  const reached = kernel === undefined ? 'setup_arch' : MILESTONES[kernel.phase]
  const cause = error instanceof TripleFault ? error.failures[0] : error
  const exception = cause instanceof CpuException ? cause.vector : undefined
  const death: ReplayedDeath = { reached, exception, message: error.message }
  // Before efi_init() it has not read all that it was given.
  return kernel === undefined || reached === 'setup_arch'
    ? { ...NOTHING, strategy: definition.name, death }
    : { ...describeGiven(kernel, definition), death }
}

/** All leaves that are EFI's own. */
function leavesOf(kernel: Kernel, root: number): ReplayedLeaf[] {
  const { ranges } = mappedRanges(kernel.bootCpu.translationContext(root))
  return ranges
    .filter(({ start }) => isEfiAddress(start))
    .flatMap((range) =>
      Array.from({ length: range.bytes / range.pageSize }, (_, index) => ({
        address: range.start + BigInt(index * range.pageSize),
        physical: range.physical + index * range.pageSize,
        pageSize: range.pageSize,
        writable: range.writable,
        executable: range.executable,
        user: range.user,
        cacheDisable: (range.patIndex & CACHE_DISABLE) !== 0,
        patIndex: range.patIndex,
      })),
    )
}

/** PCD in the number of a PAT entry. */
const CACHE_DISABLE = 2
