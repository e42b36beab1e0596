import { BOTH, stateProduct } from '../trial/control-product.ts'
import { ACCESSES } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

const LONG_MODE = ['4-level', '5-level'] as const
const POLICIES = ['lazy', 'eager'] as const

/** Groups by paging mode and policy, and in each the control bits given. */
function groups(controls: Parameters<typeof stateProduct>[1]): RegisterState[][] {
  return LONG_MODE.flatMap((structure) =>
    POLICIES.map((accessedFlags) =>
      stateProduct({ ...PLAIN_STATE, structure, accessedFlags }, controls),
    ),
  )
}

/** Frame of a leaf: a multiple of 1 GiB, so that pages of any size may have it. */
const LEAF_LOW = 0x4000_0000

/** Calls back for each size of page, 4 KiB first, with the depth of the entry that maps it. */
function forEachLeaf(trial: Trial, run: (leaf: number) => void): void {
  for (let size = 0; size < 3; size++) run(trial.structures.depths - 1 - size)
}

/** The flags of the low half that `rights` stand for: bit 0 R/W, bit 1 U/S, bit 2 XD. */
function setEntry(trial: Trial, path: Path, depth: number, leaf: number, rights: number): void {
  const high = (rights & 4) === 0 ? 0 : 1 << 31
  const flags = 1 | ((rights & 3) << 1)
  if (depth < leaf)
    path.set(
      depth,
      trial.structures.tableLow(depth) | flags,
      trial.structures.tableHigh(depth) | high,
    )
  else path.set(depth, LEAF_LOW | flags | (depth < trial.structures.depths - 1 ? 0x80 : 0), high)
}

/** R/W, U/S and XD at every level, for every size of page. */
export const LEVELS_SET: ConformanceSet = stateSet({
  name: 'levels',
  title: 'R/W, U/S, XD at every level, 4 KiB, 2 MiB, 1 GiB × 8 accesses × WP, NXE, SMEP, SMAP, AC',
  groups: () => groups({ wp: BOTH, nxe: BOTH, smep: BOTH, smap: BOTH, ac: BOTH }),
  combinations(trial: Trial, size: Size): void {
    trial.select(0xffff_9234 | 0, 0x1234_5000)
    forEachLeaf(trial, (leaf) => {
      const path = new Path()
      const all = 8 ** (leaf + 1)
      // A stride that is coprime to 8 reaches every value at every level.
      const stride = size === 'full' ? 1 : leaf === 4 ? 61 : leaf === 3 ? 7 : 1
      for (let rights = 0; rights < all; rights += stride) {
        for (let depth = 0; depth <= leaf; depth++)
          setEntry(trial, path, depth, leaf, Math.floor(rights / 8 ** depth) & 7)
        for (const access of ACCESSES) trial.check(path, access)
      }
    })
  },
})

/** What an entry may be in the set of first faults. */
const ENTRY_STATES: readonly ((low: number, high: number) => readonly [number, number])[] = [
  (low, high) => [low, high],
  (low, high) => [low | 0x20, high],
  (low, high) => [low & ~1, high],
  // Bit 51 is reserved on these processors.
  (low, high) => [low, high | (1 << 19)],
  (low, high) => [low & ~1, high | (1 << 19)],
  (low, high) => [low & ~2, high],
  (low, high) => [low & ~4, high],
]

/** At every level an entry that is fine, accessed, not present, reserved, or lacks a right: which one decides. */
export const FIRST_FAULT_SET: ConformanceSet = stateSet({
  name: 'first-fault',
  title: 'present, accessed, reserved bit, R/W, U/S at every level × 8 accesses × NXE, SMAP',
  groups: () => groups({ nxe: BOTH, smap: BOTH }),
  combinations(trial: Trial, size: Size): void {
    trial.select(0x0000_7abc, 0xdcba_9000 | 0)
    forEachLeaf(trial, (leaf) => {
      const path = new Path()
      const all = ENTRY_STATES.length ** (leaf + 1)
      const stride = size === 'full' ? 1 : leaf === 4 ? 11 : leaf === 3 ? 3 : 1
      for (let combination = 0; combination < all; combination += stride) {
        let rest = combination
        for (let depth = 0; depth <= leaf; depth++) {
          setEntry(trial, path, depth, leaf, 3)
          const choice = ENTRY_STATES[rest % ENTRY_STATES.length]!
          path.set(depth, ...choice(path.low[depth]!, path.high[depth]!))
          rest = Math.floor(rest / ENTRY_STATES.length)
        }
        for (const access of ACCESSES) trial.check(path, access)
      }
    })
  },
})
