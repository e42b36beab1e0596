import { formatAddress, PAGE_SIZE } from '@trapdoor/core'
import type { ObservedE820Entry, ObservedKernel } from '@trapdoor/intake'
import { type E820Entry, E820Type } from '@trapdoor/kernel'
import {
  efiStatusName,
  formatMemoryAttribute,
  type MemoryDescriptor,
  memoryTypeName,
} from '@trapdoor/uefi'
import type { Difference, Subject } from './difference.ts'
import { isEfiAddress } from './efi-addresses.ts'
import { compareLeaves } from './leaves.ts'
import { differenceOf, differing } from './pairs.ts'
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
  // One that died has shown nothing to compare.
  if (model.panic !== undefined) return compareEndings(observed, model)
  const seen = <T>(value: T | undefined, compare: (value: T) => Difference[]): Difference[] =>
    value === undefined ? [] : compare(value)
  return [
    ...seen(observed.e820, (map) => compareE820('e820 map', map, model.e820)),
    ...seen(observed.efiMap, (map) =>
      compareMaps(
        'EFI memory map',
        map,
        (model.efiMap ?? []).map((each) => ({ ...each, virtualStart: 0n })),
        isInOrder(kernels),
      ),
    ),
    ...compareSetupData(observed, model),
    ...compareTables(kernels),
    ...compareAttributesTable(observed, model),
    ...seen(observed.iomem, ({ e820, crashKernel }) => [
      ...compareE820('corrected e820 map', e820, model.correctedE820),
      ...compareRanges('crash kernel', crashKernel, model.crashKernel),
    ]),
    ...seen(observed.runtimeMap, (map) =>
      compareMaps('runtime map', map, model.runtimeMap ?? [], isInOrder(kernels)),
    ),
    ...seen(observed.leaves, (leaves) =>
      compareLeaves(
        leaves.filter(({ address }) => isEfiAddress(address)),
        model.leaves ?? [],
      ),
    ),
    ...compareEndings(observed, model),
  ]
}

