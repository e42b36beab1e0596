import { expect, test } from 'vitest'
import {
  decodePat,
  effectiveMemoryKind,
  MemoryKind,
  memoryKindAt,
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

test('IA32_PAT as later kernels load it has WP and WT in its upper half', () => {
  const names = decodePat(0x0407_0506_0007_0106n).map(memoryKindName)
  expect(names).toEqual(['WB', 'WC', 'UC-', 'UC', 'WB', 'WP', 'UC-', 'WT'])
})

test('decodePat() reads IA32_PAT at reset', () => {
  expect(decodePat(0x0007_0406_0007_0406n)).toEqual(PAT_AT_RESET)
})

test.each([2, 3, 8, 0x86])('type %i in IA32_PAT is refused, as by WRMSR', (kind) => {
  expect(() => decodePat(0x0007_0406_0007_0006n | (BigInt(kind) << 8n))).toThrow(
    `in each byte of IA32_PAT, found 0x${kind.toString(16)} in entry 1`,
  )
})

test('an access has the type of its address and of the PAT entry that its mapping selects', () => {
  const mtrrs = [{ start: 0, end: 0x8000_0000, kind: WB }] as const
  const kinds = [0x7fff_ffff, 0x8000_0000].map((address) =>
    [0, 1, 2, 3].map((index) =>
      memoryKindName(memoryKindAt({ pat: PAT_LINUX, mtrrs }, index, address)),
    ),
  )
  expect(kinds).toEqual([
    ['WB', 'WC', 'UC', 'UC'],
    ['UC', 'WC', 'UC', 'UC'],
  ])
})

test('with CR0.CD set every access is uncacheable', () => {
  const mtrrs = [{ start: 0, end: 0x1000, kind: WB }] as const
  const caching = { pat: PAT_LINUX, mtrrs, cacheDisable: true }
  expect([0, 1, 2, 3].map((index) => memoryKindAt(caching, index, 0))).toEqual([UC, UC, UC, UC])
})
