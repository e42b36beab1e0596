import { BOTH, stateProduct } from '../trial/control-product.ts'
import { AccessBit } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { PagingStructures } from '../trial/paging-structures.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

const WIDTHS: readonly number[] = Array.from({ length: 17 }, (_, index) => 36 + index)
const ACCESSES = [0, AccessBit.User | AccessBit.Write, AccessBit.Fetch]
const BITS: readonly number[] = Array.from({ length: 64 }, (_, bit) => bit)

/** How many sizes of page each structure has, and the frames of their leaves: multiples of the largest page. */
const PAGE_SIZES: Readonly<Record<RegisterState['structure'], number>> = {
  '32-bit': 2,
  PAE: 2,
  '4-level': 3,
  '5-level': 3,
}
const LEAF_LOW = 0x4000_0000

function groups(size: Size): RegisterState[][] {
  const widths = size === 'full' ? WIDTHS : [36, 37, 39, 40, 41, 46, 51, 52]
  return widths.flatMap((physicalAddressBits) => {
    const base = { ...PLAIN_STATE, physicalAddressBits }
    const policy = { accessedFlags: ['lazy', 'eager'] as const }
    const models = [
      ...stateProduct(base, {
        structure: ['4-level', '5-level'],
        pages1G: BOTH,
        amdGlobalBit: BOTH,
        ...policy,
      }),
      ...stateProduct(base, { structure: ['PAE'], ...policy }),
      ...stateProduct(base, { structure: ['32-bit'], pse36: BOTH, ...policy }),
    ]
    return models.map((model) =>
      stateProduct(model, {
        nxe: BOTH,
        ...(model.structure === '32-bit' ? { pse: BOTH } : {}),
      }),
    )
  })
}

/** Entries that map a page at `leaf` with all rights. */
function plainPath(structures: PagingStructures, path: Path, leaf: number, pae: boolean): void {
  for (let depth = 0; depth < structures.depths; depth++) {
    if (depth < leaf) {
      const flags = pae && depth === 0 ? 1 : 7
      path.set(depth, structures.tableLow(depth) | flags, structures.tableHigh(depth))
    } else if (depth === leaf)
      path.set(depth, LEAF_LOW | 7 | (leaf < structures.depths - 1 ? 0x80 : 0), 0)
    else path.set(depth, 0, 0)
  }
}

/** Whether a change of the bit leads the walk to another table. */
function movesTable(bit: number, state: RegisterState): boolean {
  const top = state.structure === '32-bit' ? 32 : state.physicalAddressBits
  return bit >= 12 && bit < top
}

/** Each of the 64 bits of each entry, turned over, on processors of each width: address, reserved, ignored, or a flag. */
export const MAXPHYADDR_SET: ConformanceSet = stateSet({
  name: 'maxphyaddr',
  title:
    'MAXPHYADDR 36-52 × 4 structures × model × NXE, PSE × page sizes × each bit of each entry × access',
  groups,
  combinations(trial: Trial): void {
    const { state } = trial.processor
    const { structures } = trial
    const pae = state.structure === 'PAE'
    const wide = state.structure === '4-level' || state.structure === '5-level'
    trial.select(wide ? 0xffff_8765 | 0 : 0, 0x4321_0000)
    const path = new Path()
    for (let pageSize = 0; pageSize < PAGE_SIZES[state.structure]; pageSize++) {
      const leaf = structures.depths - 1 - pageSize
      for (let turned = 0; turned <= leaf; turned++)
        for (const bit of BITS.slice(0, state.structure === '32-bit' ? 32 : 64)) {
          // In PAE paging a PDPTE with a reserved bit cannot be loaded; that is another set.
          const entry = new Path()
          plainPath(structures, path, leaf, pae)
          entry.copy(path)
          if (bit < 32) entry.low[turned] = entry.low[turned]! ^ (1 << bit)
          else entry.high[turned] = entry.high[turned]! ^ (1 << (bit - 32))
          if (pae && turned === 0 && isPdpteReserved(bit, state.physicalAddressBits)) continue
          if (turned < leaf && movesTable(bit, state))
            for (let depth = turned + 1; depth < structures.depths; depth++) entry.set(depth, 0, 0)
          for (const access of ACCESSES) trial.check(entry, access)
        }
    }
  },
})

/** SDM Vol. 3, table 4-8. */
function isPdpteReserved(bit: number, physicalAddressBits: number): boolean {
  return bit === 1 || bit === 2 || (bit >= 5 && bit <= 8) || bit >= physicalAddressBits
}
