import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type CpuFeatures,
  BROADWELL,
  FOUR_LEVEL,
  inspectAddress,
  type MappedRange,
  mappedRanges,
  NEHALEM,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  PhysicalMemory,
  type TranslationContext,
  virt,
} from '../src/index.ts'

function emptyTables(features: CpuFeatures = BROADWELL): {
  builder: PageTableBuilder
  context: TranslationContext
  used: number[]
} {
  const memory = new PhysicalMemory()
  const used = [0x100]
  const builder = new PageTableBuilder(memory, phys(0x10_0000), () => {
    used.push(0x100 + used.length)
    return used.at(-1)!
  })
  const context = { memory, mode: FOUR_LEVEL, features, noExecute: true, root: builder.root }
  return { builder, context, used }
}

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
  const { builder, context } = emptyTables(NEHALEM)
  builder.mapRange(virt(0x1000n), phys(0x8000), 3 * PAGE_SIZE)
  builder.writeEntry(virt(0x2000n), (1n << 40n) | 0x63n)
  builder.mapRange(virt(0x4000_0000n), phys(0), PAGE_SIZE_1G, { largestPage: PAGE_SIZE_1G })
  const { ranges } = mappedRanges(context)
  expect(ranges.map((range) => range.start)).toEqual([0x1000n, 0x3000n])
  for (const address of [0x2000n, 0x4000_0000n]) {
    expect(inspectAddress(context, address).status).toBe('reserved-bit')
  }
})

test('a survey may be limited to some root entries', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.mapRange(virt(0xffff_8800_0000_0000n), phys(0x9000), PAGE_SIZE)
  expect(mappedRanges(context, 256).ranges.map((range) => range.physical)).toEqual([0x9000])
  expect(mappedRanges(context, 0, 256).ranges.map((range) => range.physical)).toEqual([0x8000])
})

test('tables that two roots share count once each', () => {
  const { builder, context, used } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x8000), PAGE_SIZE)
  builder.setRootEntry(7, builder.rootEntry(0))
  const survey = mappedRanges(context)
  expect(survey.ranges.map((range) => range.start)).toEqual([0x1000n, 0x380_0000_1000n])
  expect(survey.tables.toSorted((a, b) => a - b)).toEqual(used)
})
