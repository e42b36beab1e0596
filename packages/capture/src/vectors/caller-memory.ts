import {
  FOUR_LEVEL,
  PAE,
  PAGE_SIZE,
  PageTableBuilder,
  PhysicalMemory,
  phys,
  virt,
} from '@trapdoor/core'
import type { TablePage } from '@trapdoor/snapshot'
import { type Architecture, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { CaptureError } from '../error.ts'
import { tablePages } from '../table-pages.ts'

const FOUR_GIBIBYTES = 2 ** 32
/** Arguments in the lower part, the stack at the end. */
export const SCRATCH_PAGES = 32
/** Room for tables: 4 GiB one to one take six, each region a few more. */
const TABLE_PAGES = 512

/** Memory that the caller of runtime services has for itself. Addresses are physical, in bytes. */
export interface CallerMemory {
  readonly scratch: number
  /** Where the tables begin. */
  readonly tables: number
}

/** Takes the end of the largest piece of free memory. Throws CAPTURE_NO_MEMORY. */
export function placeCaller(memoryMap: readonly MemoryDescriptor[]): CallerMemory {
  const needed = SCRATCH_PAGES + TABLE_PAGES
  const [largest] = memoryMap
    .filter(
      ({ type, physicalStart }) =>
        type === MemoryType.ConventionalMemory && physicalStart < FOUR_GIBIBYTES,
    )
    .toSorted((left, right) => right.numberOfPages - left.numberOfPages)
  if (largest === undefined || largest.numberOfPages < needed) {
    throw new CaptureError('CAPTURE_NO_MEMORY', {
      expected: `${needed} free pages in one piece`,
      found: String(largest?.numberOfPages ?? 0),
    })
  }
  const scratch = largest.physicalStart + (largest.numberOfPages - needed) * PAGE_SIZE
  return { scratch, tables: scratch + SCRATCH_PAGES * PAGE_SIZE }
}

/** What firmware hands over with: 4-level paging, or PAE paging. */
const MODES = { x64: FOUR_LEVEL, ia32: PAE } as const

/** Page tables that map 4 GiB one to one, and each region where it has a virtual address, whatever was there; all of it may be written and executed. */
export function buildTables(
  { tables }: CallerMemory,
  regions: readonly MemoryDescriptor[],
  architecture: Architecture['name'],
): { readonly root: number; readonly pages: readonly TablePage[] } {
  const memory = new PhysicalMemory()
  let next = tables / PAGE_SIZE
  const allocate = (): number => {
    memory.clearFrame(next)
    return next++
  }
  const root = allocate() * PAGE_SIZE
  const mode = MODES[architecture]
  const builder = new PageTableBuilder(memory, phys(root), allocate, { mode })
  const rights = { writable: true, executable: true }
  // 2 MiB at the most: not every model of a processor has larger pages.
  const largestPage = 0x20_0000
  builder.mapRange(virt(0), phys(0), FOUR_GIBIBYTES, { ...rights, largestPage })
  for (const { virtualStart, physicalStart, numberOfPages } of regions) {
    if (virtualStart === BigInt(physicalStart)) continue
    const bytes = numberOfPages * PAGE_SIZE
    const options = { ...rights, largestPage, replace: true }
    builder.mapRange(virt(virtualStart), phys(physicalStart), bytes, options)
  }
  if (next > tables / PAGE_SIZE + TABLE_PAGES) {
    throw new CaptureError('CAPTURE_NO_MEMORY', {
      expected: `at most ${TABLE_PAGES} page tables`,
      found: String(next - tables / PAGE_SIZE),
    })
  }
  return { root, pages: tablePages(memory, mode, root) }
}
