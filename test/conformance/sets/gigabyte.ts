import { BOTH, stateProduct } from '../trial/control-product.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

/** One more bit of the PDPTE: none, PAT or an address bit, reserved address bits of 1 GiB pages, the first and last bit above M, an ignored one. */
const MORE_BITS: readonly (readonly [number, number])[] = [
  [0, 0],
  [1 << 12, 0],
  [1 << 13, 0],
  [1 << 21, 0],
  [1 << 29, 0],
  [1 << 8, 0],
  [0, 1 << 14],
  [0, 1 << 19],
  [0, 1 << 20],
]

/** 1 GiB pages, on processors that have them and that do not. */
export const GIGABYTE_SET: ConformanceSet = stateSet({
  name: 'gigabyte',
  title:
    '1 GiB pages: PDPTE flags, one more bit, PDE below × 8 accesses × model, WP, NXE, SMEP, SMAP',
  groups: () =>
    (['4-level', '5-level'] as const).flatMap((structure) =>
      BOTH.flatMap((pages1G) =>
        (['lazy', 'eager'] as const).map((accessedFlags) =>
          stateProduct(
            { ...PLAIN_STATE, structure, pages1G, accessedFlags },
            { wp: BOTH, nxe: BOTH, smep: BOTH, smap: BOTH },
          ),
        ),
      ),
    ),
  combinations(trial: Trial, size: Size): void {
    trial.select(0xffff_c5a5 | 0, 0xa5a5_a000 | 0)
    const { structures } = trial
    const pdpte = structures.depths - 3
    const path = new Path()
    for (let depth = 0; depth < pdpte; depth++)
      path.set(depth, structures.tableLow(depth) | 7, structures.tableHigh(depth))
    const stride = size === 'full' ? 1 : 5
    let turn = 0
    for (const [moreLow, moreHigh] of MORE_BITS)
      // P, R/W, U/S, A, D, PS, XD.
      for (let flags = 0; flags < 128; flags++) {
        if (turn++ % stride !== 0) continue
        const bit = (position: number, value: number): number => ((flags >>> position) & 1) * value
        const large = bit(5, 1) === 1
        const low = bit(0, 1) | bit(1, 2) | bit(2, 4) | bit(3, 0x20) | bit(4, 0x40) | bit(5, 0x80)
        path.set(
          pdpte,
          (large ? 0xc000_0000 : structures.tableLow(pdpte)) | low | moreLow,
          (large ? 0 : structures.tableHigh(pdpte)) | bit(6, 1 << 31) | moreHigh,
        )
        // A pointer that an address bit leads astray ends in an empty table.
        const astray = !large && moreLow !== 0 && moreLow !== 1 << 8
        path.set(pdpte + 1, astray ? 0 : 0x20_0000 | 0x87, 0)
        for (const access of ACCESSES) trial.check(path, access)
      }
  },
})
