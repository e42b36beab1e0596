import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

const PAGE = 4096
const WORD = 8

/** The runtime regions of a snapshot that are memory. */
export function runtimeRegions({ memoryMap }: FirmwareSnapshot): MemoryDescriptor[] {
  return memoryMap.filter((each) => isRuntime(each) && each.type !== MemoryType.MemoryMappedIO)
}

/** Addresses of the words of eight bytes in runtime memory that two snapshots of the same map do not have in common. */
export function changedWords(left: FirmwareSnapshot, right: FirmwareSnapshot): number[] {
  const [mine, theirs] = [pagesOf(left), pagesOf(right)]
  return runtimeRegions(left).flatMap(({ physicalStart, numberOfPages }) =>
    Array.from({ length: numberOfPages }, (_, index) => physicalStart + index * PAGE).flatMap(
      (page) => changedInPage(page, mine.get(page), theirs.get(page)),
    ),
  )
}

function changedInPage(
  page: number,
  left: Uint8Array | undefined,
  right: Uint8Array | undefined,
): number[] {
  const changed = new Set<number>()
  for (let at = 0; at < PAGE; at++) {
    if ((left?.[at] ?? 0) !== (right?.[at] ?? 0)) changed.add(page + at - (at % WORD))
  }
  return [...changed]
}

function pagesOf({ pages }: FirmwareSnapshot): Map<number, Uint8Array> {
  return new Map(
    pages.flatMap(({ address, bytes }) =>
      Array.from({ length: bytes.length / PAGE }, (_, index) => [
        address + index * PAGE,
        bytes.subarray(index * PAGE, (index + 1) * PAGE),
      ]),
    ),
  )
}
