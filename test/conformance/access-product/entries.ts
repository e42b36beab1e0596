import type { Path } from '../oracle/translation.ts'
import type { PagingStructures } from '../trial/paging-structures.ts'
import { Flag } from './flags.ts'

/** Where access.c maps its page: 32 MiB. */
const DATA = 0x200_0000

/** Bits of the high half of an entry. */
const BIT_36 = 1 << 4
const BIT_51 = 1 << 19
const KEY_1 = 1 << 27
const KEY_2 = 2 << 27
const NO_EXECUTE = 1 << 31

/**
 * Fills `path` with the entries that the flags describe: all rights above the PDPTE, the page directory's entry, and the page table's. Accessed flags above
 * the PDE stay as they are. A PTE that a large page hides is there all the same.
 */
export function fillEntries(path: Path, structures: PagingStructures, flags: number): void {
  const pde = structures.depths - 2
  for (let depth = 0; depth < pde; depth++) {
    const readOnly = depth === pde - 1 && (flags & Flag.PdpteReadOnly) !== 0
    const kept = structures.current.low[depth]! & 0x20
    path.set(
      depth,
      structures.tableLow(depth) | (readOnly ? 5 : 7) | kept,
      structures.tableHigh(depth),
    )
  }
  const large = (flags & Flag.PdePageSize) !== 0
  // The key of an entry that points to a table is ignored, so it gets another one.
  const key = (flags & Flag.KeyOne) === 0 ? 0 : large ? KEY_1 : KEY_2
  path.set(
    pde,
    (large ? DATA | 0x80 : structures.tableLow(pde)) |
      ((flags & Flag.PdePresent) !== 0 ? 1 : 0) |
      ((flags & Flag.PdeWritable) !== 0 ? 2 : 0) |
      ((flags & Flag.PdeUser) !== 0 ? 4 : 0) |
      ((flags & Flag.PdeAccessed) !== 0 ? 0x20 : 0) |
      ((flags & Flag.PdeDirty) !== 0 ? 0x40 : 0) |
      ((flags & Flag.PdeBit13) !== 0 ? 0x2000 : 0),
    (large ? 0 : structures.tableHigh(pde)) |
      key |
      ((flags & Flag.PdeBit36) !== 0 ? BIT_36 : 0) |
      ((flags & Flag.PdeBit51) !== 0 ? BIT_51 : 0) |
      ((flags & Flag.PdeNoExecute) !== 0 ? NO_EXECUTE : 0),
  )
  path.set(
    pde + 1,
    DATA |
      ((flags & Flag.PtePresent) !== 0 ? 1 : 0) |
      ((flags & Flag.PteWritable) !== 0 ? 2 : 0) |
      ((flags & Flag.PteUser) !== 0 ? 4 : 0) |
      ((flags & Flag.PteAccessed) !== 0 ? 0x20 : 0) |
      ((flags & Flag.PteDirty) !== 0 ? 0x40 : 0),
    ((flags & Flag.KeyOne) !== 0 ? KEY_1 : 0) |
      ((flags & Flag.PteBit36) !== 0 ? BIT_36 : 0) |
      ((flags & Flag.PteBit51) !== 0 ? BIT_51 : 0) |
      ((flags & Flag.PteNoExecute) !== 0 ? NO_EXECUTE : 0),
  )
}
