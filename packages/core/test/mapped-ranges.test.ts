import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  FIVE_LEVEL,
  filterRanges,
  inspectAddress,
  physicalAt,
  joinPageSizes,
  type LinearWindow,
  lowerHalf,
  type MappedRange,
  mappedRanges,
  mappedRangesOfAll,
  nameRanges,
  NEHALEM,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAE,
  PAGE_SIZE_2M,
  type PagingMode,
  phys,
  type RangeQuery,
  tableFrames,
  upperHalf,
  virt,
} from '../src/index.ts'
import { type EmptyTables, emptyTables } from './empty-tables.ts'
import { inspectWindow, perform, script, WINDOWS } from './table-script.ts'

const emptyTreeOf = (mode: PagingMode): EmptyTables => emptyTables({ mode })

const region = fc.record({
  gap: fc.integer({ min: 1, max: 2000 }),
  pages: fc.oneof(fc.integer({ min: 1, max: 700 }), fc.constantFrom(0x4_0000, 0x4_0200)),
  frame: fc.nat(2 ** 30),
  flags: fc.record({
    writable: fc.boolean(),
    user: fc.boolean(),
    executable: fc.boolean(),
    global: fc.boolean(),
    writeThrough: fc.boolean(),
    cacheDisable: fc.boolean(),
  }),
})

test('what mapRange() mapped, in pages of 4 KiB, comes back range by range', () => {
  fc.assert(
    fc.property(
      fc.array(region, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(0x1000n, 0xffff_8880_0000_0000n),
      (regions, origin) => {
        const { builder, context, used } = emptyTables()
        const expected: MappedRange[] = []
        let start = origin
        for (const { gap, pages, frame, flags } of regions) {
          start += BigInt(gap) * 4096n
          const bytes = pages * PAGE_SIZE
          builder.mapRange(virt(start), phys(frame * PAGE_SIZE), bytes, flags)
          expected.push({
            start: virt(start),
            physical: frame * PAGE_SIZE,
            bytes,
            pageSize: PAGE_SIZE,
            writable: flags.writable,
            user: flags.user,
            executable: flags.executable,
            global: flags.global,
            patIndex: (flags.cacheDisable ? 2 : 0) + (flags.writeThrough ? 1 : 0),
            protectionKey: 0,
          })
          start += BigInt(bytes)
        }
        const survey = mappedRanges(context)
        expect(survey.ranges).toEqual(expected)
        expect(survey.tables.toSorted((a, b) => a - b)).toEqual(used)
      },
    ),
    { numRuns: 30 },
  )
})

test('large pages come back as ranges of their own size, which together are the whole', () => {
  const { builder, context } = emptyTables()
  const bytes = 2 * PAGE_SIZE_1G + 3 * PAGE_SIZE_2M + 5 * PAGE_SIZE
  builder.mapRange(virt(0xffff_8800_0000_0000n), phys(0), bytes, { largestPage: PAGE_SIZE_1G })
  const { ranges } = mappedRanges(context)
  expect(ranges.map((range) => [range.physical, range.bytes, range.pageSize])).toEqual([
    [0, 2 * PAGE_SIZE_1G, PAGE_SIZE_1G],
    [2 * PAGE_SIZE_1G, 3 * PAGE_SIZE_2M, PAGE_SIZE_2M],
    [2 * PAGE_SIZE_1G + 3 * PAGE_SIZE_2M, 5 * PAGE_SIZE, PAGE_SIZE],
  ])
})

test('pages whose addresses follow each other but whose frames do not are two ranges', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0x2000n), phys(0xa000), PAGE_SIZE)
  expect(mappedRanges(context).ranges.map((range) => range.physical)).toEqual([0x8000, 0xa000])
})

test('pages whose frames follow each other but whose addresses do not are two ranges', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0x3000n), phys(0x9000), PAGE_SIZE)
  expect(mappedRanges(context).ranges.map((range) => range.start)).toEqual([0x1000n, 0x3000n])
})

test('no range runs from the lower half of the address space into the upper', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x7fff_ffff_f000n), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0xffff_8000_0000_0000n), phys(0x9000), PAGE_SIZE)
  expect(mappedRanges(context).ranges.map((range) => range.start)).toEqual([
    0x7fff_ffff_f000n,
    0xffff_8000_0000_0000n,
  ])
})

test('rights are those of all levels together', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE, { user: true, executable: true })
  builder.setRootEntry(0, (builder.rootEntry(0) & ~2n) | (1n << 63n))
  expect(mappedRanges(context).ranges).toMatchObject([
    { writable: false, user: true, executable: false },
  ])
})

