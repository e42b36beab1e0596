import { stateProduct } from '../trial/control-product.ts'
import type { ConformanceSet, Size } from '../runner/conformance-set.ts'
import { AccessBit } from '../oracle/access-rights.ts'
import { PLAIN_STATE, type RegisterState } from '../oracle/register-state.ts'
import { Path } from '../oracle/translation.ts'
import type { Trial } from '../trial/trial.ts'
import { stateSet } from './state-set.ts'

/** How many bits of a linear address each structure translates. */
const LINEAR_BITS: Readonly<Record<RegisterState['structure'], number>> = {
  '32-bit': 32,
  PAE: 32,
  '4-level': 48,
  '5-level': 57,
}

/** Page sizes by structure, as bits of the offset. */
const PAGE_BITS: Readonly<Record<RegisterState['structure'], readonly number[]>> = {
  '32-bit': [12, 22],
  PAE: [12, 21],
  '4-level': [12, 21, 30],
  '5-level': [12, 21, 30],
}

/** Numbers of `bits` bits from `from` up: each bit alone, each bit missing, and a few without a pattern. */
function patterns(from: number, bits: number): bigint[] {
  const all = ((1n << BigInt(bits - from)) - 1n) << BigInt(from)
  const values = [0n, all]
  for (let bit = from; bit < bits; bit++) values.push(1n << BigInt(bit), all ^ (1n << BigInt(bit)))
  let seed = 0x1234_5678_9abc_def1n
  for (let index = 0; index < 8; index++) {
    seed = BigInt.asUintN(64, seed * 6364136223846793005n + 1442695040888963407n)
    values.push((seed >> 7n) & all)
  }
  return values
}

function half(value: bigint, upper: boolean): number {
  return Number(BigInt.asIntN(32, upper ? value >> 32n : value))
}

/** Which entry a linear address selects at each level, and which address a leaf gives it. */
export const ADDRESSES_SET: ConformanceSet = stateSet({
  name: 'addresses',
  title:
    'linear addresses bit by bit × physical addresses bit by bit × page sizes × 4 structures, tables low and high',
  groups: () =>
    ([52, 36, 40] as const).flatMap((physicalAddressBits) =>
      stateProduct(
        { ...PLAIN_STATE, physicalAddressBits, pse: true },
        { structure: ['4-level', '4-level', '5-level', '5-level', 'PAE', '32-bit', '32-bit'] },
      ).map((state) => [state]),
    ),
  options: { throughCpuEvery: 3 },
  combinations(trial: Trial, size: Size): void {
    const { state } = trial.processor
    const { structures } = trial
    const linearBits = LINEAR_BITS[state.structure]
    let turn = 0
    for (const linear of patterns(12, linearBits)) {
      const canonical =
        linearBits === 32 ? linear : BigInt.asUintN(64, BigInt.asIntN(linearBits, linear))
      trial.select(half(canonical, true), half(canonical, false))
      for (const [pageSize, pageBits] of PAGE_BITS[state.structure].entries()) {
        const leaf = structures.depths - 1 - pageSize
        const top = state.structure === '32-bit' && pageSize === 0 ? 32 : state.physicalAddressBits
        for (const physical of patterns(
          pageBits,
          Math.min(top, state.structure === '32-bit' ? 40 : 52),
        )) {
          if (size === 'small' && turn++ % 5 !== 0) continue
          const path = new Path()
          for (let depth = 0; depth < leaf; depth++)
            path.set(
              depth,
              structures.tableLow(depth) | (state.structure === 'PAE' && depth === 0 ? 1 : 7),
              structures.tableHigh(depth),
            )
          const extended = state.structure === '32-bit' ? half(physical, true) << 13 : 0
          path.set(
            leaf,
            half(physical, false) | extended | 7 | (pageSize > 0 ? 0x80 : 0),
            state.structure === '32-bit' ? 0 : half(physical, true),
          )
          trial.check(path, turn % 2 === 0 ? 0 : AccessBit.User | AccessBit.Write)
        }
      }
    }
  },
})
