import { formatAddress } from '@trapdoor/core'
import type { BootMilestone, KernelEnding, ObservedKernel } from '@trapdoor/intake'
import { efiStatusName, type MemoryDescriptor } from '@trapdoor/uefi'
import type { Difference } from './difference.ts'
import { isEfiAddress } from './efi-addresses.ts'
import { compareHandOver } from './hand-over.ts'
import { compareLeaves } from './leaves.ts'
import { compareE820, compareMaps, compareRanges } from './memory-maps.ts'
import type { ReplayedDeath, ReplayedKernel } from './replay.ts'

/** A kernel on both sides, and what ran before it. */
export interface ComparedKernels {
  readonly observed: ObservedKernel
  readonly model: ReplayedKernel
  /** The kernel before, which started this one. */
  readonly before?: ComparedKernels | undefined
}

/** Everything in which a kernel of the model differs from the one that was observed. What nobody looked at there is not compared. */
export function compareKernels(kernels: ComparedKernels): Difference[] {
  const { observed, model } = kernels
  if (model.death !== undefined) return compareWithDead(kernels, model.death)
  const inOrder = isInOrder(kernels)
  const { iomem, leaves, runtimeMap } = observed
  return [
    ...compareGiven(kernels, model.efiMap ?? []),
    ...ifSeen(iomem, (resources) => [
      ...compareE820('corrected e820 map', resources.e820, model.correctedE820),
      ...compareRanges('crash kernel', resources.crashKernel, model.crashKernel),
    ]),
    ...ifSeen(runtimeMap, (map) =>
      compareMaps('runtime map', map, model.runtimeMap ?? [], { inOrder }),
    ),
    ...ifSeen(leaves, (all) =>
      compareLeaves(
        all.filter(({ address }) => isEfiAddress(address)),
        model.leaves ?? [],
      ),
    ),
    ...compareEndings(observed, model),
  ]
}

/** What kernels were given. */
function compareGiven(
  kernels: ComparedKernels,
  efiMap: readonly MemoryDescriptor[] | undefined,
): Difference[] {
  const { observed, model } = kernels
  const inOrder = isInOrder(kernels)
  return [
    ...ifSeen(observed.e820, (map) => compareE820('e820 map', map, model.e820)),
    ...ifSeen(observed.efiMap, (map) =>
      efiMap === undefined
        ? []
        : compareMaps('EFI memory map', map, withoutVirtual(efiMap), { inOrder }),
    ),
    ...compareHandOver(kernels),
  ]
}

/** One that died has shown how, and what it had read of what it was given. */
function compareWithDead(kernels: ComparedKernels, { reached }: ReplayedDeath): Difference[] {
  const { observed, model } = kernels
  return [
    ...(reached === 'setup_arch' ? [] : compareGiven(kernels, model.efiMap)),
    ...compareEndings(observed, model),
  ]
}

function ifSeen<Seen>(seen: Seen | undefined, compare: (seen: Seen) => Difference[]): Difference[] {
  return seen === undefined ? [] : compare(seen)
}

/** A kernel prints the map that it got without the virtual addresses. */
function withoutVirtual(map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  return map.map(({ type, physicalStart, numberOfPages, attribute }) => ({
    type,
    physicalStart,
    virtualStart: 0n,
    numberOfPages,
    attribute,
  }))
}

/** Whether maps have kept the kernel's order: kexec-tools hand over the runtime map in the order of a directory. */
function isInOrder({ observed, before }: ComparedKernels): boolean {
  if (observed.loader?.syscall === 'kexec_load') return false
  return before === undefined || isInOrder(before)
}

/** How kernels got through their boot. */
function compareEndings({ bootEnding }: ObservedKernel, model: ReplayedKernel): Difference[] {
  const observed = describeEnding(bootEnding)
  const made =
    model.death === undefined
      ? endingOf({ ...model, panic: undefined })
      : describeDeath(model.death)
  const why = model.death === undefined ? '' : `: ${model.death.message}`
  return observed === made ? [] : [{ subject: 'ending', observed, model: `${made}${why}` }]
}

/** What firmware did in calls that user space made after the boot; undefined where the log has nothing of the kind. */
export function afterBoot({ bootEnding, ending }: ObservedKernel): string | undefined {
  const [boot, later] = [bootEnding, ending].map(describeEnding)
  return boot === later ? undefined : later
}

/** An ending in words that do not depend on whose it is. */
function describeEnding(ending: KernelEnding): string {
  const isDead = ending.panic !== undefined || ending.exception !== undefined
  return [
    isDead ? describeDeath(ending) : endingOf(ending),
    ...ending.survivedFaults.map((at) => `firmware faulted at ${formatAddress(at)}`),
    ...ending.flagsCorruptedBy.map((service) => `interrupt flag changed by ${service}`),
  ].join(', ')
}

const WHERE: Readonly<Record<BootMilestone, string>> = {
  setup_arch: 'before efi_init()',
  efi_init: 'between efi_init() and mm_init()',
  mm_init: 'between mm_init() and vfs_caches_init()',
  vfs_caches_init: 'after vfs_caches_init()',
}

/** Where and of what. The words of a panic are not compared, nor is an address: the model's firmware has its code elsewhere. */
function describeDeath({
  reached,
  exception,
}: Pick<KernelEnding, 'reached' | 'exception'>): string {
  const cause = exception === undefined ? 'panics' : `dies of exception ${exception}`
  return `the kernel ${cause} ${WHERE[reached]}`
}

/** How a kernel ended, in a few words. */
export function endingOf(ending: {
  readonly panic: string | undefined
  readonly svamStatus: bigint | undefined
  readonly runtimeServices: boolean
}): string {
  if (ending.panic !== undefined) return ending.panic
  if (ending.svamStatus !== undefined) {
    return `SetVirtualAddressMap failed with ${efiStatusName(ending.svamStatus)}`
  }
  return ending.runtimeServices ? 'runtime services on' : 'no runtime services'
}
