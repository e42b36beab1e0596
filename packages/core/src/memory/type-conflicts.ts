import type { VirtualAddress } from '../address.ts'
import {
  type CachingControls,
  type MemoryKind,
  memoryKindAt,
  type MtrrKind,
  mtrrKind,
} from './memory-type.ts'

/** Pages of one size and PAT index at consecutive linear and physical addresses: what {@link findTypeConflicts} needs of a mapped range. */
export interface CachedRange {
  readonly start: VirtualAddress
  /** Physical address of the first byte. */
  readonly physical: number
  readonly bytes: number
  /** Bytes of each page. */
  readonly pageSize: number
  readonly patIndex: number
}

/** A root that a CPU has, or may have soon, in CR3. */
export interface LiveRoot {
  /** A name that a report can print, such as "kernel" or "EFI runtime". */
  readonly name: string
  /** What it maps, as mappedRanges() tells. */
  readonly ranges: readonly CachedRange[]
  /** What decides memory types on the CPU that uses it. */
  readonly caching: CachingControls
}

/** One of the mappings of a physical range. */
export interface ConflictingMapping {
  /** The name of its root. */
  readonly root: string
  /** Linear address of the first byte; as many bytes as the physical range has follow it. */
  readonly start: VirtualAddress
  /** Bytes of the pages that map it. */
  readonly pageSize: number
  /** The type that the PAT gives. */
  readonly pat: MemoryKind
  /** The type that the MTRRs give. */
  readonly mtrr: MtrrKind
  /** The type that accesses have. */
  readonly effective: MemoryKind
}

/** Physical addresses that are mapped with more than one effective memory type. */
export interface TypeConflict {
  /** Physical address of the first byte. */
  readonly start: number
  /** The first physical address after it. */
  readonly end: number
  /** Every mapping of the range, also those that agree with each other, in the order of the roots and then of linear addresses. */
  readonly mappings: readonly ConflictingMapping[]
}

/** A range together with the numbers of its root and of its root's caching controls. */
interface Source {
  readonly range: CachedRange
  readonly root: number
  readonly caching: number
}

/**
 * Finds every physical page that is mapped with conflicting effective memory types, be it under one root or under several, which the architecture leaves
 * undefined (SDM Vol. 3, 12.12.4). Types that differ in the PAT alone, such as UC and UC- over a UC range, do not conflict. Cost grows with the number of ranges, not
 * of pages. Found ranges ascend, do not overlap, and are as long as their mappings allow.
 */
export function findTypeConflicts(roots: readonly LiveRoot[]): TypeConflict[] {
  const cachings = [...new Set(roots.map(({ caching }) => caching))]
  const sources = roots.flatMap(({ ranges, caching }, root) =>
    ranges.map((range): Source => ({ range, root, caching: cachings.indexOf(caching) })),
  )
  const starts = sources.toSorted((a, b) => a.range.physical - b.range.physical)
  const ends = sources.toSorted((a, b) => endOf(a.range) - endOf(b.range))
  const boundaries = boundariesOf(sources, cachings)
  const active = new ActiveMappings(roots, cachings)
  const conflicts: TypeConflict[] = []
  let nextStart = 0
  let nextEnd = 0
  for (const [index, at] of boundaries.entries()) {
    for (; nextEnd < ends.length && endOf(ends[nextEnd]!.range) <= at; nextEnd++) {
      active.remove(ends[nextEnd]!)
    }
    for (; nextStart < starts.length && starts[nextStart]!.range.physical <= at; nextStart++) {
      active.add(starts[nextStart]!)
    }
    if (!active.hasConflict(at)) continue
    // Something is mapped here, so that a boundary follows: its end.
    append(conflicts, { start: at, end: boundaries[index + 1]!, mappings: active.mappings(at) })
  }
  return conflicts
}

/** Every address at which a mapping begins or ends or an MTRR type may change, ascending. */
function boundariesOf(sources: readonly Source[], cachings: readonly CachingControls[]): number[] {
  const all = new Set<number>()
  for (const { range } of sources) all.add(range.physical).add(endOf(range))
  for (const { mtrrs } of cachings) {
    for (const { start, end } of mtrrs) all.add(start).add(end)
  }
  return [...all].toSorted((a, b) => a - b)
}

/** The mappings of a physical address while it moves up. */
class ActiveMappings {
  readonly #roots: readonly LiveRoot[]
  readonly #cachings: readonly CachingControls[]
  readonly #sources: Set<Source> = new Set()
  /** How many of them each pair of caching controls and PAT index has, so that whether they agree is known without looking at each. */
  readonly #counts: Uint32Array

  constructor(roots: readonly LiveRoot[], cachings: readonly CachingControls[]) {
    this.#roots = roots
    this.#cachings = cachings
    this.#counts = new Uint32Array(cachings.length * 8)
  }

  add(source: Source): void {
    this.#sources.add(source)
    this.#counts[source.caching * 8 + source.range.patIndex]!++
  }

  remove(source: Source): void {
    this.#sources.delete(source)
    this.#counts[source.caching * 8 + source.range.patIndex]!--
  }

  hasConflict(physical: number): boolean {
    if (this.#sources.size < 2) return false
    let first: MemoryKind | undefined
    for (const [index, count] of this.#counts.entries()) {
      if (count === 0) continue
      const kind = memoryKindAt(this.#cachings[index >> 3]!, index & 7, physical)
      first ??= kind
      if (kind !== first) return true
    }
    return false
  }

  mappings(physical: number): ConflictingMapping[] {
    const sorted = [...this.#sources].toSorted(
      (a, b) => a.root - b.root || Number(linearAt(a, physical) - linearAt(b, physical)),
    )
    return sorted.map((source) => {
      const { pageSize, patIndex } = source.range
      const { name, caching } = this.#roots[source.root]!
      return {
        root: name,
        start: linearAt(source, physical),
        pageSize,
        pat: caching.pat[patIndex]!,
        mtrr: mtrrKind(caching.mtrrs, physical),
        effective: memoryKindAt(caching, patIndex, physical),
      }
    })
  }
}

function endOf(range: CachedRange): number {
  return range.physical + range.bytes
}

function linearAt({ range }: Source, physical: number): VirtualAddress {
  return (range.start + BigInt(physical - range.physical)) as VirtualAddress
}

/** Adds a conflict to a list, as part of its last one where all mappings just go on. */
function append(conflicts: TypeConflict[], next: TypeConflict): void {
  const last = conflicts.at(-1)
  if (last !== undefined && continues(last, next)) {
    conflicts[conflicts.length - 1] = { ...last, end: next.end }
  } else {
    conflicts.push(next)
  }
}

function continues(last: TypeConflict, next: TypeConflict): boolean {
  if (last.end !== next.start || last.mappings.length !== next.mappings.length) return false
  const bytes = BigInt(last.end - last.start)
  return last.mappings.every((before, index) => {
    const after = next.mappings[index]!
    return (
      before.root === after.root &&
      before.start + bytes === after.start &&
      before.pageSize === after.pageSize &&
      before.pat === after.pat &&
      before.mtrr === after.mtrr
    )
  })
}
