import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BITS_32_PSE,
  BROADWELL,
  FIVE_LEVEL,
  inspectAddress,
  type MapOptions,
  PAE,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  type PhysicalAddress,
  PhysicalMemory,
  type TableError,
  type TableResult,
  virt,
  type VirtualAddress,
} from '../src/index.ts'
import { emptyTables } from './empty-tables.ts'
import {
  addressIn,
  dump,
  inspectWindow,
  perform,
  script,
  step,
  translation,
  WINDOW_PAGES,
  type Window,
  WINDOWS,
} from './table-script.ts'

const modes = describe.each(WINDOWS.map((window) => [window.mode.name, window] as const))

/** What a page is in the model: where it leads and how. */
interface ModelPage {
  readonly physical: number
  readonly writable: boolean
  readonly user: boolean
  readonly executable: boolean
  readonly global: boolean
  readonly patIndex: number
}

/** A step that changes nothing but page sizes, where and how left open. */
const resize = {
  pages: 1,
  frame: 0,
  isLarge: true,
  flags: {
    writable: true,
    user: true,
    executable: true,
    global: true,
    writeThrough: true,
    cacheDisable: true,
  },
}

modes('in %s paging', (_, window) => {
  test('pages translate as a list of them says, whatever was mapped, unmapped, protected, split or merged', () => {
    fc.assert(
      fc.property(script, (steps) => {
        const { builder, context } = emptyTables({ mode: window.mode })
        const model = new Map<number, ModelPage>()
        const isWide = window.mode.entryBytes === 8
        for (const each of steps) {
          const result = perform(builder, window, each)
          const { kind, start, pages, frame, flags } = each
          if (!result.ok || kind === 'split' || kind === 'merge') continue
          for (let page = start; page < Math.min(start + pages, WINDOW_PAGES); page++) {
            if (kind === 'unmap') model.delete(page)
            else {
              model.set(page, {
                physical:
                  kind === 'map' ? (frame + page - start) * PAGE_SIZE : model.get(page)!.physical,
                writable: flags.writable,
                user: flags.user,
                executable: flags.executable || !isWide,
                global: flags.global,
                patIndex: (flags.cacheDisable ? 2 : 0) + (flags.writeThrough ? 1 : 0),
              })
            }
          }
        }
        for (let page = 0; page < WINDOW_PAGES; page += page % 512 < 3 ? 1 : 7) {
          const expected = model.get(page)
          expect(translation(context, addressIn(window, page))).toEqual(
            expected === undefined
              ? 'not-present'
              : { status: 'mapped', ...expected, protectionKey: 0 },
          )
        }
      }),
      { numRuns: 40 },
    )
  })

  test('what is unmapped is not present, and its neighbours stay', () => {
    fc.assert(
      fc.property(script, step, (steps, { start, pages }) => {
        const { builder, context } = emptyTables({ mode: window.mode })
        for (const each of steps) perform(builder, window, each)
        const before = [start - 1, start + pages].map((page) =>
          translation(context, addressIn(window, page)),
        )
        builder.unmapRange(addressIn(window, start), pages * PAGE_SIZE)
        for (const page of [start, start + pages - 1, start + (pages >> 1)]) {
          expect(inspectAddress(context, addressIn(window, page)).status).toBe('not-present')
        }
        const after = [start - 1, start + pages].map((page) =>
          translation(context, addressIn(window, page)),
        )
        expect(after).toEqual(before)
      }),
      { numRuns: 30 },
    )
  })

  test('splitting and merging keep every translation', () => {
    fc.assert(
      fc.property(script, fc.array(step, { maxLength: 6 }), (steps, others) => {
        const { builder, context } = emptyTables({ mode: window.mode })
        for (const each of steps) perform(builder, window, each)
        const translations = (): unknown[] =>
          Array.from({ length: WINDOW_PAGES / 8 }, (__, page) =>
            translation(context, addressIn(window, page * 8 + (page % 8))),
          )
        const before = translations()
        for (const { start, isLarge } of others) {
          perform(builder, window, { ...resize, start, kind: isLarge ? 'split' : 'merge' })
        }
        expect(translations()).toEqual(before)
      }),
      { numRuns: 20 },
    )
  })

  test('an obligation names exactly the pages that were present and were changed', () => {
    fc.assert(
      fc.property(script, step, (steps, last) => {
        const { builder, context } = emptyTables({ mode: window.mode })
        for (const each of steps) perform(builder, window, each)
        const before = inspectWindow(context, window)
        const result = perform(builder, window, last)
        const after = inspectWindow(context, window)
        const changed: string[] = []
        for (let page = 0; page < WINDOW_PAGES; page++) {
          const [one, other] = [before[page]!, after[page]!]
          if (one.status !== 'mapped') continue
          const isSame =
            other.status === 'mapped' &&
            other.pageSize === one.pageSize &&
            other.steps.at(-1)!.value === one.steps.at(-1)!.value
          if (!isSame) changed.push(`${page} of ${one.pageSize}`)
        }
        const named = (isTable: boolean): string[] =>
          (result.ok ? result.flush.ranges : [])
            .filter(({ pageSize }) => (pageSize === 'table') === isTable)
            .flatMap(({ start, bytes, pageSize }) =>
              Array.from({ length: bytes / PAGE_SIZE }, (__, nth) => {
                const page = Number(start - window.start) / PAGE_SIZE + nth
                return isTable ? before[page]!.status : `${page} of ${pageSize}`
              }),
            )
        // A table that is replaced is named where it mapped nothing.
        expect(named(true)).not.toContain('mapped')
        expect(named(false)).toEqual(changed)
        const left = builder.outstanding.at(-1)
        expect(result.ok && left === result.flush).toBe(changed.length + named(true).length > 0)
      }),
      { numRuns: 40 },
    )
  })

  test('what is written in a fork never shows in its parent', () => {
    fc.assert(
      fc.property(script, script, (steps, others) => {
        const { builder, memory, context, used } = emptyTables({ mode: window.mode })
        for (const each of steps) perform(builder, window, each)
        const before = dump(context)
        let next = used[0]! + used.length
        const fork = new PageTableBuilder(memory.fork(), builder.root, () => next++, {
          mode: window.mode,
        })
        for (const each of others) perform(fork, window, each)
        expect(dump(context)).toEqual(before)
      }),
      { numRuns: 30 },
    )
  })

  test('an operation that fails changes nothing', () => {
    fc.assert(
      fc.property(script, step, fc.nat(4), (steps, last, frames) => {
        let left = Infinity
        let next = 0x200
        const allocate = (): number | undefined => (left-- > 0 ? next++ : undefined)
        const { builder, context } = emptyTables({ mode: window.mode, allocate })
        for (const each of steps) perform(builder, window, each)
        left = frames
        const before = dump(context)
        const result = perform(builder, window, last)
        fc.pre(!result.ok)
        expect(dump(context)).toEqual(before)
      }),
      { numRuns: 20 },
    )
  })
})

