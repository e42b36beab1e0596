import { BOTH, stateProduct } from '../trial/control-product.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

const DATA = 0x200_0000

/** SMAP with AC, explicit and implicit accesses, over the flags of PTE and PDE; an access may follow a read that left a TLB entry. */
export const SMAP_SET: ConformanceSet = stateSet({
  name: 'smap',
  title: 'SMAP, AC, SMEP, WP, NXE × 8 accesses, implicit ones too × PTE, PDE flags × twice',
  groups: () =>
    (['4-level', '5-level'] as const).map((structure) =>
      stateProduct(
        { ...PLAIN_STATE, structure, accessedFlags: structure === '4-level' ? 'eager' : 'lazy' },
        { smap: BOTH, ac: BOTH, smep: BOTH, wp: BOTH, nxe: BOTH },
      ),
    ),
  combinations(trial: Trial, size: Size): void {
    trial.select(0, 0x40_0000)
    const { structures } = trial
    const pde = structures.depths - 2
    const path = new Path()
    for (let depth = 0; depth < pde; depth++)
      path.set(depth, structures.tableLow(depth) | 7, structures.tableHigh(depth))
    // PTE: P, R/W, U/S, A, D, XD in bits 0 to 5; PDE: R/W, U/S, XD, PS in bits 6 to 9.
    for (let flags = 0; flags < 1024; flags += size === 'full' ? 1 : 3) {
      const bit = (position: number, value: number): number => ((flags >>> position) & 1) * value
      const large = bit(9, 1) === 1
      path.set(
        pde,
        (large ? DATA | 0x80 : structures.tableLow(pde)) | 1 | bit(6, 2) | bit(7, 4),
        (large ? 0 : structures.tableHigh(pde)) | bit(8, 1 << 31),
      )
      path.set(
        pde + 1,
        DATA | bit(0, 1) | bit(1, 2) | bit(2, 4) | bit(3, 0x20) | bit(4, 0x40),
        bit(5, 1 << 31),
      )
      for (const access of ACCESSES) for (const twice of BOTH) trial.check(path, access, twice)
    }
  },
})
