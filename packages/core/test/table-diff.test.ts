import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  diffTables,
  FIVE_LEVEL,
  mappedRanges,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  virt,
} from '../src/index.ts'
import { type EmptyTables, emptyTables } from './empty-tables.ts'
import { addressIn, dump, inspectWindow, perform, script, step, WINDOWS } from './table-script.ts'

const START = virt(0xffff_8800_4000_0000n)

/** A second tree in the same memory. */
function beside({ memory, builder }: EmptyTables): EmptyTables {
  return emptyTables({ memory, mode: builder.mode, root: 0x800_0000 })
}

describe.each(WINDOWS.map((window) => [window.mode.name, window] as const))(
  'in %s paging',
  (_, window) => {
    test('the differences of two trees, applied to the first, make it the second', () => {
      fc.assert(
        fc.property(script, script, fc.boolean(), (steps, others, isOneMemory) => {
          const first = emptyTables({ mode: window.mode })
          const second = isOneMemory ? beside(first) : emptyTables({ mode: window.mode })
          for (const each of steps) perform(first.builder, window, each)
          for (const each of others) perform(second.builder, window, each)
          const differences = diffTables(first.context, second.context)
          first.builder.applyDiff(differences)
          expect(dump(first.context)).toEqual(dump(second.context))
          expect(diffTables(first.builder, second.builder)).toEqual([])
        }),
        { numRuns: 40 },
      )
    })

    test('and so do those of a tree and what became of it in a fork', () => {
      fc.assert(
        fc.property(script, script, (steps, others) => {
          const { builder, memory, used, context } = emptyTables({ mode: window.mode })
          for (const each of steps) perform(builder, window, each)
          let next = used[0]! + used.length
          const fork = new PageTableBuilder(memory.fork(), builder.root, () => next++, {
            mode: window.mode,
          })
          for (const each of others) perform(fork, window, each)
          builder.applyDiff(diffTables(builder, fork))
          expect(dump(context)).toEqual(dump({ ...context, memory: fork.memory }))
        }),
        { numRuns: 40 },
      )
    })

    test('applying them names every page that was present and is another now', () => {
      fc.assert(
        fc.property(script, fc.array(step, { maxLength: 2 }), (steps, others) => {
          const first = emptyTables({ mode: window.mode })
          const second = beside(first)
          for (const each of steps) perform(first.builder, window, each)
          for (const each of [...steps, ...others]) perform(second.builder, window, each)
          const before = inspectWindow(first.context, window)
          const { ranges } = first.builder.applyDiff(diffTables(first.builder, second.builder))
          const after = inspectWindow(first.context, window)
          const changed = before.flatMap((one, page) => {
            const other = after[page]!
            const isSame =
              other.status === 'mapped' && other.steps.at(-1)!.value === one.steps.at(-1)!.value
            return one.status === 'mapped' && !isSame ? [addressIn(window, page)] : []
          })
          const unnamed = changed.filter(
            (address) =>
              !ranges.some(
                ({ start, bytes }) => start <= address && address < start + BigInt(bytes),
              ),
          )
          expect(unnamed).toEqual([])
          const starts = ranges.map(({ start }) => start)
          expect(starts).toEqual(starts.toSorted((a, b) => (a < b ? -1 : 1)))
        }),
        { numRuns: 20 },
      )
    })
  },
)

test('a range that was added is one run of tables at each level, and one of leaves', () => {
  const { memory, builder } = emptyTables()
  const fork = new PageTableBuilder(memory.fork(), builder.root, () => builder.root / 4096 + ++next)
  let next = 0
  fork.mapRange(START, phys(0x1_0000_0000), 4 * PAGE_SIZE_2M)
  expect(
    diffTables(builder, fork).map(({ kind, entry, index, count, start, bytes, after }) => [
      kind,
      entry,
      index,
      count,
      start,
      bytes,
      after.content,
      after.step,
    ]),
  ).toEqual([
    ['added', 'PML4E', 272, 1, 0xffff_8800_0000_0000n, 512 * PAGE_SIZE_1G, 'table', 0],
    ['added', 'PDPTE', 1, 1, START, PAGE_SIZE_1G, 'table', 0],
    ['added', 'PDE', 0, 4, START, 4 * PAGE_SIZE_2M, 'table', 0],
    ['added', 'PTE', 0, 2048, START, 4 * PAGE_SIZE_2M, 'value', PAGE_SIZE],
  ])
})

test('a run of pages goes on where physical addresses pass 4 GiB', () => {
  const first = emptyTables()
  const second = beside(first)
  second.builder.mapRange(START, phys(2 ** 32 - PAGE_SIZE), 2 * PAGE_SIZE)
  expect(diffTables(first.builder, second.builder).at(-1)).toMatchObject({
    entry: 'PTE',
    count: 2,
    after: { entry: 0x8000_0000_ffff_f063n, step: PAGE_SIZE },
  })
  first.builder.applyDiff(diffTables(first.builder, second.builder))
  expect(dump(first.context)).toEqual(dump(second.context))
})