const START = virt(0xffff_8800_4000_0000n)

/** What an operation fails with. */
function failure(result: TableResult<TableError>): TableError {
  if (result.ok) throw new Error('it did not fail')
  return result.error
}

/** What mapping a range fails with in tables that have page 5 mapped. */
function attempt(start: bigint, physical: number, bytes: number, options?: MapOptions): TableError {
  const { builder } = emptyTables()
  builder.mapRange(virt(0x5000n), phys(0x5000), PAGE_SIZE)
  return failure(
    builder.tryMapRange(start as VirtualAddress, physical as PhysicalAddress, bytes, options),
  )
}

describe('a mapping fails with', () => {
  test.each([
    ['misaligned, for a length', attempt(0n, 0, 0x800), { what: 'length', value: 0x800 }],
    ['misaligned, for an address', attempt(1n, 0, 0x1000), { what: 'address', value: 1n }],
    ['misaligned, for memory', attempt(0n, 1, 0x1000), { what: 'physical address', value: 1 }],
    ['out-of-range, for the hole', attempt(0x7fff_ffff_f000n, 0, 0x2000), { what: 'address' }],
    ['out-of-range, for 57 bits', attempt(2n ** 50n, 0, 0x1000), { what: 'address' }],
    ['out-of-range, for 2^52', attempt(0n, 2 ** 52, 0x1000), { what: 'physical address' }],
    [
      'bad-page-size',
      attempt(0n, 0, 0x1000, { largestPage: 0x40_0000 }),
      { known: [PAGE_SIZE, PAGE_SIZE_2M, PAGE_SIZE_1G] },
    ],
    [
      'already-mapped, and where',
      attempt(0x4000n, 0, 0x2000),
      { address: 0x5000n, table: 0x10_3000, index: 5 },
    ],
  ])('%s', (name, error, detail) => {
    expect(error).toMatchObject({ kind: name.split(',')[0], ...detail })
  })

  test('no-frame, when the allocator has fewer than it takes, and takes none of them then', () => {
    let frames = 2
    const { builder, context } = emptyTables({
      allocate: () => (frames-- > 0 ? 0x300 + frames : undefined),
    })
    const map = (): TableResult<TableError> => builder.tryMapRange(START, phys(0), PAGE_SIZE)
    expect(failure(map())).toEqual({ kind: 'no-frame', needed: 3 })
    expect(dump(context)).toEqual([])
    // The two that it was given are used as soon as there is a third.
    frames = 1
    expect(map().ok).toBe(true)
  })

  test('no-frame for a table that entries of 32 bits cannot point to: the allocator is wrong', () => {
    const { builder } = emptyTables({ mode: BITS_32_PSE, allocate: () => 2 ** 20 })
    expect(() => builder.mapRange(virt(0), phys(0), PAGE_SIZE)).toThrow(
      expect.objectContaining({ code: 'CORE_BAD_PHYSICAL_ADDRESS' }),
    )
  })
})

