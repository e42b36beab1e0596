import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BITS_32,
  FIVE_LEVEL,
  FOUR_LEVEL,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  phys,
  tablesNeeded,
  virt,
} from '../src/index.ts'
import { emptyTables } from './empty-tables.ts'
import { addressIn, largePage, perform, script, WINDOWS } from './table-script.ts'

const TIB = 2 ** 40

describe('the tables below an empty root', () => {
  test.each([
    ['nothing', 0, PAGE_SIZE, 0],
    ['one page', PAGE_SIZE, PAGE_SIZE, 3],
    ['64 GiB of 4 KiB pages', 64 * 2 ** 30, PAGE_SIZE, 1 + 64 + 64 * 512],
    ['64 GiB of 2 MiB pages', 64 * 2 ** 30, PAGE_SIZE_2M, 1 + 64],
    ['64 GiB of 1 GiB pages', 64 * 2 ** 30, PAGE_SIZE_1G, 1],
    ['64 TiB of 1 GiB pages', 64 * TIB, PAGE_SIZE_1G, 128],
    ['64 TiB of 4 KiB pages', 64 * TIB, PAGE_SIZE, 128 + 64 * 1024 + 64 * 1024 * 512],
    ['1 GiB and a page', PAGE_SIZE_1G + PAGE_SIZE, PAGE_SIZE_1G, 3],
  ])('for %s', (_, bytes, largestPage, count) => {
    expect(tablesNeeded(virt(0), phys(0), bytes, { largestPage })).toBe(count)
  })

  test('are one more for each level', () => {
    const counts = [BITS_32, FOUR_LEVEL, FIVE_LEVEL].map((mode) =>
      tablesNeeded(virt(0), phys(0), PAGE_SIZE, { mode }),
    )
    expect(counts).toEqual([1, 3, 4])
  })

  test('are more where memory is not aligned as the addresses are', () => {
    const bytes = 2 * PAGE_SIZE_2M
    const options = { largestPage: PAGE_SIZE_2M }
    expect(tablesNeeded(virt(0), phys(PAGE_SIZE_2M), bytes, options)).toBe(2)
    expect(tablesNeeded(virt(0), phys(PAGE_SIZE), bytes, options)).toBe(4)
  })

  test('of a range that cannot be mapped are an error', () => {
    expect(() => tablesNeeded(virt(0), phys(0), 0x800)).toThrow(
      expect.objectContaining({ code: 'CORE_MISALIGNED' }),
    )
  })
})

const range = fc.record({
  page: fc.oneof(fc.nat(2000), fc.constantFrom(0, 512, 1024)),
  pages: fc.oneof(
    fc.integer({ min: 0, max: 60 }),
    fc.integer({ min: 500, max: 1200 }),
    fc.constant(2 ** 18 + 513),
  ),
  frame: fc.oneof(
    fc.nat(2 ** 18),
    fc.nat(300).map((value) => value * 512),
    fc.constant(2 ** 18),
  ),
  isLarge: fc.boolean(),
})

describe.each(WINDOWS.map((window) => [window.mode.name, window] as const))(
  'in %s paging',
  (_, window) => {
    const { mode } = window

    test('the count is what building an empty tree allocates', () => {
      fc.assert(
        fc.property(range, ({ page, pages, frame, isLarge }) => {
          const { builder, used } = emptyTables({ mode })
          const address = addressIn(window, page)
          const largestPage = isLarge ? largePage(mode) : PAGE_SIZE
          const bytes = pages * PAGE_SIZE
          const physical = phys(frame * PAGE_SIZE)
          const count = tablesNeeded(address, physical, bytes, { mode, largestPage })
          expect(builder.tablesNeeded(address, physical, bytes, { largestPage })).toBe(count)
          builder.mapRange(address, physical, bytes, { largestPage })
          expect(used.length - 1).toBe(count)
          expect(builder.tablesNeeded(address, physical, bytes, { largestPage })).toBe(0)
        }),
        { numRuns: 30 },
      )
    })

    test('the count of a builder is what is missing, splits included', () => {
      fc.assert(
        fc.property(script, range, (steps, { page, pages, frame, isLarge }) => {
          const { builder, used } = emptyTables({ mode })
          for (const each of steps) perform(builder, window, each)
          const before = used.length
          const address = addressIn(window, page)
          const options = { largestPage: isLarge ? largePage(mode) : PAGE_SIZE, replace: true }
          const bytes = pages * PAGE_SIZE
          const physical = phys(frame * PAGE_SIZE)
          const count = builder.tablesNeeded(address, physical, bytes, options)
          builder.mapRange(address, physical, bytes, options)
          expect(used.length - before).toBe(count)
        }),
        { numRuns: 30 },
      )
    })
  },
)
