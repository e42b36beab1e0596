import type { MappedRange } from '@trapdoor/core'

/** What one side has mapped somewhere. */
interface Mapping {
  /** Physical address of the first byte. */
  readonly physical: number
  /** `RW X G`, as {@link formatRights} writes them. */
  readonly rights: string
}

/** Linear addresses that sets of page tables treat differently. */
export interface RangeDifference {
  readonly start: bigint
  readonly bytes: number
  /** What each set maps there, in their order; undefined where it maps nothing. */
  readonly mappings: readonly (Mapping | undefined)[]
}

/** `RW- US X G`: what a page may be used for. */
export function formatRights(range: MappedRange): string {
  return [
    range.writable ? 'RW' : 'RO',
    range.executable ? 'X' : 'NX',
    ...(range.user ? ['US'] : []),
    ...(range.global ? ['G'] : []),
  ].join(' ')
}

/** Where sets of page tables differ, in ascending order; page sizes do not count. The lists ascend. */
export function compareRanges(sets: readonly (readonly MappedRange[])[]): RangeDifference[] {
  const edges = sets.flat().flatMap(({ start, bytes }) => [start, start + BigInt(bytes)])
  const sorted = [...new Set<bigint>(edges)].toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const differences: RangeDifference[] = []
  const lookUps = sets.map(cursor)
  for (const [index, start] of sorted.entries()) {
    const end = sorted[index + 1]
    if (end === undefined) break
    const mappings = lookUps.map((lookUp) => lookUp(start))
    if (mappings.every((mapping) => isSame(mapping, mappings[0]))) continue
    const difference = { start, bytes: Number(end - start), mappings }
    const last = differences.at(-1)
    if (last !== undefined && continues(last, difference)) {
      differences[differences.length - 1] = { ...last, bytes: last.bytes + difference.bytes }
    } else differences.push(difference)
  }
  return differences
}

/** Looks mappings up at ascending addresses. */
function cursor(ranges: readonly MappedRange[]): (address: bigint) => Mapping | undefined {
  let index = 0
  return (address) => {
    while (
      index < ranges.length &&
      ranges[index]!.start + BigInt(ranges[index]!.bytes) <= address
    ) {
      index++
    }
    const range = ranges[index]
    if (range === undefined || range.start > address) return undefined
    return {
      physical: range.physical + Number(address - range.start),
      rights: formatRights(range),
    }
  }
}

function isSame(one: Mapping | undefined, other: Mapping | undefined): boolean {
  return one?.physical === other?.physical && one?.rights === other?.rights
}

function continues(last: RangeDifference, next: RangeDifference): boolean {
  return (
    last.start + BigInt(last.bytes) === next.start &&
    last.mappings.every((mapping, index) => follows(mapping, next.mappings[index], last.bytes))
  )
}

function follows(last: Mapping | undefined, next: Mapping | undefined, bytes: number): boolean {
  if (last === undefined || next === undefined) return last === next
  return last.rights === next.rights && last.physical + bytes === next.physical
}