function compareEndings(observed: ObservedKernel, model: ReplayedKernel): Difference[] {
  const { ending } = observed
  const seen = [
    endingOf({ ...ending, panic: ending.panic === undefined ? undefined : 'the kernel panics' }),
    ...ending.survivedFaults.map((at) => `firmware faulted at ${formatAddress(at)}`),
    ...ending.flagsCorruptedBy.map((service) => `interrupt flag changed by ${service}`),
  ].join(', ')
  const made = endingOf({
    ...model,
    panic: model.panic === undefined ? undefined : 'the kernel panics',
  })
  if (seen === made) return []
  const why = model.panic === undefined ? '' : `: ${model.panic}`
  return [{ subject: 'ending', observed: seen, model: `${made}${why}` }]
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

const TYPE_NAMES: ReadonlyMap<number, ObservedE820Entry['type']> = new Map([
  [E820Type.RAM, 'System RAM'],
  [E820Type.RESERVED, 'Reserved'],
  [E820Type.ACPI, 'ACPI Tables'],
  [E820Type.NVS, 'ACPI Non-volatile Storage'],
  [E820Type.UNUSABLE, 'Unusable memory'],
])

function compareE820(
  subject: Subject,
  observed: readonly ObservedE820Entry[],
  model: readonly E820Entry[],
): Difference[] {
  const named = model.map(({ start, end, type }) => ({
    start,
    end,
    type: TYPE_NAMES.get(type) ?? `type ${type}`,
  }))
  const describe = ({ start, end, type }: { start: number; end: number; type: string }): string =>
    `${type} ${formatAddress(start)} to ${formatAddress(end)}`
  return differing(observed, named, ({ start }) => BigInt(start), describe).map((pair) =>
    differenceOf(
      subject,
      pair,
      describe,
      ({ start }) => start,
      (pair.observed ?? pair.model)!.end - (pair.observed ?? pair.model)!.start,
    ),
  )
}

function compareRanges(
  subject: Subject,
  observed: readonly { start: number; end: number }[],
  model: readonly { start: number; end: number }[],
): Difference[] {
  const describe = ({ start, end }: { start: number; end: number }): string =>
    `${formatAddress(start)} to ${formatAddress(end)}`
  return differing(observed, model, ({ start }) => BigInt(start), describe).map((pair) =>
    differenceOf(
      subject,
      pair,
      describe,
      ({ start }) => start,
      (pair.observed ?? pair.model)!.end - (pair.observed ?? pair.model)!.start,
    ),
  )
}

/** Whether maps have kept the kernel's order: kexec-tools hand over the runtime map in the order of a directory. */
function isInOrder({ observed, before }: ComparedKernels): boolean {
  if (observed.loader?.syscall === 'kexec_load') return false
  return before === undefined || isInOrder(before)
}

/** Descriptors are matched by where they begin, and where a map is `inOrder`, they follow one another as in the model's. */
function compareMaps(
  subject: Subject,
  observed: readonly MemoryDescriptor[],
  model: readonly MemoryDescriptor[],
  inOrder: boolean,
): Difference[] {
  const pairs = differing(
    observed,
    model,
    ({ physicalStart }) => BigInt(physicalStart),
    describeDescriptor,
  )
  const differences = pairs.map((pair) =>
    differenceOf(
      subject,
      pair,
      describeDescriptor,
      ({ physicalStart }) => physicalStart,
      (pair.observed ?? pair.model)!.numberOfPages * PAGE_SIZE,
    ),
  )
  if (!inOrder || differences.length > 0) return differences
  const moved = observed.findIndex(
    ({ physicalStart }, index) => physicalStart !== model[index]!.physicalStart,
  )
  if (moved === -1) return []
  const place = ({ physicalStart }: MemoryDescriptor): string =>
    `${formatAddress(physicalStart)} as descriptor ${moved}`
  return [{ subject, observed: place(observed[moved]!), model: place(model[moved]!) }]
}

function describeDescriptor(descriptor: MemoryDescriptor): string {
  const { type, physicalStart, virtualStart, numberOfPages, attribute } = descriptor
  const at = virtualStart === 0n ? '' : ` at ${formatAddress(virtualStart)}`
  return `${memoryTypeName(type)} ${formatAddress(physicalStart)}${at}, ${numberOfPages} pages, ${formatMemoryAttribute(attribute)}`
}

/** A kernel that was started by another gets SETUP_EFI, or does not. */
function compareSetupData({ loader }: ObservedKernel, model: ReplayedKernel): Difference[] {
  if (loader === undefined || (loader.setupEfi !== undefined) === model.hasSetupEfi) return []
  const describe = (has: boolean): string => (has ? 'SETUP_EFI' : 'no SETUP_EFI')
  return [
    {
      subject: 'setup_data',
      observed: describe(loader.setupEfi !== undefined),
      model: describe(model.hasSetupEfi),
    },
  ]
}

/**
 * Whether a kernel finds the configuration tables where the one before found them. Where that is differs: the model's firmware has tables of its own. What only one of two versions knows is
 * not compared.
 */
function compareTables({ observed, model, before }: ComparedKernels): Difference[] {
  if (before === undefined) return []
  const moved = <T>(now: ReadonlyMap<T, number>, then: ReadonlyMap<T, number>): T[] =>
    [...now.keys()].filter((name) => then.has(name) && then.get(name) !== now.get(name))
  const seen = moved(observed.tables, before.observed.tables)
  const made = moved(model.tables, before.model.tables)
  const describe = (names: readonly string[]): string =>
    names.length === 0 ? 'where the kernel before had them' : `${names.join(', ')} elsewhere`
  if (seen.length === made.length) return []
  return [{ subject: 'configuration tables', observed: describe(seen), model: describe(made) }]
}

function compareAttributesTable(observed: ObservedKernel, model: ReplayedKernel): Difference[] {
  // One that does without EFI has not looked at it in the model.
  if (model.efiMap === undefined) return []
  if (observed.refusesAttributesTable === model.refusesAttributesTable) return []
  const describe = (refuses: boolean): string => (refuses ? 'overwritten' : 'as it was')
  return [
    {
      subject: 'memory attributes table',
      observed: describe(observed.refusesAttributesTable),
      model: describe(model.refusesAttributesTable),
    },
  ]
}
