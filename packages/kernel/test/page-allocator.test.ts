import { type FrameOwner, PhysicalMemory } from '@trapdoor/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { KernelPanic, PageAllocator } from '../src/index.ts'

const OWNER: FrameOwner = { kind: 'kernel', name: 'page tables' }
/** The first frame above ZONE_DMA. */
const NORMAL = 0x1000

const allocatorFor = (...ranges: readonly [start: number, end: number][]): PageAllocator =>
  new PageAllocator(
    new PhysicalMemory(),
    ranges.map(([start, end]) => ({ start, end })),
  )

test('the lowest frames above ZONE_DMA go first', () => {
  const allocator = allocatorFor([0x10, 0x20], [0xff0, 0x1010], [0x2000, 0x3000])
  expect([allocator.allocate(OWNER), allocator.allocate(OWNER)]).toEqual([NORMAL, NORMAL + 1])
})

test('ZONE_DMA is for when there is nothing else', () => {
  const allocator = allocatorFor([0x10, 0x12], [NORMAL, NORMAL + 1])
  const frames = [allocator.allocate(OWNER), allocator.allocate(OWNER), allocator.allocate(OWNER)]
  expect(frames).toEqual([NORMAL, 0x10, 0x11])
  expect(allocator.freeRanges).toEqual([])
})

test('contiguous frames come from one range', () => {
  const allocator = allocatorFor([NORMAL, NORMAL + 3], [0x2000, 0x2008])
  expect(allocator.allocate(OWNER, 4)).toBe(0x2000)
  expect(allocator.allocate(OWNER, 3)).toBe(NORMAL)
})

test('frames are aligned, and kept below a limit, as asked', () => {
  const allocator = allocatorFor([NORMAL + 1, NORMAL + 0x400])
  expect(allocator.allocate(OWNER, 2, { align: 0x200 })).toBe(NORMAL + 0x200)
  expect(allocator.allocate(OWNER, 1, { below: NORMAL + 2 })).toBe(NORMAL + 1)
})

test('from above, the highest place counts, in the highest range that has one', () => {
  const allocator = allocatorFor([0x2000, 0x3010], [0x4000, 0x4008])
  expect(allocator.allocate(OWNER, 2, { topDown: true })).toBe(0x4006)
  expect(allocator.allocate(OWNER, 0x10, { topDown: true, align: 0x100 })).toBe(0x3000)
  expect(allocator.allocate(OWNER, 4, { topDown: true, below: 0x2800 })).toBe(0x27fc)
  expect(allocator.tryAllocate(OWNER, 8, { topDown: true, from: 0x4000 })).toBeUndefined()
})

test('frames that are handed out belong to who asked', () => {
  const memory = new PhysicalMemory()
  const allocator = new PageAllocator(memory, [{ start: NORMAL, end: NORMAL + 8 }])
  const start = allocator.allocate(OWNER, 2)
  const owners = [start - 1, start, start + 1, start + 2].map((frame) => memory.owners.get(frame))
  expect(owners).toEqual([undefined, OWNER, OWNER, undefined])
})

test('without enough contiguous frames the kernel panics, and says for whom', () => {
  const allocator = allocatorFor([NORMAL, NORMAL + 2], [0x2000, 0x2002])
  expect(() => allocator.allocate(OWNER, 3)).toThrow(KernelPanic)
  expect(() => allocator.allocate(OWNER, 3)).toThrow('page tables')
  expect(() => allocator.allocate(OWNER, 1, { below: 0x10 })).toThrow(KernelPanic)
})

test('the ranges that it was made from stay the caller’s', () => {
  const ranges = [{ start: NORMAL, end: NORMAL + 4 }]
  new PageAllocator(new PhysicalMemory(), ranges).allocate(OWNER)
  expect(ranges).toEqual([{ start: NORMAL, end: NORMAL + 4 }])
})

const FRAMES = 0x60
const BASE = NORMAL - 0x30

const step = fc.oneof(
  fc.record({
    allocate: fc.integer({ min: 1, max: 9 }),
    align: fc.constantFrom(1, 2, 8),
    below: fc.constantFrom(Number.POSITIVE_INFINITY, BASE + 0x20, BASE + 0x50),
  }),
  fc.record({ reserve: fc.nat(FRAMES), length: fc.integer({ min: 1, max: 12 }) }),
)

/** A set of frames as ascending ranges. */
function rangesOf(frames: ReadonlySet<number>): { start: number; end: number }[] {
  const ranges: { start: number; end: number }[] = []
  for (const frame of [...frames].toSorted((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last?.end === frame) last.end++
    else ranges.push({ start: frame, end: frame + 1 })
  }
  return ranges
}

/** The frame that was handed out, or undefined where the kernel panicked. */
function frameOrPanic(allocate: () => number): number | undefined {
  try {
    return allocate()
  } catch (error) {
    if (error instanceof KernelPanic) return undefined
    throw error
  }
}

test('nothing is handed out twice, and nothing that was reserved or never free', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(FRAMES - 1), { maxLength: FRAMES }),
      fc.array(step, { maxLength: 30 }),
      (holes, steps) => {
        // The model: a set of free frames.
        const free = new Set<number>()
        for (let frame = BASE; frame < BASE + FRAMES; frame++) {
          if (!holes.includes(frame - BASE)) free.add(frame)
        }
        const fits = (start: number, count: number): boolean =>
          Array.from({ length: count }, (_, index) => start + index).every((at) => free.has(at))
        const allocator = new PageAllocator(new PhysicalMemory(), rangesOf(free))
        for (const action of steps) {
          let start = BASE
          let count = 0
          let found: number | undefined
          let expected: number | undefined
          if ('reserve' in action) {
            start += action.reserve
            count = action.length
            allocator.reserve(start, start + count)
          } else {
            count = action.allocate
            const { align, below } = action
            const candidates = [...free]
              .toSorted((a, b) => a - b)
              .filter((at) => at % align === 0 && at + count <= below && fits(at, count))
            expected = candidates.find((at) => at >= NORMAL) ?? candidates[0]
            found = frameOrPanic(() => allocator.allocate(OWNER, count, { align, below }))
            start = expected ?? 0
          }
          expect(found).toBe(expected)
          for (let frame = start; frame < start + count; frame++) free.delete(frame)
          expect(allocator.freeRanges).toEqual(rangesOf(free))
        }
      },
    ),
  )
})
