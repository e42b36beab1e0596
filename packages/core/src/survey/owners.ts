import type { VirtualAddress } from '../address.ts'
import type { FrameOwner } from '../memory/owner-map.ts'
import { Entry, entryFrame } from '../paging/entry.ts'
import { linearAddress } from '../paging/linear-page.ts'
import type { PagingLevel } from '../paging/mode.ts'
import { leafBit } from '../tables/leaf.ts'
import type { TableRoot } from './diff.ts'

/** An entry that leads to a table. */
export interface TableReference {
  /** Physical address in bytes of the table that it is in. */
  readonly table: number
  readonly index: number
}

/** A frame as a table of one level. One that serves at several levels, as in a recursive mapping, is listed once for each. */
export interface TableOwner {
  /** Physical address in bytes. */
  readonly table: number
  /** Index into the mode's levels, and the SDM's name of the entries in it. */
  readonly depth: number
  readonly entry: PagingLevel['entry']
  /** The linear addresses that are translated through it, in the order in which the tables lead to it. */
  readonly ranges: readonly { readonly start: VirtualAddress; readonly bytes: number }[]
  /** The entries that lead to it, each once; none to the root. */
  readonly references: readonly TableReference[]
  /** Whose the frame is, as the memory's owner map says. */
  readonly owner: FrameOwner | undefined
}

/** Every table under a root, the root first, each before those that it leads to. */
export function tableOwners({ memory, mode, root }: TableRoot): TableOwner[] {
  const owners = new Map<string, TableUse>()
  if (mode.levels.length > 0) visit(Math.floor(root / 4096), root % 4096, 0, 0, undefined)
  return [...owners.values()].map(({ table, depth, entry, ranges, references, owner }) => ({
    table,
    depth,
    entry,
    ranges,
    references: [...references.values()],
    owner,
  }))

  function visit(
    frame: number,
    offset: number,
    depth: number,
    firstPage: number,
    reference: TableReference | undefined,
  ): void {
    const level = mode.levels[depth]!
    const count = 1 << level.indexBits
    const key = `${depth} ${frame}`
    const use = owners.get(key) ?? {
      table: frame * 4096 + offset,
      depth,
      entry: level.entry,
      ranges: [],
      references: new Map<string, TableReference>(),
      owner: memory.owners.get(frame),
    }
    owners.set(key, use)
    const bytes = count * level.frames * 4096
    use.ranges.push({ start: linearAddress(mode, firstPage), bytes })
    if (reference !== undefined)
      use.references.set(`${reference.table} ${reference.index}`, reference)
    const words = memory.locate(frame)
    const base = memory.base + offset / 4
    const entryWords = mode.entryBytes / 4
    for (let index = 0; index < count; index++) {
      const low = words[base + index * entryWords]!
      if ((low & Entry.Present) === 0 || (low & leafBit(level)) !== 0) continue
      const high = entryWords === 2 ? words[base + index * 2 + 1]! : 0
      const page = firstPage + index * level.frames
      visit(entryFrame(low, high), 0, depth + 1, page, { table: use.table, index })
    }
  }
}

interface TableUse extends Omit<TableOwner, 'ranges' | 'references'> {
  readonly ranges: { readonly start: VirtualAddress; readonly bytes: number }[]
  readonly references: Map<string, TableReference>
}
