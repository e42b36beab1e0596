import { expect, test } from 'vitest'
import {
  effectiveMemoryKind,
  MemoryKind,
  memoryKindName,
  type MtrrKind,
  mtrrKind,
  PAT_AT_RESET,
  PAT_LINUX,
} from '../src/index.ts'

const { UC, UCMinus, WC, WT, WB, WP } = MemoryKind

/** SDM Vol. 3, table 11-7 (12-7 since 2023): MTRR type, PAT type, effective type, a line for each line of the table. */
const TABLE: readonly (readonly [MtrrKind, MemoryKind, MemoryKind])[] = [
  [UC, UC, UC],
  [UC, UCMinus, UC],
  [UC, WC, WC],
  [UC, WT, UC],
  [UC, WB, UC],
  [UC, WP, UC],
  [WC, UC, UC],
  [WC, UCMinus, WC],
  [WC, WC, WC],
  [WC, WT, UC],
  [WC, WB, WC],
  [WC, WP, UC],
  [WT, UC, UC],
  [WT, UCMinus, UC],
  [WT, WC, WC],
  [WT, WT, WT],
  [WT, WB, WT],
  [WT, WP, WP],
  [WB, UC, UC],
  [WB, UCMinus, UC],
  [WB, WC, WC],
  [WB, WT, WT],
  [WB, WB, WB],
  [WB, WP, WP],
  [WP, UC, UC],
  [WP, UCMinus, WC],
  [WP, WC, WC],
  [WP, WT, WT],
  [WP, WB, WP],
  [WP, WP, WP],
]

test.each(
  TABLE.map(([mtrr, pat, effective]) => ({
    mtrr: memoryKindName(mtrr),
    pat: memoryKindName(pat),
    effective: memoryKindName(effective),
    found: memoryKindName(effectiveMemoryKind(mtrr, pat)),
  })),
)('MTRR $mtrr with PAT $pat is $effective', ({ effective, found }) => {
  expect(found).toBe(effective)
})

test('the last MTRR range that holds an address decides', () => {
  const ranges = [
    { start: 0, end: 0x1000_0000, kind: WB },
    { start: 0x0a_0000, end: 0x0c_0000, kind: UC },
  ] as const
  expect([0, 0x09_ffff, 0x0a_0000, 0x0b_ffff, 0x0c_0000].map((at) => mtrrKind(ranges, at))).toEqual(
    [WB, WB, UC, UC, WB],
  )
})

test('an address that no MTRR covers is uncacheable', () => {
  expect(mtrrKind([{ start: 0x1000, end: 0x2000, kind: WB }], 0x2000)).toBe(UC)
})

test('the PAT at reset is IA32_PAT’s 0x0007040600070406', () => {
  const bytes = PAT_AT_RESET.toReversed().map((kind) => kind.toString(16).padStart(2, '0'))
  expect(bytes.join('')).toBe('0007040600070406')
})

test('Linux puts write combining where reset has write through', () => {
  const names = PAT_LINUX.map(memoryKindName)
  expect(names).toEqual(['WB', 'WC', 'UC-', 'UC', 'WB', 'WC', 'UC-', 'UC'])
})
