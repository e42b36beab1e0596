import { formatAddress } from '@trapdoor/core'
import type { ObservedKernel } from '@trapdoor/intake'
import { efiStatusName, type MemoryDescriptor } from '@trapdoor/uefi'
import type { Difference } from './difference.ts'
import { isEfiAddress } from './efi-addresses.ts'
import { compareHandOver } from './hand-over.ts'
import { compareLeaves } from './leaves.ts'
import { compareE820, compareMaps, compareRanges } from './memory-maps.ts'
import type { ReplayedKernel } from './replay.ts'

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
  // One that died has shown nothing else to compare.
  if (model.panic !== undefined) return compareEndings(observed, model)
  const inOrder = isInOrder(kernels)
  const { e820, efiMap, iomem, leaves, runtimeMap } = observed
  return [
    ...ifSeen(e820, (map) => compareE820('e820 map', map, model.e820)),
    ...ifSeen(efiMap, (map) =>
      compareMaps('EFI memory map', map, withoutVirtual(model.efiMap ?? []), { inOrder }),
    ),
    ...compareHandOver(kernels),
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

/** How kernels got through their boot; what happened in calls that user space made after it, the model was not asked for. */
function compareEndings(
  { bootEnding, ending }: ObservedKernel,
  model: ReplayedKernel,
): Difference[] {
  const [observed, later] = [bootEnding, ending].map((each) =>
    [
      endingOf({ ...each, panic: each.panic === undefined ? undefined : PANIC }),
      ...each.survivedFaults.map((at) => `firmware faulted at ${formatAddress(at)}`),
      ...each.flagsCorruptedBy.map((service) => `interrupt flag changed by ${service}`),
    ].join(', '),
  )
  const made = endingOf({ ...model, panic: model.panic === undefined ? undefined : PANIC })
  const why = model.panic === undefined ? '' : `: ${model.panic}`
  return [
    ...(observed === made
      ? []
      : [{ subject: 'ending' as const, observed: observed!, model: `${made}${why}` }]),
    ...(later === observed
      ? []
      : [{ subject: 'after the boot' as const, observed: later!, model: 'no calls' }]),
  ]
}

/** The words of a panic are not compared. */
const PANIC = 'the kernel panics'

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
