import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  CORE2,
  CoreError,
  decodeMtrrs,
  HASWELL,
  MemoryKind,
  memoryKindName,
  type MtrrKind,
  mtrrKind,
  type MtrrRanges,
  SAPPHIRE_RAPIDS,
  SKYLAKE,
} from '../src/index.ts'

const { UC, WC, WT, WB, WP } = MemoryKind

const DEF_TYPE = 0x2ff
const ENABLED = 0x800n
const WITH_FIXED = 0xc00n

/** Values of MSRs by number: a default type register and pairs of base and mask. */
function registers(
  defType: bigint,
  pairs: readonly (readonly [base: bigint, mask: bigint])[],
  fixed: readonly (readonly [msr: number, value: bigint])[] = [],
): Map<number, bigint> {
  return new Map([
    [DEF_TYPE, defType],
    ...pairs.flatMap(([base, mask], pair) => [
      [0x200 + pair * 2, base] as const,
      [0x201 + pair * 2, mask] as const,
    ]),
    ...fixed,
  ])
}

/** The values of a pair for the first megabytes of a CPU with 36 address bits. */
function lowest(kind: MtrrKind, megabytes: bigint): readonly [base: bigint, mask: bigint] {
  return [BigInt(kind), (0x10_0000_0000n - megabytes * 0x10_0000n) | 0x800n]
}

function written(ranges: MtrrRanges): string[] {
  return ranges.map(
    ({ start, end, kind }) => `${start.toString(16)}-${end.toString(16)} ${memoryKindName(kind)}`,
  )
}

test('the registers of OVMF on a machine of 512 MiB', () => {
  const fixed = [0x250, 0x258].map((msr) => [msr, 0x0606_0606_0606_0606n] as const)
  const msrs = registers(WITH_FIXED | 6n, [[0x8000_0000n, 0xff_8000_0800n]], fixed)
  expect(written(decodeMtrrs(msrs, { name: 'a CPU', maxPhysicalAddressBits: 40 }))).toEqual([
    '0-a0000 WB',
    'a0000-100000 UC',
    '100000-80000000 WB',
    '80000000-100000000 UC',
    '100000000-10000000000 WB',
  ])
})

test('the registers of a machine with 8 GiB, one of which lies above its PCI hole', () => {
  const msrs = registers(ENABLED, [
    [0x0n | 6n, 0x3ffe_0000_0800n],
    [0x2_0000_0000n | 6n, 0x3fff_c000_0800n],
    [0xc000_0000n, 0x3fff_c000_0800n],
  ])
  expect(written(decodeMtrrs(msrs, HASWELL))).toEqual([
    '0-c0000000 WB',
    'c0000000-100000000 UC',
    '100000000-240000000 WB',
    '240000000-400000000000 UC',
  ])
})

test('each fixed register types eight ranges, the lowest byte the first', () => {
  const msrs = registers(
    WITH_FIXED | 6n,
    [],
    [
      [0x250, 0x0605_0401_0006_0504n],
      [0x26f, 0x0001_0101_0101_0101n],
    ],
  )
  const ranges = decodeMtrrs(msrs, CORE2)
  expect(
    [0, 0xffff, 0x1_0000, 0x2_0000, 0x3_0000, 0x7_ffff, 0x8_0000].map((at) => mtrrKind(ranges, at)),
  ).toEqual([WT, WT, WP, WB, UC, WB, UC])
  expect(
    [0xf_7fff, 0xf_8000, 0xf_efff, 0xf_f000, 0x10_0000].map((at) => mtrrKind(ranges, at)),
  ).toEqual([UC, WC, WC, UC, WB])
})

/** MSR number, first address and bytes of each of the eight ranges. */
const FIXED: (readonly [msr: number, start: number, bytes: number])[] = [
  [0x250, 0, 0x1_0000],
  [0x258, 0x8_0000, 0x4000],
  [0x259, 0xa_0000, 0x4000],
  [0x268, 0xc_0000, 0x1000],
  [0x269, 0xc_8000, 0x1000],
  [0x26a, 0xd_0000, 0x1000],
  [0x26b, 0xd_8000, 0x1000],
  [0x26c, 0xe_0000, 0x1000],
  [0x26d, 0xe_8000, 0x1000],
  [0x26e, 0xf_0000, 0x1000],
  [0x26f, 0xf_8000, 0x1000],
]

test.each(FIXED)('fixed register %i covers what table 12-9 says', (msr, start, bytes) => {
  const msrs = registers(WITH_FIXED, [], [[msr, 0x0606_0606_0606_0606n]])
  const cached = decodeMtrrs(msrs, CORE2).filter(({ kind }) => kind === WB)
  expect(cached).toEqual([{ start, end: start + 8 * bytes, kind: WB }])
})

test('fixed ranges do not count while they are off, variable ones not while they are not valid, none while MTRRs are off', () => {
  const fixed = [[0x250, 0x0101_0101_0101_0101n]] as const
  const pairs = [[4n, 0xf_f000_0000n]] as const
  const kinds = [0n, ENABLED, WITH_FIXED].map((control) =>
    mtrrKind(decodeMtrrs(registers(control | 6n, pairs, fixed), CORE2), 0),
  )
  expect(kinds).toEqual([UC, WB, WC])
})

test('where ranges overlap UC wins, and WT over WB', () => {
  const ranges = decodeMtrrs(
    registers(ENABLED | 1n, [lowest(WB, 8n), lowest(WT, 4n), lowest(UC, 2n)]),
    CORE2,
  )
  expect(written(ranges)).toEqual([
    '0-200000 UC',
    '200000-400000 WT',
    '400000-800000 WB',
    '800000-1000000000 WC',
  ])
})

