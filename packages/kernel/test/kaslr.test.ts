import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LAYOUT_4_20, LAYOUT_4_20_LA57, randomizeLayout } from '../src/index.ts'

const GIBIBYTE = 2n ** 30n

describe('a randomized layout', () => {
  test.each([LAYOUT_4_20, LAYOUT_4_20_LA57])(
    'of $name stays where the original was, in its order',
    (layout) => {
      fc.assert(
        fc.property(fc.integer(), fc.integer({ min: 1, max: 2 ** 40 }), (seed, memory) => {
          const random = randomizeLayout(layout, seed, memory)
          expect(random.pageOffset).toBeGreaterThanOrEqual(layout.pageOffset)
          expect(random.pageOffsetEnd - random.pageOffset).toBeGreaterThanOrEqual(BigInt(memory))
          expect(random.vmallocStart).toBeGreaterThanOrEqual(random.pageOffsetEnd)
          expect(random.vmallocEnd).toBeLessThanOrEqual(layout.vmallocEnd)
          expect(random.pageOffset % GIBIBYTE).toBe(0n)
          expect(random.vmallocStart % GIBIBYTE).toBe(0n)
          expect(random.modulesStart).toBe(layout.modulesStart)
        }),
      )
    },
  )

  test('is the same for the same seed, and another for another', () => {
    const starts = [7, 7, 8, 9, 10, 11].map(
      (seed) => randomizeLayout(LAYOUT_4_20, seed, 2 ** 32).pageOffset,
    )
    expect(starts[0]).toBe(starts[1])
    expect(new Set(starts).size).toBe(5)
  })
})
