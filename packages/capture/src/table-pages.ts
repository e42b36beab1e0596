import { PAGE_SIZE, type PagingMode, type PhysicalMemory, tableOwners } from '@trapdoor/core'
import type { TablePage } from '@trapdoor/snapshot'

/** Every page that holds a table under a root, in the order of addresses. */
export function tablePages(memory: PhysicalMemory, mode: PagingMode, root: number): TablePage[] {
  return tableOwners({ memory, mode, root })
    .map(({ table, depth, ranges }) => {
      const address = table - (table % PAGE_SIZE)
      return {
        address,
        level: mode.levels.length - depth,
        linear: BigInt(ranges[0]!.start),
        bytes: memory.read(address, PAGE_SIZE),
      }
    })
    .toSorted((left, right) => left.address - right.address)
}
