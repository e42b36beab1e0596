import { formatAddress, PAGE_SIZE } from '@trapdoor/core'
import type { ObservedLeaf } from '@trapdoor/intake'
import type { Difference } from './difference.ts'
import { differenceOf, differing, type Pair } from './pairs.ts'
import type { ReplayedLeaf } from './replay.ts'

/** A leaf of either side: of the PAT entry that an observed one selects only PCD is known. */
type Leaf = ObservedLeaf & { readonly patIndex?: number }

/** Leaves that follow one another and differ alike are one difference. */
export function compareLeaves(
  observed: readonly ObservedLeaf[],
  model: readonly ReplayedLeaf[],
): Difference[] {
  const runs: (Pair<Leaf> & { count: number })[] = []
  const pairs = differing<Leaf>(observed, model, ({ address }) => address, describeLeaf)
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

function follows(first: Leaf | undefined, next: Leaf | undefined, count: number): boolean {
  if (first === undefined || next === undefined) return first === next
  return (
    next.address === first.address + BigInt(count * first.pageSize) &&
    next.physical === first.physical + count * first.pageSize &&
    rightsOf(next) === rightsOf(first)
  )
}

function describeLeaf(leaf: Leaf): string {
  return `${rightsOf(leaf)} at ${formatAddress(leaf.address)} to ${formatAddress(leaf.physical)}`
}

/** Size and flags, as in "4K rw-"; of cache bits PCD, and where a leaf has others, the whole number. */
function rightsOf({
  pageSize,
  writable,
  executable,
  user,
  cacheDisable,
  patIndex = 0,
}: Leaf): string {
  const size = pageSize === PAGE_SIZE ? '4K' : pageSize === 2 ** 21 ? '2M' : '1G'
  const flags = `r${writable ? 'w' : '-'}${executable ? 'x' : '-'}`
  const others = (patIndex & ~2) === 0 ? '' : ` PAT entry ${patIndex}`
  return `${size} ${flags}${user ? ' user' : ''}${cacheDisable ? ' uncached' : ''}${others}`
}