test('an error that is thrown says what the returned one does', () => {
  const { builder } = emptyTables()
  builder.mapRange(virt(0x5000n), phys(0x5000), PAGE_SIZE)
  expect(() => builder.mapRange(virt(0x4000n), phys(0), 0x2000)).toThrow(
    expect.objectContaining({
      code: 'CORE_ALREADY_MAPPED',
      found: '0x0000000000005000 mapped by entry 5 of the table at 0x0000000000103000',
      hint: 'pass replace: true to change a mapping',
    }),
  )
})

test('an allocator that throws is heard, and nothing is changed', () => {
  const { builder, context } = emptyTables({
    allocate: () => {
      throw new RangeError('memory is out')
    },
  })
  expect(() => builder.tryMapRange(START, phys(0), PAGE_SIZE)).toThrow(RangeError)
  expect(dump(context)).toEqual([])
})

describe('protecting', () => {
  test('a range with a hole fails with not-mapped, and where', () => {
    const { builder, context } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE)
    const before = dump(context)
    const result = builder.tryProtectRange(START, 2 * PAGE_SIZE, { writable: false })
    expect(failure(result)).toEqual({ kind: 'not-mapped', address: START + 0x1000n })
    expect(dump(context)).toEqual(before)
  })

  test('leaves flags alone that it is not given', () => {
    const { builder, context } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE, { user: true, global: true, executable: true })
    builder.protectRange(START, PAGE_SIZE, { writable: false, global: false })
    expect(inspectAddress(context, START)).toMatchObject({
      writable: false,
      user: true,
      executable: true,
      global: false,
    })
  })
})

