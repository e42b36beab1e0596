import { expect, test } from 'vitest'
import {
  FIVE_LEVEL,
  PAE,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  phys,
  tableOwners,
  virt,
} from '../src/index.ts'
import { emptyTables } from './empty-tables.ts'

const START = virt(0xffff_8800_4000_0000n)

test('each table is listed with its level, its addresses, the entry that leads to it, and its owner', () => {
  const { builder, memory, context } = emptyTables()
  builder.mapRange(START, phys(0), PAGE_SIZE)
  const kernel = { kind: 'kernel', name: 'page tables' } as const
  memory.owners.set(0x100, 0x103, kernel)
  expect(tableOwners(context)).toEqual([
    {
      table: 0x10_0000,
      depth: 0,
      entry: 'PML4E',
      ranges: [{ start: 0n, bytes: 2 ** 48 }],
      references: [],
      owner: kernel,
    },
    {
      table: 0x10_1000,
      depth: 1,
      entry: 'PDPTE',
      ranges: [{ start: 0xffff_8800_0000_0000n, bytes: 2 ** 39 }],
      references: [{ table: 0x10_0000, index: 272 }],
      owner: kernel,
    },
    {
      table: 0x10_2000,
      depth: 2,
      entry: 'PDE',
      ranges: [{ start: START, bytes: PAGE_SIZE_1G }],
      references: [{ table: 0x10_1000, index: 1 }],
      owner: kernel,
    },
    {
      table: 0x10_3000,
      depth: 3,
      entry: 'PTE',
      ranges: [{ start: START, bytes: PAGE_SIZE_2M }],
      references: [{ table: 0x10_2000, index: 0 }],
      owner: undefined,
    },
  ])
})

test('a table that two entries lead to is listed once, with both and with all its addresses', () => {
  const { builder, context } = emptyTables()
  builder.mapRange(START, phys(0), PAGE_SIZE)
  builder.setRootEntry(0, builder.rootEntry(272))
  const owners = tableOwners(context)
  expect(owners).toHaveLength(4)
  expect(owners[1]!.references).toEqual([
    { table: 0x10_0000, index: 0 },
    { table: 0x10_0000, index: 272 },
  ])
  expect(owners[3]!.ranges.map(({ start }) => start)).toEqual([0x4000_0000n, START])
  expect(owners[3]!.references).toEqual([{ table: 0x10_2000, index: 0 }])
})

test('a root that maps itself is a table of every level', () => {
  const { builder, context } = emptyTables()
  builder.setRootEntry(511, 0x10_0067n)
  const owners = tableOwners(context)
  expect(owners.map(({ table, entry }) => [table, entry])).toEqual([
    [0x10_0000, 'PML4E'],
    [0x10_0000, 'PDPTE'],
    [0x10_0000, 'PDE'],
    [0x10_0000, 'PTE'],
  ])
  expect(owners[3]!.ranges).toEqual([{ start: 0xffff_ffff_ffe0_0000n, bytes: PAGE_SIZE_2M }])
})

test.each([
  [PAE, 0x10_0020, 3, 2 ** 32],
  [FIVE_LEVEL, 0x10_0000, 5, 2 ** 57],
] as const)('the root of $name paging covers all its addresses', (mode, root, tables, bytes) => {
  const { builder, context } = emptyTables({ mode, root })
  builder.mapRange(virt(0), phys(0), PAGE_SIZE)
  const owners = tableOwners(context)
  expect(owners).toHaveLength(tables)
  expect(owners[0]).toMatchObject({ table: root, ranges: [{ start: 0n, bytes }] })
  expect(owners[1]!.references).toEqual([{ table: root, index: 0 }])
})