test('a split is a changed entry, and the pages that are below it now', () => {
  const { memory, builder } = emptyTables()
  builder.mapRange(START, phys(0), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
  const fork = new PageTableBuilder(memory.fork(), builder.root, () => 0x500)
  fork.splitPage(START)
  expect(diffTables(builder, fork)).toMatchObject([
    {
      kind: 'changed',
      entry: 'PDE',
      count: 1,
      before: { content: 'value', entry: 0x8000_0000_0000_00e3n },
      after: { content: 'table' },
    },
    { kind: 'added', entry: 'PTE', count: 512, after: { entry: 0x8000_0000_0000_0063n } },
  ])
})

test('flags of a table that changed are set where the table is, and all below it is named', () => {
  const first = emptyTables()
  const second = beside(first)
  first.builder.mapRange(START, phys(0), PAGE_SIZE)
  second.builder.mapRange(START, phys(0x5000), PAGE_SIZE, { tableFlags: 0x65 })
  const { ranges } = first.builder.applyDiff(diffTables(first.builder, second.builder))
  expect(dump(first.context)).toEqual(dump(second.context))
  expect(first.used).toHaveLength(4)
  expect(ranges).toEqual([
    { start: 0xffff_8800_0000_0000n, bytes: 512 * PAGE_SIZE_1G, pageSize: 'table' },
  ])
})

test('pages that changed do not hide a table that did, behind the first of them', () => {
  const first = emptyTables()
  const second = beside(first)
  const [changed, rest] = [virt(START + 0xa000n), virt(START + 0x20_0000n)]
  first.builder.mapRange(START, phys(0), 2 * PAGE_SIZE_2M)
  second.builder.mapRange(rest, phys(PAGE_SIZE_2M), PAGE_SIZE_2M, { tableFlags: 0x65 })
  second.builder.mapRange(START, phys(0), PAGE_SIZE_2M)
  const bytes = 590 * PAGE_SIZE
  second.builder.mapRange(changed, phys(PAGE_SIZE_1G), bytes, { replace: true })
  // The flags of the tables above differ too, which would name everything.
  const differences = diffTables(first.builder, second.builder).filter(({ depth }) => depth > 1)
  expect(first.builder.applyDiff(differences).ranges).toEqual([
    { start: changed, bytes, pageSize: PAGE_SIZE },
    { start: rest, bytes: PAGE_SIZE_2M, pageSize: 'table' },
  ])
})

test('a table that was moved is no difference', () => {
  const first = emptyTables()
  const second = beside(first)
  for (const { builder } of [first, second]) builder.mapRange(START, phys(0), PAGE_SIZE_2M)
  expect(diffTables(first.builder, second.builder)).toEqual([])
})

test('accessed and dirty flags count unless they are said not to', () => {
  const first = emptyTables()
  const second = beside(first)
  for (const { builder } of [first, second]) builder.mapRange(START, phys(0), 2 * PAGE_SIZE)
  second.builder.changeRange(START, 2 * PAGE_SIZE, (low, high) => [low & ~0x60, high])
  expect(diffTables(first.builder, second.builder)).toMatchObject([
    { kind: 'changed', entry: 'PTE', count: 2 },
  ])
  const options = { accessedDirty: false }
  expect(diffTables(first.builder, second.builder, options)).toEqual([])
})

test('a table that is gone goes back to who gave it, with those below it', () => {
  const first = emptyTables()
  const second = beside(first)
  first.builder.mapRange(START, phys(0), PAGE_SIZE)
  first.builder.applyDiff(diffTables(first.builder, second.builder))
  expect(first.released.toSorted((a, b) => a - b)).toEqual(first.used.slice(1))
  expect(mappedRanges(first.context).ranges).toEqual([])
})

describe('differences are refused', () => {
  test('of trees of different modes', () => {
    const wide = emptyTables({ mode: FIVE_LEVEL })
    expect(() => diffTables(emptyTables().builder, wide.builder)).toThrow(
      expect.objectContaining({ code: 'CORE_MODE_MISMATCH' }),
    )
  })

  test('by a tree that they were not taken from, which stays as it was', () => {
    const first = emptyTables()
    const second = beside(first)
    second.builder.mapRange(START, phys(0), PAGE_SIZE)
    const differences = diffTables(first.builder, second.builder)
    first.builder.mapRange(START, phys(0x5000), PAGE_SIZE)
    const before = dump(first.context)
    expect(first.builder.tryApplyDiff(differences)).toEqual({
      ok: false,
      error: { kind: 'not-applicable', address: 0xffff_8800_0000_0000n },
    })
    expect(dump(first.context)).toEqual(before)
  })
})