describe('splitting', () => {
  test('a page of 1 GiB gives pages of 2 MiB, and one of these pages of 4 KiB', () => {
    const { builder, context } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE_1G, { largestPage: PAGE_SIZE_1G })
    const sizes: unknown[] = []
    for (let nth = 0; nth < 3; nth++) {
      sizes.push(inspectAddress(context, START + 0x12_3456n))
      builder.trySplitPage(virt(START + 0x12_3456n))
    }
    expect(sizes).toMatchObject([
      { pageSize: PAGE_SIZE_1G },
      { pageSize: PAGE_SIZE_2M },
      { pageSize: PAGE_SIZE },
    ])
  })

  test('keeps protection keys and what software put in an entry', () => {
    const { builder, memory, context } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
    const [, , leaf] = inspectAddress(context, START).steps
    memory.write64(
      leaf!.table + leaf!.index * 8,
      leaf!.value | (0xan << 59n) | (5n << 52n) | 0xe00n,
    )
    builder.splitPage(START)
    expect(inspectAddress(context, START + 0x1000n)).toMatchObject({ protectionKey: 10 })
    expect(inspectAddress(context, START + 0x1000n).steps.at(-1)!.value).toBe(
      (1n << 63n) | (0xan << 59n) | (5n << 52n) | 0x1e63n,
    )
  })

  test.each([
    ['not-mapped, where nothing is', 0x20_0000n],
    ['not-splittable, for the smallest page', 0n],
  ])('fails with %s', (name, offset) => {
    const { builder } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE)
    expect(failure(builder.trySplitPage(virt(START + offset)))).toMatchObject({
      kind: name.split(',')[0],
      address: START + offset,
    })
  })

  test('fails with not-splittable for a page of 4 MiB above 4 GiB, however it comes about', () => {
    const { builder, context } = emptyTables({ mode: BITS_32_PSE })
    const largestPage = 0x40_0000
    builder.mapRange(virt(0x40_0000n), phys(2 ** 32), largestPage, { largestPage })
    expect(inspectAddress(context, 0x40_5000n)).toMatchObject({ physical: 2 ** 32 + 0x5000 })
    const expected = { kind: 'not-splittable', address: 0x40_0000n, pageSize: largestPage }
    const page = virt(0x40_1000n)
    expect(failure(builder.trySplitPage(page))).toEqual(expected)
    expect(failure(builder.tryUnmapRange(page, PAGE_SIZE))).toEqual(expected)
    const replace = builder.tryMapRange(page, phys(0), PAGE_SIZE, { replace: true })
    expect(failure(replace)).toEqual(expected)
  })
})

describe('merging', () => {
  /** 2 MiB in pages of 4 KiB at {@link START}. */
  const smallPages = (options: MapOptions = {}): ReturnType<typeof emptyTables> => {
    const tables = emptyTables()
    tables.builder.mapRange(START, phys(PAGE_SIZE_2M), PAGE_SIZE_2M, options)
    return tables
  }

  test('gives the table back', () => {
    const { builder, context, released, used } = smallPages()
    builder.mergePages(START, PAGE_SIZE_2M)
    expect(released).toEqual([used.at(-1)])
    expect(inspectAddress(context, START)).toMatchObject({ pageSize: PAGE_SIZE_2M })
  })

  test('makes 1 GiB of pages of 2 MiB', () => {
    const { builder, context } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE_1G, { largestPage: PAGE_SIZE_2M })
    builder.mergePages(START, PAGE_SIZE_1G)
    expect(inspectAddress(context, START)).toMatchObject({ pageSize: PAGE_SIZE_1G, physical: 0 })
  })

  test('takes the rights away that the table took', () => {
    const { builder, context } = smallPages({ user: true, tableFlags: 0x61, executable: true })
    const before = translation(context, START)
    builder.mergePages(START, PAGE_SIZE_2M)
    expect(translation(context, START)).toEqual(before)
    expect(inspectAddress(context, START).steps.at(-1)!.value & 6n).toBe(0n)
  })

  test('makes a page that is dirty where one of them was', () => {
    const { builder, context } = smallPages()
    builder.changeRange(START, PAGE_SIZE_2M, (low, high) => [low & ~0x60, high])
    builder.changeRange(virt(START + 0x5000n), PAGE_SIZE, (low, high) => [low | 0x60, high])
    builder.mergePages(START, PAGE_SIZE_2M)
    expect(inspectAddress(context, START).steps.at(-1)!.value & 0x60n).toBe(0x60n)
  })

  test.each([
    ['hole', 3, () => undefined],
    ['physical', 4, (low: number, high: number) => [low + 0x1000, high] as const],
    ['flags', 5, (low: number, high: number) => [low & ~2, high] as const],
  ] as const)('fails with not-mergeable for %s, and where', (reason, page, change) => {
    const { builder, context } = smallPages()
    const address = virt(START + BigInt(page * PAGE_SIZE))
    builder.changeRange(address, PAGE_SIZE, change)
    const before = dump(context)
    const error = failure(builder.tryMergePages(START, PAGE_SIZE_2M))
    expect(error).toEqual({ kind: 'not-mergeable', address, reason })
    expect(dump(context)).toEqual(before)
  })

  test('fails with not-mergeable for memory that is not aligned', () => {
    const { builder } = emptyTables()
    builder.mapRange(START, phys(PAGE_SIZE), PAGE_SIZE_2M)
    const error = failure(builder.tryMergePages(START, PAGE_SIZE_2M))
    expect(error).toEqual({ kind: 'not-mergeable', address: START, reason: 'physical' })
  })

  test('fails with not-mergeable for pages that are smaller yet, or large already', () => {
    const { builder } = smallPages()
    const error = failure(builder.tryMergePages(START, PAGE_SIZE_1G))
    expect(error).toMatchObject({ kind: 'not-mergeable', reason: 'table' })
    builder.mergePages(START, PAGE_SIZE_2M)
    const again = failure(builder.tryMergePages(START, PAGE_SIZE_2M))
    expect(again).toMatchObject({ kind: 'not-mergeable', reason: 'no-table' })
  })

  test.each([
    ['misaligned', START + 0x1000n, PAGE_SIZE_2M],
    ['bad-page-size', START, PAGE_SIZE],
    ['not-mapped', START + 0x4000_0000n, PAGE_SIZE_2M],
    ['out-of-range', 2n ** 50n, PAGE_SIZE_2M],
  ] as const)('fails with %s', (kind, address, pageSize) => {
    const { builder } = smallPages()
    const result = builder.tryMergePages(address as VirtualAddress, pageSize)
    expect(failure(result)).toMatchObject({ kind })
  })
})

