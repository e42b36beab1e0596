import {
  type Cpu,
  mappedRanges,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  type PageTableBuilder,
  phys,
} from '@trapdoor/core'
import { kernelAddress } from '../../memory/layout.ts'

/** What kernel_map_pages_in_pgd() is asked for beside the addresses. */
export interface PageRights {
  readonly writable: boolean
  readonly executable: boolean
  readonly cacheDisable: boolean
}

/**
 * kernel_map_pages_in_pgd() (arch/x86/mm/pageattr.c): what is not mapped yet is, with the largest pages; of what is mapped already the rights change, and nothing else. Addresses
 * and sizes in bytes.
 */
export function kernelMapPagesInPgd(
  cpu: Cpu,
  tables: PageTableBuilder,
  range: { readonly virtual: bigint; readonly physical: number; readonly bytes: number },
  rights: PageRights,
): void {
  const largestPage = cpu.machine.features.pages1G ? PAGE_SIZE_1G : PAGE_SIZE_2M
  const options = { ...rights, largestPage }
  const { virtual, physical, bytes } = range
  // Nearly always nothing is there yet.
  if (tables.tryMapRange(kernelAddress(virtual), phys(physical), bytes, options).ok) return
  const end = virtual + BigInt(bytes)
  const mapHole = (from: bigint, to: bigint): void => {
    if (to <= from) return
    const offset = Number(from - virtual)
    tables.mapRange(kernelAddress(from), phys(physical + offset), Number(to - from), options)
  }
  let next = virtual
  for (const mapped of presentRanges(cpu, tables, virtual, end)) {
    mapHole(next, mapped.start)
    next = mapped.end
    if (!mapped.isAlike(rights)) changeRights(tables, mapped, rights)
  }
  mapHole(next, end)
}

interface PresentRange {
  readonly start: bigint
  readonly end: bigint
  isAlike(rights: PageRights): boolean
}

/** What is mapped from `start` up to `end`, cut to these. */
function presentRanges(
  cpu: Cpu,
  tables: PageTableBuilder,
  start: bigint,
  end: bigint,
): PresentRange[] {
  const context = { ...cpu.translationContext(tables.root), mode: tables.mode }
  const { ranges } = mappedRanges(context, { start, end })
  return ranges
    .map((each) => ({
      each,
      from: BigInt(each.start),
      to: BigInt(each.start) + BigInt(each.bytes),
    }))
    .map(({ each, from, to }) => ({
      start: from > start ? from : start,
      end: to < end ? to : end,
      isAlike: (rights) =>
        each.writable === rights.writable &&
        each.executable === rights.executable &&
        (each.patIndex !== 0) === rights.cacheDisable,
    }))
}

function changeRights(
  tables: PageTableBuilder,
  { start, end }: PresentRange,
  { writable, executable, cacheDisable }: PageRights,
): void {
  tables.protectMapped(kernelAddress(start), Number(end - start), {
    writable,
    executable,
    ...(cacheDisable ? { cacheDisable } : {}),
  })
}
