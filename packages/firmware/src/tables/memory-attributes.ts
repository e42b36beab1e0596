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

/** Bytes at the end of a page that the table leaves to others. */
const SPARE = 16

/** What a table says where these pages of runtime memory hold code: that they are not to be written, and that all the others are not to be executed. */
export function describeSections(
  map: readonly MemoryDescriptor[],
  codePages: ReadonlySet<number>,
): MemoryDescriptor[] {
  return map
    .filter((region) => isRuntime(region) && isRuntimeMemory(region))
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
    .flatMap((region) => sectionsOf(region, codePages))
}

/** The table as bytes, of version 1. Throws FIRMWARE_NO_ROOM where it does not fit into its page. */
export function encodeMemoryAttributes(entries: readonly MemoryDescriptor[]): Uint8Array {
  const bytes = encodeMemoryAttributesTable({
    version: 1,
    descriptorSize: EDK2_DESCRIPTOR_STRIDE,
    flags: 0,
    entries,
  })
  if (bytes.length <= PAGE_SIZE - SPARE) return bytes
  throw new FirmwareError('FIRMWARE_NO_ROOM', {
    expected: 'a memory attributes table of one page',
    found: `${entries.length} entries, ${bytes.length} bytes`,
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