describe('large pages and tables', () => {
  test('a table in which nothing is mapped any more gives way to a large page', () => {
    const { builder, context, released, used } = emptyTables()
    builder.mapRange(START, phys(0), PAGE_SIZE_2M)
    const table = used.at(-1)
    builder.unmapRange(START, PAGE_SIZE_2M)
    const flush = builder.mapRange(START, phys(0), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
    expect(inspectAddress(context, START)).toMatchObject({ pageSize: PAGE_SIZE_2M })
    expect(released).toEqual([table])
    // A CPU may still go to the table by its paging-structure caches.
    expect(flush.ranges).toEqual([{ start: START, bytes: PAGE_SIZE_2M, pageSize: 'table' }])
  })

  test('a table with one page left does not, unless it may be replaced', () => {
    const { builder, context } = emptyTables()
    const largestPage = PAGE_SIZE_2M
    builder.mapRange(virt(START + 0x7000n), phys(0), PAGE_SIZE)
    const refused = builder.tryMapRange(START, phys(0), PAGE_SIZE_2M, { largestPage })
    expect(failure(refused)).toMatchObject({ kind: 'already-mapped' })
    const { ranges } = builder.mapRange(START, phys(0), PAGE_SIZE_2M, {
      largestPage,
      replace: true,
    })
    expect(inspectAddress(context, START)).toMatchObject({ pageSize: PAGE_SIZE_2M })
    expect(ranges).toEqual([{ start: START + 0x7000n, bytes: PAGE_SIZE, pageSize: PAGE_SIZE }])
  })
})

test('small pages in place of a whole large one name it', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(START, phys(0), PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
  const { ranges } = builder.mapRange(START, phys(0x5000), PAGE_SIZE_2M, { replace: true })
  expect(ranges).toEqual([{ start: START, bytes: PAGE_SIZE_2M, pageSize: PAGE_SIZE_2M }])
  expect(inspectAddress(context, START)).toMatchObject({ physical: 0x5000, pageSize: PAGE_SIZE })
})

test('a change that ends inside the last of several large pages splits that one', () => {
  const { builder, context, used } = emptyTables()
  builder.mapRange(START, phys(0), 4 * PAGE_SIZE_2M, { largestPage: PAGE_SIZE_2M })
  const before = used.length
  builder.protectRange(START, 3 * PAGE_SIZE_2M + PAGE_SIZE, { user: true })
  builder.unmapRange(START, 2 * PAGE_SIZE_2M + PAGE_SIZE)
  expect(used.length - before).toBe(2)
  const statuses = [0, 2 * PAGE_SIZE_2M, 2 * PAGE_SIZE_2M + PAGE_SIZE, 3 * PAGE_SIZE_2M].map(
    (offset) => inspectAddress(context, START + BigInt(offset)),
  )
  expect(statuses).toMatchObject([
    { status: 'not-present' },
    { status: 'not-present' },
    { user: true, pageSize: PAGE_SIZE },
    { user: true, pageSize: PAGE_SIZE },
  ])
})

describe('an identity map', () => {
  test('of 64 TiB takes the largest pages by itself, and 128 tables', () => {
    const { builder, context, used } = emptyTables()
    builder.identityMap(phys(0), 2 ** 46, { global: true, executable: true })
    expect(used.length - 1).toBe(128)
    for (const address of [0n, 0x1234_5678_9abcn, 2n ** 46n - 1n]) {
      expect(inspectAddress(context, address)).toMatchObject({
        physical: Number(address),
        pageSize: PAGE_SIZE_1G,
        global: true,
        executable: true,
      })
    }
    expect(inspectAddress(context, 2n ** 46n).status).toBe('not-present')
  })

  test('of 4 GiB fills PAE paging', () => {
    const { builder, context } = emptyTables({ mode: PAE, root: 0x10_0020 })
    builder.identityMap(phys(0), 2 ** 32)
    expect(inspectAddress(context, 0xffff_ffffn)).toMatchObject({
      physical: 0xffff_ffff,
      pageSize: PAGE_SIZE_2M,
    })
  })

  test('of what its mode cannot address fails with out-of-range', () => {
    const { builder } = emptyTables()
    expect(failure(builder.tryIdentityMap(phys(2 ** 47), PAGE_SIZE_1G))).toMatchObject({
      kind: 'out-of-range',
    })
    const features = { ...BROADWELL, maxPhysicalAddressBits: 52 }
    const wide = emptyTables({ mode: FIVE_LEVEL, features })
    wide.builder.identityMap(phys(2 ** 47), PAGE_SIZE_1G)
    expect(inspectAddress(wide.context, 2n ** 47n)).toMatchObject({ physical: 2 ** 47 })
  })
})

test('physical addresses carry from the low half of an entry into the high half', () => {
  for (const largestPage of [PAGE_SIZE, PAGE_SIZE_2M, PAGE_SIZE_1G]) {
    const { builder, context } = emptyTables()
    const physical = 2 ** 32 - PAGE_SIZE_1G
    builder.mapRange(START, phys(physical), 2 * PAGE_SIZE_1G, { largestPage })
    for (const offset of [0, PAGE_SIZE_1G - 1, PAGE_SIZE_1G, 2 * PAGE_SIZE_1G - 1]) {
      expect(inspectAddress(context, START + BigInt(offset))).toMatchObject({
        physical: physical + offset,
        pageSize: largestPage,
      })
    }
  }
})

test('tables of a flat window are built as those of sparse memory are', () => {
  fc.assert(
    fc.property(script, fc.constantFrom(...WINDOWS), (steps, window: Window) => {
      const flat = emptyTables({
        mode: window.mode,
        memory: new PhysicalMemory({ flatWindow: 0x40_0000 }),
      })
      // What lay there before must not show.
      flat.memory.fill(0x10_1000, 0x40_0000, -1)
      const sparse = emptyTables({ mode: window.mode })
      for (const each of steps) {
        perform(flat.builder, window, each)
        perform(sparse.builder, window, each)
      }
      expect(dump(flat.context)).toEqual(dump(sparse.context))
    }),
    { numRuns: 40 },
  )
})

test('a change is noted for tables that a processor has walked through', () => {
  const { builder, memory } = emptyTables()
  builder.mapRange(START, phys(0), 4 * PAGE_SIZE)
  memory.watchTable(0x103)
  const { epoch } = memory.tables
  builder.unmapRange(virt(START + 0x1000n), PAGE_SIZE)
  expect(memory.tables.lastChange(0x103, 2, epoch)).toBeDefined()
  expect(memory.tables.lastChange(0x103, 0, epoch)).toBeUndefined()
  expect(memory.tables.lastChange(0x103, 4, epoch)).toBeUndefined()
})
