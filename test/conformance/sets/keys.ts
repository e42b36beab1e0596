import { BOTH, stateProduct } from '../trial/control-product.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

/** Register values in which one key has the given rights and every other key the opposite ones. */
function rightsOfKey(key: number, rights: number): number {
  let value = 0
  for (let other = 0; other < 16; other++)
    value += (other === key ? rights : ~rights & 3) * 4 ** other
  return value
}

/** The keys that are tried: the first, the next, and the last; all of them in the full size. */
function keys(size: Size): readonly number[] {
  return size === 'full' ? Array.from({ length: 16 }, (_, key) => key) : [0, 1, 15]
}

const RIGHTS = [0, 1, 2, 3]
const OFF = undefined

/** Protection keys of user pages and of supervisor pages together. */
export const KEYS_SET: ConformanceSet = stateSet({
  name: 'keys',
  title: 'PKE, PKRU, PKS, PKRS, key × U/S, R/W, XD × 3 page sizes × 8 accesses × WP, SMAP, AC',
  groups: (size) =>
    (['4-level', '5-level'] as const).flatMap((structure) =>
      keys(size).map((key) => {
        const values = [OFF, ...RIGHTS.map((rights) => rightsOfKey(key, rights))]
        return stateProduct(
          { ...PLAIN_STATE, structure, accessedFlags: key % 2 === 0 ? 'lazy' : 'eager' },
          { pkru: values, pkrs: values, wp: BOTH, smap: BOTH, ac: BOTH },
        )
      }),
    ),
  combinations(trial: Trial, size: Size): void {
    trial.select(0x0000_0012, 0x4000_0000)
    const { structures } = trial
    const path = new Path()
    for (const key of keys(size).slice(0, size === 'full' ? 16 : 3))
      for (let pageSize = 0; pageSize < 3; pageSize++) {
        const leaf = structures.depths - 1 - pageSize
        // U/S of the leaf and of the entry above it, R/W and XD of the leaf.
        for (let flags = 0; flags < 16; flags++) {
          const bit = (position: number, value: number): number =>
            ((flags >>> position) & 1) * value
          for (let depth = 0; depth < leaf; depth++)
            path.set(
              depth,
              structures.tableLow(depth) | 3 | (depth === leaf - 1 ? bit(1, 4) : 4),
              structures.tableHigh(depth) | ((~key & 15) << 27),
            )
          path.set(
            leaf,
            0x8000_0000 | 1 | bit(0, 4) | bit(2, 2) | (pageSize > 0 ? 0x80 : 0),
            (key << 27) | bit(3, 1 << 31),
          )
          for (const access of ACCESSES) trial.check(path, access)
        }
      }
  },
})