test.each([
  [WB, WC],
  [WC, WB],
  [WB, WP],
  [WT, WC],
  [WP, WC],
])('an overlap of types %i and %i is refused, as hardware defines no result', (one, other) => {
  const pairs = [one, other].map((kind) => [BigInt(kind), 0xf_fff0_0800n] as const)
  expect(() => decodeMtrrs(registers(ENABLED, pairs), CORE2)).toThrow(
    `found ${memoryKindName(one)} and ${memoryKindName(other)} at 0x0000000000000000`,
  )
  const withWt = [...pairs, [4n, 0xf_fff0_0800n] as const]
  expect(() => decodeMtrrs(registers(ENABLED, withWt), CORE2)).toThrow('MTRRs that overlap only')
  const withUc = [...pairs, [0n, 0xf_fff0_0800n] as const]
  expect(mtrrKind(decodeMtrrs(registers(ENABLED, withUc), CORE2), 0)).toBe(UC)
})

test('an overlap without a result does not matter below 1 MiB where fixed ranges decide', () => {
  const pairs = [1n, 6n].map((kind) => [kind, 0xf_ffff_0800n] as const)
  expect(mtrrKind(decodeMtrrs(registers(WITH_FIXED, pairs), CORE2), 0)).toBe(UC)
})

test('a mask with the width of an older CPU repeats its range', () => {
  const ranges = decodeMtrrs(registers(ENABLED, [[6n, 0xf_c000_0800n]]), SKYLAKE)
  expect(ranges.filter(({ kind }) => kind === WB).map(({ start }) => start)).toEqual(
    Array.from({ length: 8 }, (_, index) => index * 2 ** 36),
  )
})

test('a mask with more holes than a map could show is refused', () => {
  const msrs = registers(ENABLED, [[6n, 0x5_5555_5555_5800n]])
  expect(() => decodeMtrrs(msrs, SAPPHIRE_RAPIDS)).toThrow(
    'masks that cut the address space into more than',
  )
})

test('a mask wider than the CPU is refused', () => {
  expect(() => decodeMtrrs(registers(ENABLED, [[6n, 0x7f_c000_0800n]]), CORE2)).toThrow(
    'expected variable MTRR 0 within 36 address bits',
  )
})

test.each([
  ['IA32_MTRR_DEF_TYPE', registers(ENABLED | 7n, [])],
  ['variable MTRR 0', registers(ENABLED, [[7n, 0xf_fff0_0800n]])],
  ['MSR 0x259', registers(WITH_FIXED, [], [[0x259, 0x0700n]])],
])('UC- is no type of an MTRR: %s', (where, msrs) => {
  expect(() => decodeMtrrs(msrs, CORE2)).toThrow(`found 7 in ${where}`)
})

/** A page's type by the rules of SDM Vol. 3, 12.11.4.1, or undefined where they give none. */
function kindByRules(
  page: number,
  defaultKind: MtrrKind,
  pairs: readonly (readonly [base: number, mask: number, kind: MtrrKind])[],
): MtrrKind | undefined {
  const kinds = pairs
    .filter(([base, mask]) => (page & mask) === (base & mask))
    .map((pair) => pair[2])
  if (kinds.length === 0) return defaultKind
  if (kinds.every((kind) => kind === kinds[0])) return kinds[0]
  if (kinds.includes(UC)) return UC
  return kinds.every((kind) => kind === WT || kind === WB) ? WT : undefined
}

/** The type of each page of a machine, "undefined" where decodeMtrrs() finds that an overlap has none. */
function kindsOf(msrs: ReadonlyMap<number, bigint>, bits: number): string | MtrrKind[] {
  try {
    const ranges = decodeMtrrs(msrs, { name: 'a small CPU', maxPhysicalAddressBits: 12 + bits })
    return Array.from({ length: 2 ** bits }, (_, page) => mtrrKind(ranges, page * 4096))
  } catch (error) {
    if (!(error instanceof CoreError)) throw error
    return error.expected
  }
}

test('each of the pages of a small machine has the type that the rules give, whatever the masks', () => {
  const bits = 10
  const anyKind = fc.constantFrom(UC, WC, WT, WB, WP)
  const anyPair = fc.tuple(fc.nat(2 ** bits - 1), fc.nat(2 ** bits - 1), anyKind)
  let defined = 0
  fc.assert(
    fc.property(anyKind, fc.array(anyPair, { maxLength: 4 }), (defaultKind, pairs) => {
      const expected = Array.from({ length: 2 ** bits }, (_, page) =>
        kindByRules(page, defaultKind, pairs),
      )
      const isDefined = !expected.includes(undefined)
      const msrs = registers(
        ENABLED | BigInt(defaultKind),
        pairs.map(([base, mask, kind]) => [
          (BigInt(base) << 12n) | BigInt(kind),
          (BigInt(mask) << 12n) | 0x800n,
        ]),
      )
      expect(kindsOf(msrs, bits)).toEqual(
        isDefined ? expected : 'MTRRs that overlap only where one is UC, or one is WT and one WB',
      )
      if (isDefined) defined++
    }),
    { numRuns: 60 },
  )
  expect(defined).toBeGreaterThan(10)
})

test('ranges follow one another without gaps, and neighbours differ', () => {
  const masks = [0xf_5000_0800n, 0xf_ff00_0800n]
  const ranges = decodeMtrrs(
    registers(
      ENABLED | 6n,
      masks.map((mask) => [0n, mask]),
    ),
    CORE2,
  )
  expect(ranges.length).toBeGreaterThan(3)
  expect(ranges.slice(1).map(({ start }) => start)).toEqual(
    ranges.slice(0, -1).map(({ end }) => end),
  )
  expect(ranges.filter(({ kind }, index) => kind === ranges[index + 1]?.kind)).toEqual([])
})
