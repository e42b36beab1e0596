import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  inspectAddress,
  physicalAt,
  type Inspection,
  type MapOptions,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  phys,
  truncateVirt,
  virt,
} from '../src/index.ts'
import { emptyTables } from './empty-tables.ts'

/** What a 4 KiB page is in the model: where it leads and how. */
interface ModelPage {
  readonly physical: number
  readonly writable: boolean
  readonly user: boolean
  readonly executable: boolean
  readonly global: boolean
  readonly patIndex: number
}

function pageOf(inspection: Inspection): ModelPage | undefined {
  if (inspection.status !== 'mapped') return undefined
  const { physical, writable, user, executable, global, patIndex } = inspection
  return { physical, writable, user, executable, global, patIndex }
}

/** The window of the address space that the model knows page by page: the last 3 MiB before a GiB boundary and the first 3 after it. */
const WINDOW_START = 0xffff_8800_3fd0_0000n
const WINDOW_PAGES = 1536

const flags = fc.record({
  writable: fc.boolean(),
  user: fc.boolean(),
  executable: fc.boolean(),
  global: fc.boolean(),
  writeThrough: fc.boolean(),
  cacheDisable: fc.boolean(),
})

const step = fc.record({
  kind: fc.constantFrom('map', 'map', 'unmap', 'read-only'),
  // Aligned to 2 MiB often enough for large pages to fit.
  start: fc.oneof(fc.nat(WINDOW_PAGES - 1), fc.constantFrom(0, 256, 768, 1280)),
  pages: fc.oneof(fc.nat(40), fc.constantFrom(512, 513, 1024, 1280)),
  frame: fc.oneof(
    fc.nat(2 ** 24),
    fc.nat(2 ** 15).map((value) => value * 512),
  ),
  largestPage: fc.constantFrom(PAGE_SIZE, PAGE_SIZE_2M),
  flags,
})

test('tables translate as a list of pages does, whatever was mapped, unmapped or made read-only', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const { builder, context } = emptyTables()
      const model = new Map<number, ModelPage>()
      for (const { kind, start, pages, frame, largestPage, flags: options } of steps) {
        const count = Math.min(pages, WINDOW_PAGES - start)
        const address = virt(WINDOW_START + BigInt(start) * 4096n)
        const bytes = count * PAGE_SIZE
        if (kind === 'map') {
          builder.mapRange(address, phys(frame * PAGE_SIZE), bytes, {
            ...options,
            largestPage,
            replace: true,
          })
        } else if (kind === 'unmap') builder.unmapRange(address, bytes)
        else builder.changeRange(address, bytes, (low, high) => [low & ~2, high])
        for (let page = start; page < start + count; page++) {
          const present = model.get(page)
          if (kind === 'map') {
            model.set(page, {
              physical: (frame + page - start) * PAGE_SIZE,
              writable: options.writable,
              user: options.user,
              executable: options.executable,
              global: options.global,
              patIndex: (options.cacheDisable ? 2 : 0) + (options.writeThrough ? 1 : 0),
            })
          } else if (kind === 'unmap') model.delete(page)
          else if (present !== undefined) model.set(page, { ...present, writable: false })
        }
      }
      for (let page = 0; page < WINDOW_PAGES; page += page % 512 < 3 ? 1 : 7) {
        const address = WINDOW_START + BigInt(page) * 4096n
        const inspection = inspectAddress(context, address)
        expect(pageOf(inspection)).toEqual(model.get(page))
        expect(physicalAt(context, address)).toBe(
          inspection.status === 'mapped' ? inspection.physical : undefined,
        )
      }
    }),
    { numRuns: 60 },
  )
})

