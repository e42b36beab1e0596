import { PAGE_SIZE } from '@trapdoor/core'
import {
  descriptorEnd,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  mergeE820,
} from '@trapdoor/uefi'

/** e820 types (arch/x86/include/asm/e820.h). */
export const E820Type = { RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4, UNUSABLE: 5 } as const
export type E820Type = (typeof E820Type)[keyof typeof E820Type]

/** A range of physical bytes; `end` is exclusive. */
export interface E820Entry {
  readonly start: number
  readonly end: number
  readonly type: E820Type
}

/** Entries that the zero page has room for (E820MAX of the boot protocol). */
export const E820_MAX = 128

/**
 * The e820 type of an EFI memory type, as boot loaders and do_add_efi_memmap() (arch/x86/kernel/efi.c, 2.6.35) choose it: loader, boot-services and
 * conventional memory is RAM where it can be cached.
 */
export function e820TypeOf(descriptor: MemoryDescriptor): E820Type {
  switch (descriptor.type) {
    case MemoryType.LoaderCode:
    case MemoryType.LoaderData:
    case MemoryType.BootServicesCode:
    case MemoryType.BootServicesData:
    case MemoryType.ConventionalMemory:
      return (descriptor.attribute & MemoryAttribute.WB) !== 0n ? E820Type.RAM : E820Type.RESERVED
    case MemoryType.ACPIReclaimMemory:
      return E820Type.ACPI
    case MemoryType.ACPIMemoryNVS:
      return E820Type.NVS
    case MemoryType.UnusableMemory:
      return E820Type.UNUSABLE
    default:
      return E820Type.RESERVED
  }
}

/** The e820 map of an EFI memory map: sorted, without overlaps, neighbours of one type merged. Where entries overlap the higher type wins, as in sanitize_e820_map(). */
export function e820FromEfi(descriptors: readonly MemoryDescriptor[]): E820Entry[] {
  return sanitizeE820(
    descriptors
      .filter((descriptor) => descriptorEnd(descriptor) > descriptor.physicalStart)
      .map((descriptor) => ({
        start: descriptor.physicalStart,
        end: descriptorEnd(descriptor),
        type: e820TypeOf(descriptor),
      })),
  )
}

/** Sorts and merges entries; of entries that overlap, the one with the higher type has the bytes (sanitize_e820_map()). */
export function sanitizeE820(entries: readonly E820Entry[]): E820Entry[] {
  const edges = [...new Set(entries.flatMap((entry) => [entry.start, entry.end]))].toSorted(
    (a, b) => a - b,
  )
  const sorted = entries.toSorted((a, b) => a.start - b.start)
  const merged: E820Entry[] = []
  const live: E820Entry[] = []
  let next = 0
  for (const [index, start] of edges.entries()) {
    const end = edges[index + 1]
    if (end === undefined) break
    while (next < sorted.length && sorted[next]!.start <= start) live.push(sorted[next++]!)
    let type: number = 0
    for (let at = live.length - 1; at >= 0; at--) {
      if (live[at]!.end <= start) live.splice(at, 1)
      else type = Math.max(type, live[at]!.type)
    }
    if (type === 0) continue
    const last = merged.at(-1)
    if (last !== undefined && last.end === start && last.type === type) {
      merged[merged.length - 1] = { ...last, end }
    } else {
      merged.push({ start, end, type: type as E820Type })
    }
  }
  return merged
}

/** Gives the bytes from `start` up to `end` another type where they have type `from` (e820_update_range()). `entries` are sanitized. */
export function updateE820(
  entries: readonly E820Entry[],
  start: number,
  end: number,
  from: E820Type,
  to: E820Type,
): E820Entry[] {
  const pieces: E820Entry[] = []
  for (const entry of entries) {
    const overlapStart = Math.max(entry.start, start)
    const overlapEnd = Math.min(entry.end, end)
    if (entry.type !== from || overlapEnd <= overlapStart) {
      pieces.push(entry)
      continue
    }
    if (entry.start < overlapStart) pieces.push({ ...entry, end: overlapStart })
    pieces.push({ start: overlapStart, end: overlapEnd, type: to })
    if (overlapEnd < entry.end) pieces.push({ ...entry, start: overlapEnd })
  }
  return mergeE820(pieces)
}

/** Takes the bytes from `start` up to `end` out of the map where they have type `type` (e820__range_remove()). `entries` are sanitized. */
export function removeE820(
  entries: readonly E820Entry[],
  start: number,
  end: number,
  type: E820Type,
): E820Entry[] {
  return entries.flatMap((entry) => {
    if (entry.type !== type || entry.end <= start || end <= entry.start) return [entry]
    return [
      { ...entry, end: Math.min(entry.end, start) },
      { ...entry, start: Math.max(entry.start, end) },
    ].filter((piece) => piece.start < piece.end)
  })
}

/** A range of RAM in whole pages, in bytes; `end` is exclusive. */
export interface RamRange {
  readonly start: number
  readonly end: number
}

/** Ranges of maps that were asked for before: a kernel asks for the same again and again. */
const RAM: WeakMap<readonly E820Entry[], readonly RamRange[]> = new WeakMap()

/** RAM in whole pages, in ascending order. `entries` are not to be changed afterwards. */
export function ramRanges(entries: readonly E820Entry[]): readonly RamRange[] {
  let ranges = RAM.get(entries)
  if (ranges === undefined) {
    ranges = entries
      .filter((entry) => entry.type === E820Type.RAM)
      .map((entry) => ({
        start: Math.ceil(entry.start / PAGE_SIZE) * PAGE_SIZE,
        end: Math.floor(entry.end / PAGE_SIZE) * PAGE_SIZE,
      }))
      .filter((range) => range.end > range.start)
    RAM.set(entries, ranges)
  }
  return ranges
}

/** One more than the last RAM byte below `limit` (e820_end_pfn(), in bytes). */
export function endOfRam(entries: readonly E820Entry[], limit: number = Infinity): number {
  let end = 0
  for (const range of ramRanges(entries)) {
    if (range.start >= limit) continue
    end = Math.max(end, Math.min(range.end, limit))
  }
  return end
}
