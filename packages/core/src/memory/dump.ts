import { formatAddress, PAGE_SIZE } from '../address.ts'
import { CoreError } from '../error.ts'
import type { PhysicalMemory } from './physical-memory.ts'

/** Where a piece of a dump belongs: `pages` pages of 4 KiB from a physical address in bytes. */
export type DumpRun = readonly [physical: number, pages: number]

/**
 * Copies a dump into memory. `runs` says where its pages belong, in the order they have in `bytes`; without it, they belong from address 0 on. A dump too large
 * for one array goes piece by piece: a run for each. Pages of zeros take no space. Throws CORE_MISALIGNED for a run that does not start at a page,
 * CORE_BAD_RANGE where the runs have more or fewer bytes than there are.
 */
export function loadDump(
  memory: PhysicalMemory,
  bytes: Uint8Array,
  runs: readonly DumpRun[] = [[0, bytes.length / PAGE_SIZE]],
): void {
  const expected = runs.reduce((sum, [, pages]) => sum + pages * PAGE_SIZE, 0)
  if (expected !== bytes.length || runs.some(([, pages]) => !Number.isInteger(pages))) {
    throw new CoreError('CORE_BAD_RANGE', {
      expected: `whole pages, ${expected} bytes of them for these runs`,
      found: `${bytes.length} bytes`,
    })
  }
  let offset = 0
  for (const [physical, pages] of runs) {
    if (physical % PAGE_SIZE !== 0) {
      throw new CoreError('CORE_MISALIGNED', {
        expected: 'a run that starts at a page',
        found: formatAddress(physical),
      })
    }
    for (let page = 0; page < pages; page++) {
      loadPage(memory, physical + page * PAGE_SIZE, bytes.subarray(offset, offset + PAGE_SIZE))
      offset += PAGE_SIZE
    }
  }
}

function loadPage(memory: PhysicalMemory, address: number, bytes: Uint8Array): void {
  if (!isZero(bytes)) memory.write(address, bytes)
  else if (!isZero(memory.read(address, PAGE_SIZE))) memory.clearFrame(address / PAGE_SIZE)
}

function isZero(bytes: Uint8Array): boolean {
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] !== 0) return false
  }
  return true
}
