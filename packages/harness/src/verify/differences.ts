import { formatAddress, PAGE_SIZE } from '@trapdoor/core'
import type { ObservedKernel, ObservedLeaf } from '@trapdoor/intake'
import { formatMemoryAttribute, type MemoryDescriptor, memoryTypeName } from '@trapdoor/uefi'
import type { ReplayedKernel } from './replay.ts'

/** Where model and machine do not agree. */
export interface Difference {
  readonly subject: 'runtime map' | 'EFI page tables' | 'ending'
  /** What the kernel did on the observed machine. */
  readonly observed: string
  /** What the model's did. */
  readonly model: string
  /** Physical address of the first byte in question, on either side, where there is one. */
  readonly observedAt?: number | undefined
  readonly modelAt?: number | undefined
  /** Bytes in question. */
  readonly bytes?: number
}

/** Everything in which a kernel of the model differs from the one that was observed. What nobody looked at there is not compared. */
export function compareKernels(observed: ObservedKernel, model: ReplayedKernel): Difference[] {
  return [
    ...compareEndings(observed, model),
    ...(observed.runtimeMap === undefined
      ? []
      : compareMaps(observed.runtimeMap, model.runtimeMap ?? [])),
    ...(observed.leaves === undefined ? [] : compareLeaves(observed.leaves, model.leaves ?? [])),
  ]
}

function compareEndings({ ending }: ObservedKernel, model: ReplayedKernel): Difference[] {
  const seen = describeEnding(ending)
  const made = describeEnding(model)
  if (seen === made) return []
  const why = model.panic === undefined ? '' : `: ${model.panic}`
  return [{ subject: 'ending', observed: seen, model: `${made}${why}` }]
}

function describeEnding(ending: {
  readonly panic: string | undefined
  readonly runtimeServices: boolean
}): string {
  if (ending.panic !== undefined) return 'the kernel panics'
  return ending.runtimeServices ? 'runtime services on' : 'no runtime services'
}

/** Descriptors are matched by where they begin; their order is user space's after kexec, and not compared. */
function compareMaps(
  observed: readonly MemoryDescriptor[],
  model: readonly MemoryDescriptor[],
): Difference[] {
  const pairs = differing(
    observed,
    model,
    ({ physicalStart }) => BigInt(physicalStart),
    describeDescriptor,
  )
  return pairs.map((pair) =>
    differenceOf(
      'runtime map',
      pair,
      describeDescriptor,
      ({ physicalStart }) => physicalStart,
      (pair.observed ?? pair.model)!.numberOfPages * PAGE_SIZE,
    ),
  )
}

/** Leaves that follow one another and differ alike are one difference. */
function compareLeaves(
  observed: readonly ObservedLeaf[],
  model: readonly ObservedLeaf[],
): Difference[] {
  const runs: (Pair<ObservedLeaf> & { count: number })[] = []
  const pairs = differing(observed, model, ({ address }) => address, describeLeaf)
  for (const pair of pairs) {
    const last = runs.at(-1)
    if (
      last !== undefined &&
      follows(last.observed, pair.observed, last.count) &&
      follows(last.model, pair.model, last.count)
    ) {
      last.count++
    } else {
      runs.push({ ...pair, count: 1 })
    }
  }
  return runs.map(({ count, ...first }) =>
    differenceOf(
      'EFI page tables',
      first,
      (leaf) => `${count} × ${describeLeaf(leaf)}`,
      ({ physical }) => physical,
      count * (first.observed ?? first.model)!.pageSize,
    ),
  )
}

interface Pair<Item> {
  readonly observed: Item | undefined
  readonly model: Item | undefined
}

function differenceOf<Item>(
  subject: Difference['subject'],
  { observed, model }: Pair<Item>,
  describe: (item: Item) => string,
  physicalOf: (item: Item) => number,
  bytes: number,
): Difference {
  return {
    subject,
    observed: observed === undefined ? 'nothing' : describe(observed),
    model: model === undefined ? 'nothing' : describe(model),
    observedAt: observed === undefined ? undefined : physicalOf(observed),
    modelAt: model === undefined ? undefined : physicalOf(model),
    bytes,
  }
}

/** What has no equal on the other side, paired by key, in ascending order. */
function differing<Item>(
  observed: readonly Item[],
  model: readonly Item[],
  keyOf: (item: Item) => bigint,
  describe: (item: Item) => string,
): Pair<Item>[] {
  const seen = new Map(observed.map((item) => [keyOf(item), item]))
  const made = new Map(model.map((item) => [keyOf(item), item]))
  return [...new Set([...seen.keys(), ...made.keys()])]
    .toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    .map((key) => ({ observed: seen.get(key), model: made.get(key) }))
    .filter(
      (pair) =>
        pair.observed === undefined ||
        pair.model === undefined ||
        describe(pair.observed) !== describe(pair.model),
    )
}

function follows(
  first: ObservedLeaf | undefined,
  next: ObservedLeaf | undefined,
  count: number,
): boolean {
  if (first === undefined || next === undefined) return first === next
  return (
    next.address === first.address + BigInt(count * first.pageSize) &&
    next.physical === first.physical + count * first.pageSize &&
    rightsOf(next) === rightsOf(first)
  )
}

function describeDescriptor(descriptor: MemoryDescriptor): string {
  const { type, physicalStart, virtualStart, numberOfPages, attribute } = descriptor
  return `${memoryTypeName(type)} ${formatAddress(physicalStart)} at ${formatAddress(virtualStart)}, ${numberOfPages} pages, ${formatMemoryAttribute(attribute)}`
}

function describeLeaf(leaf: ObservedLeaf): string {
  return `${rightsOf(leaf)} at ${formatAddress(leaf.address)} to ${formatAddress(leaf.physical)}`
}

/** Size and flags, as in "4K rw-". */
function rightsOf({ pageSize, writable, executable, user, cacheDisable }: ObservedLeaf): string {
  const size = pageSize === PAGE_SIZE ? '4K' : pageSize === 2 ** 21 ? '2M' : '1G'
  const flags = `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`
  return `${size} ${flags}${user ? ' user' : ''}${cacheDisable ? ' uncached' : ''}`
}
