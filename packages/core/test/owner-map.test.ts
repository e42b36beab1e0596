import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type FrameOwner, OwnerMap } from '../src/index.ts'

const KERNEL: FrameOwner = { kind: 'kernel', name: 'page cache' }
const IMAGE: FrameOwner = { kind: 'firmware', name: 'VariableRuntimeDxe' }
const FREE: FrameOwner = { kind: 'free', name: 'free' }

const FRAMES = 24
const change = fc.record({
  start: fc.nat(FRAMES),
  length: fc.nat(FRAMES),
  owner: fc.constantFrom(KERNEL, IMAGE, FREE, undefined),
})

const ownersOf = (map: OwnerMap): (FrameOwner | undefined)[] =>
  Array.from({ length: 2 * FRAMES }, (_, frame) => map.get(frame))

test('each frame has the owner that it was given last', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
      const map = new OwnerMap()
      const model: (FrameOwner | undefined)[] = Array.from({ length: 2 * FRAMES }, () => undefined)
      for (const { start, length, owner } of changes) {
        map.set(start, start + length, owner)
        model.fill(owner, start, start + length)
      }
      expect(ownersOf(map)).toEqual(model)
    }),
  )
})

test('intervals are ascending, cover what is owned, and neighbours differ', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
      const map = new OwnerMap()
      for (const { start, length, owner } of changes) map.set(start, start + length, owner)
      const covered: (FrameOwner | undefined)[] = Array.from(
        { length: 2 * FRAMES },
        () => undefined,
      )
      const intervals = [...map.intervals()]
      for (const { start, end, owner } of intervals) covered.fill(owner, start, end)
      for (const [index, { start, end, owner }] of intervals.entries()) {
        expect(end).toBeGreaterThan(start)
        const next = intervals[index + 1]
        expect(next?.start ?? Infinity).toBeGreaterThanOrEqual(end)
        expect(next?.start === end && next.owner === owner).toBe(false)
      }
      expect(covered).toEqual(ownersOf(map))
    }),
  )
})

test('a fork and its origin change apart from each other', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 6 }),
      fc.array(change, { maxLength: 6 }),
      fc.array(change, { maxLength: 6 }),
      (before, inFork, inOrigin) => {
        const apply = (map: OwnerMap, changes: typeof before): OwnerMap => {
          for (const { start, length, owner } of changes) map.set(start, start + length, owner)
          return map
        }
        const origin = apply(new OwnerMap(), before)
        const fork = origin.fork()
        apply(fork, inFork)
        apply(origin, inOrigin)
        expect(ownersOf(fork)).toEqual(ownersOf(apply(new OwnerMap(), [...before, ...inFork])))
        expect(ownersOf(origin)).toEqual(ownersOf(apply(new OwnerMap(), [...before, ...inOrigin])))
      },
    ),
  )
})

test('an empty range changes nothing', () => {
  const map = new OwnerMap()
  map.set(5, 5, KERNEL)
  map.set(7, 6, KERNEL)
  expect([...map.intervals()]).toEqual([])
})
