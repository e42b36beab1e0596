import { PAGE_SIZE } from '@trapdoor/core'
import {
  descriptorEnd,
  EDK2_DESCRIPTOR_STRIDE,
  encodeMemoryAttributesTable,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'
import { IMAGE_PAGES } from '../layout/image-layout.ts'

/** A memory attributes table and the physical address where it goes. */
export interface MemoryAttributesPlace {
  readonly address: number
  readonly entries: readonly MemoryDescriptor[]
}

/** Room for entries that quirks add, in bytes. */
const SPARE = PAGE_SIZE

/** The table that says which pages of runtime memory hold code, and that all the others are not to be executed. `allocate` gives its memory. */
export function describeSections(
  map: readonly MemoryDescriptor[],
  codePages: ReadonlySet<number>,
  allocate: (bytes: number, purpose: string) => number,
): MemoryAttributesPlace {
  const entries = map
    .filter((region) => isRuntime(region) && isRuntimeMemory(region))
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
    .flatMap((region) => sectionsOf(region, codePages))
  const bytes = encodeMemoryAttributes(entries).length
  return { address: allocate(bytes + SPARE, 'the memory attributes table'), entries }
}

/** The table as bytes, of version 1. */
export function encodeMemoryAttributes(entries: readonly MemoryDescriptor[]): Uint8Array {
  return encodeMemoryAttributesTable({
    version: 1,
    descriptorSize: EDK2_DESCRIPTOR_STRIDE,
    flags: 0,
    entries,
  })
}

/**
 * Where images fit into what a captured table says: their first page is the last of some code, and the rest is the data behind it. Physical addresses, ascending. Throws
 * FIRMWARE_NO_ROOM where there are fewer than `count` places.
 */
export function imagePlaces(entries: readonly MemoryDescriptor[], count: number): number[] {
  const places = entries
    .filter(
      (entry) =>
        has(entry, MemoryAttribute.RO) &&
        !has(entry, MemoryAttribute.XP) &&
        entries.some(
          (next) =>
            next.physicalStart === descriptorEnd(entry) &&
            next.numberOfPages >= IMAGE_PAGES - 1 &&
            !has(next, MemoryAttribute.RO),
        ),
    )
    .map((entry) => descriptorEnd(entry) - PAGE_SIZE)
  if (places.length >= count) return places.slice(0, count)
  throw new FirmwareError('FIRMWARE_NO_ROOM', {
    expected: `a memory attributes table with ${count} pieces of code that data follows`,
    found: `${places.length} in ${entries.length} entries`,
  })
}

function has({ attribute }: MemoryDescriptor, bits: bigint): boolean {
  return (attribute & bits) !== 0n
}

function isRuntimeMemory({ type }: MemoryDescriptor): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

/** A region cut where code begins and ends. */
function sectionsOf(region: MemoryDescriptor, codePages: ReadonlySet<number>): MemoryDescriptor[] {
  const first = region.physicalStart / PAGE_SIZE
  const end = first + region.numberOfPages
  const inside = [...codePages].filter((frame) => frame >= first && frame < end)
  const cuts = [...new Set([first, ...inside.flatMap((frame) => [frame, frame + 1]), end])]
  cuts.sort((a, b) => a - b)
  return cuts.slice(0, -1).flatMap((start, index) => {
    const isCode = codePages.has(start)
    const isRest = index > 0 && codePages.has(start - 1) === isCode
    if (isRest) return []
    const stop = cuts.slice(index + 1).find((cut) => cut === end || codePages.has(cut) !== isCode)!
    return [
      {
        type: region.type,
        physicalStart: start * PAGE_SIZE,
        virtualStart: 0n,
        numberOfPages: stop - start,
        attribute: MemoryAttribute.RUNTIME | (isCode ? MemoryAttribute.RO : MemoryAttribute.XP),
      },
    ]
  })
}