describe('large pages', () => {
  const START = virt(0xffff_8800_4000_0000n)

  test('are as large as alignment, length and the caller allow', () => {
    const { builder, context } = emptyTables()
    const sizes = (start: bigint, physical: number, bytes: number): number[] => {
      builder.mapRange(virt(start), phys(physical), bytes, { largestPage: PAGE_SIZE_1G })
      const found: number[] = []
      for (let at = start; at < start + BigInt(bytes);) {
        const inspection = inspectAddress(context, at)
        if (inspection.status !== 'mapped') throw new Error('a hole')
        found.push(inspection.pageSize)
        at += BigInt(inspection.pageSize)
      }
      return found
    }
    expect(sizes(START, PAGE_SIZE_1G, PAGE_SIZE_1G + PAGE_SIZE_2M + PAGE_SIZE)).toEqual([
      PAGE_SIZE_1G,
      PAGE_SIZE_2M,
      PAGE_SIZE,
    ])
    // The address is aligned to 1 GiB, what it maps to is not.
    expect(new Set(sizes(0x80_0000_0000n, PAGE_SIZE_2M, PAGE_SIZE_1G))).toEqual(
      new Set([PAGE_SIZE_2M]),
    )
  })

  test('are split where a change ends inside them, and the rest stays what it was', () => {
    const { builder, context } = emptyTables()
    const options: MapOptions = {
      largestPage: PAGE_SIZE_1G,
      user: true,
      global: true,
      executable: true,
      cacheDisable: true,
      // What the tables of a split may take away shows in the pages beside the change.
      tableFlags: 0x67,
    }
    builder.mapRange(START, phys(PAGE_SIZE_1G), PAGE_SIZE_1G, options)
    const before = pageOf(inspectAddress(context, START))
    builder.unmapRange(virt(START + 0x40_3000n), PAGE_SIZE)
    expect(inspectAddress(context, START + 0x40_3000n).status).toBe('not-present')
    for (const offset of [0, 0x40_2000, 0x40_4000, 0x60_0000, PAGE_SIZE_1G - PAGE_SIZE]) {
      expect(pageOf(inspectAddress(context, START + BigInt(offset)))).toEqual({
        ...before,
        physical: PAGE_SIZE_1G + offset,
      })
    }
    expect(inspectAddress(context, START)).toMatchObject({ pageSize: PAGE_SIZE_2M })
  })

  test('keep their PAT bit when they are split, at both sizes', () => {
    const { builder, memory, context } = emptyTables()
    builder.mapRange(START, phys(PAGE_SIZE_1G), PAGE_SIZE_1G, { largestPage: PAGE_SIZE_1G })
    const [, leaf] = inspectAddress(context, START).steps
    memory.write64(leaf!.table + leaf!.index * 8, leaf!.value | 0x1000n)
    builder.changeRange(START, PAGE_SIZE, (low, high) => [low, high])
    const patIndexes = [0n, 0x1000n, 0x20_0000n].map((offset) => {
      const inspection = inspectAddress(context, START + offset)
      return inspection.status === 'mapped'
        ? [inspection.pageSize, inspection.patIndex, inspection.physical]
        : inspection.status
    })
    expect(patIndexes).toEqual([
      [PAGE_SIZE, 4, PAGE_SIZE_1G],
      [PAGE_SIZE, 4, PAGE_SIZE_1G + 0x1000],
      [PAGE_SIZE_2M, 4, PAGE_SIZE_1G + 0x20_0000],
    ])
  })

  test('that are split by a mapping with narrow tables keep the rights of their neighbours', () => {
    const { builder, context } = emptyTables()
    const options = { largestPage: PAGE_SIZE_2M, user: true }
    builder.mapRange(START, phys(PAGE_SIZE_2M), PAGE_SIZE_2M, options)
    builder.mapRange(START, phys(0x5000), PAGE_SIZE, { replace: true, tableFlags: 0x21 })
    expect(inspectAddress(context, START + 0x1000n)).toMatchObject({ user: true, writable: true })
  })
})

test('a table that was handed out dirty is cleared before use', () => {
  const { builder, memory, context } = emptyTables()
  memory.fill(0x10_1000, 0x10_8000, -1)
  builder.mapRange(virt(0x1000n), phys(0x7000), PAGE_SIZE)
  expect(inspectAddress(context, 0x1000n)).toMatchObject({ physical: 0x7000 })
  expect(inspectAddress(context, 0x2000n).status).toBe('not-present')
})

test('the flags of new tables are the caller’s', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x7000), PAGE_SIZE, { user: true, tableFlags: 0x63 })
  expect(inspectAddress(context, 0x1000n)).toMatchObject({ user: false, writable: true })
})

test('leaves are made accessed and dirty, as Linux makes them', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(virt(0x1000n), phys(0x7000), PAGE_SIZE, { global: true, executable: true })
  expect(inspectAddress(context, 0x1000n).steps.at(-1)?.value).toBe(0x7163n)
})

test('a raw entry is written as it is', () => {
  const { builder, context } = emptyTables()
  builder.writeEntry(virt(0x1000n), 0xdead_beef_0000_0000n)
  expect(inspectAddress(context, 0x1000n).steps.at(-1)?.value).toBe(0xdead_beef_0000_0000n)
})

/** Maps a range in tables that have page 5 mapped. */
const mapping =
  (start: bigint, physical: number, bytes: number, options: MapOptions = {}) =>
  (): void => {
    const { builder } = emptyTables()
    builder.mapRange(virt(0x5000n), phys(0x5000), PAGE_SIZE)
    builder.mapRange(truncateVirt(start), phys(physical), bytes, options)
  }

describe('what cannot be mapped is refused:', () => {
  test.each([
    ['half a page', mapping(0x1000n, 0x1000, 0x800), 'CORE_MISALIGNED'],
    ['an address inside a page', mapping(0x1001n, 0x1000, 0x1000), 'CORE_MISALIGNED'],
    ['a physical address inside a page', mapping(0x1000n, 0x1001, 0x1000), 'CORE_MISALIGNED'],
    ['a page of 8 KiB', mapping(0n, 0, 0x2000, { largestPage: 0x2000 }), 'CORE_BAD_RANGE'],
    ['a mapped page', mapping(0x4000n, 0x4000, 0x2000), 'CORE_ALREADY_MAPPED'],
    ['a range into the hole', mapping(0x7fff_ffff_f000n, 0, 0x2000), 'CORE_BAD_RANGE'],
    ['a range past the end', mapping(0xffff_ffff_ffff_f000n, 0, 0x2000), 'CORE_BAD_RANGE'],
    ['memory from 2^52 up', mapping(0n, 2 ** 52 - 0x1000, 0x2000), 'CORE_BAD_RANGE'],
  ])('%s', (_, attempt, code) => {
    expect(attempt).toThrow(expect.objectContaining({ code }))
  })

  test('but the last page of either half is not', () => {
    expect(mapping(0x7fff_ffff_f000n, 0, 0x1000)).not.toThrow()
    expect(mapping(0xffff_ffff_ffff_f000n, 0, 0x1000)).not.toThrow()
  })
})
