import { CpuException, type CpuFeatures, mappedRanges, NEHALEM, QEMU_TCG } from '@trapdoor/core'
import { createFirmware } from '@trapdoor/firmware'
import type { ObservedBoot, ObservedFirmware, ObservedKernel, ObservedLeaf } from '@trapdoor/intake'
import {
  bootKernel,
  type ByteRange,
  crashKexec,
  EFI_VA_END,
  EFI_VA_START,
  type Kernel,
  kexec,
  KernelPanic,
  LAYOUT_2_6_35,
  loadKernel,
  type NextKernel,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import type { MemoryDescriptor } from '@trapdoor/uefi'

/** What the model did where a kernel was observed. */
export interface ReplayedKernel {
  readonly strategy: string
  /** efi.memmap with its virtual addresses; undefined without runtime services. */
  readonly runtimeMap: readonly MemoryDescriptor[] | undefined
  /** The leaves of the low half and of the window of EFI addresses; undefined without runtime services. */
  readonly leaves: readonly ObservedLeaf[] | undefined
  /** Where the model's kernel put the map that firmware was given: first byte and bytes. */
  readonly memmap: { readonly start: number; readonly bytes: number } | undefined
  readonly runtimeServices: boolean
  /** The words that it died with. */
  readonly panic: string | undefined
}

/** Boots the model on what the observed machine's firmware had reported, kernel after kernel, as long as they live. */
export function replayBoot(
  boot: ObservedBoot,
  firmware: ObservedFirmware,
  strategyOf: (version: string) => StrategyDefinition,
): ReplayedKernel[] {
  const powered = createFirmware({
    name: boot.name,
    memoryMap: firmware.memoryMap,
    features: featuresOf(boot.cpuModel),
    cpus: boot.cpus,
    memoryAttributesTable: firmware.memoryAttributes ?? 'none',
  }).powerOn()
  const replayed: ReplayedKernel[] = []
  let kernel: Kernel | undefined
  for (const observed of boot.kernels) {
    const definition = strategyOf(observed.version)
    try {
      kernel = start(kernel, observed, definition)
      replayed.push(describeKernel(kernel, definition))
    } catch (error) {
      if (!(error instanceof KernelPanic) && !(error instanceof CpuException)) throw error
      replayed.push({ ...NOTHING, strategy: definition.name, panic: error.message })
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
      profile: { layout: definition.layout ?? LAYOUT_2_6_35, strategies: [{ definition }] },
    }
    const reserved = loadedRanges(observed)
    if (before === undefined) {
      const handOff = loadKernel(powered, observed.commandLine)
      return bootKernel({ ...handOff, reserved }, options)
    }
    const next: NextKernel = { ...options, commandLine: observed.commandLine, reserved }
    return observed.stage === 'kdump' ? crashKexec(before, next) : kexec(before, next)
  }
}

const NOTHING = {
  runtimeMap: undefined,
  leaves: undefined,
  memmap: undefined,
  runtimeServices: false,
} as const

/** Which CPU an emulated machine had, as far as page tables can tell. */
function featuresOf(cpuModel: string): CpuFeatures {
  const [name, ...flags] = cpuModel.split(',')
  if (name !== 'max') return NEHALEM
  return { ...QEMU_TCG, la57: !flags.includes('la57=off') }
}

/** What the observed loader had put where, which the model's loader puts elsewhere. */
function loadedRanges({ image, initrd }: ObservedKernel): ByteRange[] {
  return [image, initrd].filter((range) => range !== undefined)
}

function describeKernel(kernel: Kernel, definition: StrategyDefinition): ReplayedKernel {
  const { efi, strategy } = kernel
  if (efi === undefined || strategy === undefined) {
    return { ...NOTHING, strategy: definition.name, panic: undefined }
  }
  const root = kernel.roots.find(({ name }) => name === 'efi_pgd' || name === 'trampoline_pgd')
  return {
    strategy: definition.name,
    runtimeMap: efi.memoryMap,
    leaves: root === undefined ? undefined : leavesOf(kernel, root.root),
    memmap: kernel.efiMemmap,
    runtimeServices: true,
    panic: undefined,
  }
}

/** Leaves in the low half and in the window of EFI addresses: all that is EFI's own. */
function leavesOf(kernel: Kernel, root: number): ObservedLeaf[] {
  const { ranges } = mappedRanges(kernel.bootCpu.translationContext(root))
  return ranges
    .filter(({ start }) => start < 2n ** 63n || (start >= EFI_VA_END && start < EFI_VA_START))
    .flatMap((range) =>
      Array.from({ length: range.bytes / range.pageSize }, (_, index) => ({
        address: range.start + BigInt(index * range.pageSize),
        physical: range.physical + index * range.pageSize,
        pageSize: range.pageSize,
        writable: range.writable,
        executable: range.executable,
        user: range.user,
        cacheDisable: range.patIndex !== 0,
      })),
    )
}