test('entries with a reserved bit map nothing, as for the CPU', () => {
  const { builder, context } = emptyTables({ features: NEHALEM })
  builder.mapRange(virt(0x1000n), phys(0x8000), 3 * PAGE_SIZE)
  builder.writeEntry(virt(0x2000n), (1n << 40n) | 0x63n)
  builder.mapRange(virt(0x4000_0000n), phys(0), PAGE_SIZE_1G, { largestPage: PAGE_SIZE_1G })
  const { ranges } = mappedRanges(context)
  expect(ranges.map((range) => range.start)).toEqual([0x1000n, 0x3000n])
  for (const address of [0x2000n, 0x4000_0000n]) {
    expect(inspectAddress(context, address).status).toBe('reserved-bit')
    expect(physicalAt(context, address)).toBeUndefined()
  }
})

test('a survey may be limited to a half of the address space', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0xffff_8800_0000_0000n), phys(0x9000), PAGE_SIZE)
  const physicalIn = (window: LinearWindow): number[] =>
    mappedRanges(context, window).ranges.map((range) => range.physical)
  expect(physicalIn(upperHalf(context.mode))).toEqual([0x9000])
  expect(physicalIn(lowerHalf(context.mode))).toEqual([0x8000])
})

test('32-bit addresses have one half', () => {
  expect(lowerHalf(PAE)).toEqual({ start: 0n, end: 2n ** 32n })
  expect(upperHalf(PAE)).toEqual({ start: 2n ** 32n, end: 2n ** 32n })
  const { context } = emptyTables()
  expect(mappedRanges(context, upperHalf(PAE)).ranges).toEqual([])
})

test('a window finds the pages that have a byte in it', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), 3 * PAGE_SIZE)
  builder.mapRange(virt(0x20_0000n), phys(0x40_0000), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
  const bytesIn = (start: bigint, end: bigint): (readonly [bigint, number])[] =>
    mappedRanges(context, { start, end }).ranges.map((range) => [range.start, range.bytes])
  expect(bytesIn(0x2800n, 0x2801n)).toEqual([[0x2000n, PAGE_SIZE]])
  expect(bytesIn(0x1fffn, 0x3001n)).toEqual([[0x1000n, 3 * PAGE_SIZE]])
  expect(bytesIn(0x3f_ffffn, 0x40_0000n)).toEqual([[0x20_0000n, PAGE_SIZE_2M]])
  expect(bytesIn(0x40_0000n, 0x60_0000n)).toEqual([])
  expect(bytesIn(0x2000n, 0x2000n)).toEqual([])
})

test('tables that two roots share count once each', () => {
  const { builder, context, used } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.setRootEntry(7, builder.rootEntry(0))
  const survey = mappedRanges(context)
  expect(survey.ranges.map((range) => range.start)).toEqual([0x1000n, 0x380_0000_1000n])
  expect(survey.tables.toSorted((a, b) => a - b)).toEqual(used)
})

test('a table that two roots have at the same place is in what each of them maps, with the rights that each gives', () => {
  const { builder, context, memory } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), 2 * PAGE_SIZE)
  const other = 0x70_0000
  const entry = builder.rootEntry(0)
  memory.write64(other, entry)
  memory.write64(other + 8, entry & ~2n)
  const second = { ...context, root: other }
  const [one, two] = mappedRangesOfAll([context, second])
  expect([one, two]).toEqual([mappedRanges(context), mappedRanges(second)])
  expect(two!.ranges.map(({ start, bytes, writable }) => [start, bytes, writable])).toEqual([
    [0x1000n, 2 * PAGE_SIZE, true],
    [0x80_0000_1000n, 2 * PAGE_SIZE, false],
  ])
})

describe.each(WINDOWS.map((window) => [window.mode.name, window] as const))(
  'in %s paging',
  (_, window) => {
    test('ranges tell of each page what an inspector does', () => {
      fc.assert(
        fc.property(script, (steps) => {
          const tables = emptyTreeOf(window.mode)
          for (const each of steps) perform(tables.builder, window, each)
          const survey = mappedRanges(tables.context)
          const { ranges } = survey
          expect(mappedRangesOfAll([tables.context, tables.context])).toEqual([survey, survey])
          expect(tableFrames(tables.context)).toEqual(survey.tables)
          const expected = inspectWindow(tables.context, window).map((inspection) => {
            if (inspection.status !== 'mapped') return undefined
            const { steps: __, status: ___, ...page } = inspection
            return page
          })
          const told: unknown[] = expected.map(() => undefined)
          for (const { start, bytes, physical, ...flags } of ranges) {
            for (let offset = 0; offset < bytes; offset += PAGE_SIZE) {
              const page = Number(start - window.start) / PAGE_SIZE + offset / PAGE_SIZE
              told[page] = { physical: physical + offset, ...flags }
            }
          }
          expect(told).toEqual(expected)
        }),
        { numRuns: 20 },
      )
    })
  },
)

