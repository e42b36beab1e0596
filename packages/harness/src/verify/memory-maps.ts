import { formatAddress, PAGE_SIZE } from '@trapdoor/core'
import type { ObservedE820Entry } from '@trapdoor/intake'
import { type ByteRange, type E820Entry, E820Type } from '@trapdoor/kernel'
import { formatMemoryAttribute, type MemoryDescriptor, memoryTypeName } from '@trapdoor/uefi'
import type { Difference, Subject } from './difference.ts'
import { differenceOf, differing } from './pairs.ts'

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [E820Type.RAM, 'System RAM'],
  [E820Type.RESERVED, 'Reserved'],
  [E820Type.ACPI, 'ACPI Tables'],
  [E820Type.NVS, 'ACPI Non-volatile Storage'],
  [E820Type.UNUSABLE, 'Unusable memory'],
])

/** Bytes, and what they are. */
type NamedRange = ByteRange & { readonly type?: string }

/** Entries are matched by where they begin. */
export function compareE820(
  subject: Subject,
  observed: readonly ObservedE820Entry[],
  model: readonly E820Entry[],
): Difference[] {
  const named = model.map(({ start, end, type }) => ({
    start,
    end,
    type: TYPE_NAMES.get(type) ?? `type ${type}`,
  }))
  return compareRanges(subject, observed, named)
}

/** Ranges are matched by where they begin. */
export function compareRanges(
  subject: Subject,
  observed: readonly NamedRange[],
  model: readonly NamedRange[],
): Difference[] {
  return differing(observed, model, ({ start }) => BigInt(start), describeRange).map((pair) => {
    const { start, end } = pair.observed ?? pair.model!
    return differenceOf(subject, pair, describeRange, (range) => range.start, end - start)
  })
}

function describeRange({ start, end, type = '' }: NamedRange): string {
  return `${type} ${formatAddress(start)} to ${formatAddress(end)}`.trimStart()
}

/** Descriptors are matched by where they begin, and where a map is `inOrder`, they follow one another as in the model's. */
export function compareMaps(
  subject: Subject,
  observed: readonly MemoryDescriptor[],
  model: readonly MemoryDescriptor[],
  { inOrder }: { readonly inOrder: boolean },
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