test('no range of 5-level paging runs from the lower half into the upper', () => {
  const { builder, context } = emptyTreeOf(FIVE_LEVEL)
  builder.mapRange(virt(0xff_ffff_ffff_f000n, 57), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0xff00_0000_0000_0000n, 57), phys(0x9000), PAGE_SIZE)
  expect(mappedRanges(context).ranges.map((range) => range.start)).toEqual([
    0xff_ffff_ffff_f000n,
    0xff00_0000_0000_0000n,
  ])
})

test('pages with different protection keys are two ranges', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), 2 * PAGE_SIZE)
  builder.changeRange(virt(0x2000n), PAGE_SIZE, (low, high) => [low, high | (9 << 27)])
  expect(mappedRanges(context).ranges.map((range) => range.protectionKey)).toEqual([0, 9])
})

test('ranges can be asked for, as those that are writable and executable', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE, { executable: true })
  builder.mapRange(virt(0x2000n), phys(0x9000), PAGE_SIZE, { executable: true, writable: false })
  builder.mapRange(virt(0x3000n), phys(0xa000), PAGE_SIZE, { user: true })
  const { ranges } = mappedRanges(context)
  const starts = (query: RangeQuery): bigint[] =>
    filterRanges(ranges, query).map((range) => range.start)
  expect(starts({ writable: true, executable: true })).toEqual([0x1000n])
  expect(starts({ executable: true })).toEqual([0x1000n, 0x2000n])
  expect(starts({ user: false, writable: true })).toEqual([0x1000n])
  expect(starts({ pageSize: PAGE_SIZE_2M })).toEqual([])
  expect(starts({})).toEqual([0x1000n, 0x2000n, 0x3000n])
})

test('ranges that differ in page size alone can be joined', () => {
  const { builder, context } = emptyTables()
  const bytes = PAGE_SIZE_1G + 2 * PAGE_SIZE_2M + 3 * PAGE_SIZE
  const options = { largestPage: PAGE_SIZE_1G }
  builder.mapRange(virt(0x4000_0000n), phys(0), bytes, options)
  builder.mapRange(virt(0x4000_0000n + BigInt(bytes)), phys(bytes), PAGE_SIZE, { user: true })
  const { ranges } = mappedRanges(context)
  expect(joinPageSizes(ranges)).toMatchObject([
    {
      start: 0x4000_0000n,
      physical: 0,
      bytes,
      pageSizes: [PAGE_SIZE_1G, PAGE_SIZE_2M, PAGE_SIZE],
    },
    { start: 0x4000_0000n + BigInt(bytes), bytes: PAGE_SIZE, pageSizes: [PAGE_SIZE], user: true },
  ])
})

describe('names', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x11000), 8 * PAGE_SIZE)
  const { ranges } = mappedRanges(context)
  const named = (...names: [name: string, start: bigint, end: bigint][]): unknown[] =>
    nameRanges(
      ranges,
      names.map(([name, start, end]) => ({ name, start, end })),
    ).map(({ name, start, physical, bytes }) => [name, start, physical - Number(start), bytes])

  test('cut ranges where they begin and end', () => {
    expect(named(['stack', 0x3000n, 0x5000n], ['heap', 0x8000n, 0x1_0000n])).toEqual([
      [undefined, 0x1000n, 0x10000, 0x2000],
      ['stack', 0x3000n, 0x10000, 0x2000],
      [undefined, 0x5000n, 0x10000, 0x3000],
      ['heap', 0x8000n, 0x10000, 0x1000],
    ])
  })

  test('that come later in the list count where they overlap', () => {
    expect(named(['all', 0n, 0x10000n], ['inner', 0x2000n, 0x3000n])).toEqual([
      ['all', 0x1000n, 0x10000, 0x1000],
      ['inner', 0x2000n, 0x10000, 0x1000],
      ['all', 0x3000n, 0x10000, 0x6000],
    ])
  })

  test('that are hidden by others cut nothing', () => {
    expect(named(['inner', 0x2000n, 0x3000n], ['all', 0n, 0x10000n])).toEqual([
      ['all', 0x1000n, 0x10000, 0x8000],
    ])
  })
})
