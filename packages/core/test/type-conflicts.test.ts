import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  BROADWELL,
  type CachedRange,
  contextFromRegisters,
  Cr0,
  decodePat,
  effectiveMemoryKind,
  findTypeConflicts,
  inspectAddress,
  type LiveRoot,
  liveRoots,
  Machine,
  mappedRanges,
  MemoryKind,
  memoryKindName,
  mtrrKind,
  type MtrrRanges,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PAT_AT_RESET,
  PAT_LINUX,
  PageTableBuilder,
  phys,
  PhysicalMemory,
  type TranslationContext,
  type TypeConflict,
  virt,
} from '../src/index.ts'

const { UC, WB, WC, WT } = MemoryKind
const DIRECT_MAP = 0xffff_8880_0000_0000n
const ALL_WB: MtrrRanges = [{ start: 0, end: 2 ** 46, kind: WB }]

function range(
  start: bigint,
  physical: number,
  bytes: number,
  patIndex: number,
  pageSize = PAGE_SIZE,
): CachedRange {
  return { start: virt(start), physical, bytes, pageSize, patIndex }
}

function written(conflicts: readonly TypeConflict[]): string[] {
  return conflicts.flatMap(({ start, end, mappings }) => [
    `${start.toString(16)}-${end.toString(16)}`,
    ...mappings.map(
      ({ root, start: linear, pageSize, pat, effective }) =>
        `  ${root} ${linear.toString(16)} ${pageSize / 1024}K ${memoryKindName(pat)} ${memoryKindName(effective)}`,
    ),
  ])
}

test('a page of the direct map that a driver mapped uncached is found, and no more than it', () => {
  const ranges = [
    range(DIRECT_MAP, 0, PAGE_SIZE_1G, 0, PAGE_SIZE_1G),
    range(0xffff_c900_0000_0000n, 0x1234_5000, 2 * PAGE_SIZE, 2),
  ]
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  expect(written(findTypeConflicts([{ name: 'kernel', ranges, caching }]))).toEqual([
    '12345000-12347000',
    '  kernel ffff888012345000 1048576K WB WB',
    '  kernel ffffc90000000000 4K UC- UC',
  ])
})

test('roots are told apart by name, and mappings that agree are listed with those that do not', () => {
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  const roots = [
    { name: 'firmware', ranges: [range(0n, 0, 2 * PAGE_SIZE_2M, 0, PAGE_SIZE_2M)], caching },
    { name: 'kernel', ranges: [range(DIRECT_MAP, PAGE_SIZE, 2 * PAGE_SIZE, 0)], caching },
    { name: 'EFI', ranges: [range(0x1000n, 2 * PAGE_SIZE, 3 * PAGE_SIZE, 1)], caching },
  ]
  expect(written(findTypeConflicts(roots))).toEqual([
    '2000-3000',
    '  firmware 2000 2048K WB WB',
    '  kernel ffff888000001000 4K WB WB',
    '  EFI 1000 4K WC WC',
    '3000-5000',
    '  firmware 3000 2048K WB WB',
    '  EFI 2000 4K WC WC',
  ])
})

test('UC- and UC are no conflict, nor is anything that MTRRs make uncacheable', () => {
  const mtrrs: MtrrRanges = [...ALL_WB, { start: 0x8000_0000, end: 0x1_0000_0000, kind: UC }]
  const ranges = [
    range(DIRECT_MAP, 0x8000_0000, PAGE_SIZE, 0),
    range(0x1000n, 0x8000_0000, PAGE_SIZE, 2),
    range(0x2000n, 0x8000_0000, PAGE_SIZE, 3),
  ]
  expect(
    findTypeConflicts([{ name: 'kernel', ranges, caching: { pat: PAT_LINUX, mtrrs } }]),
  ).toEqual([])
})

test('UC- and UC conflict where an MTRR says write combining', () => {
  const mtrrs: MtrrRanges = [{ start: 0, end: PAGE_SIZE, kind: WC }]
  const ranges = [range(0x1000n, 0, 2 * PAGE_SIZE, 2), range(0x9000n, 0, 2 * PAGE_SIZE, 3)]
  expect(
    written(findTypeConflicts([{ name: 'kernel', ranges, caching: { pat: PAT_LINUX, mtrrs } }])),
  ).toEqual(['0-1000', '  kernel 1000 4K UC- WC', '  kernel 9000 4K UC UC'])
})

test('the same PAT index means different types on CPUs that disagree about the PAT, or the MTRRs, or CR0.CD', () => {
  const ranges = [range(0n, 0, PAGE_SIZE, 1)]
  const linux = { name: 'CPU 0', ranges, caching: { pat: PAT_LINUX, mtrrs: ALL_WB } }
  const effective = [
    { pat: PAT_AT_RESET, mtrrs: ALL_WB },
    { pat: PAT_LINUX, mtrrs: ALL_WB, cacheDisable: true },
    { pat: PAT_LINUX, mtrrs: ALL_WB },
  ].map((caching) =>
    findTypeConflicts([linux, { name: 'CPU 1', ranges, caching }]).map(({ mappings }) =>
      mappings.map((mapping) => memoryKindName(mapping.effective)),
    ),
  )
  expect(effective).toEqual([[['WC', 'WT']], [['WC', 'UC']], []])
})

test.each([
  ['the size of pages changes', { start: 0x20_0000n, physical: PAGE_SIZE_2M, pageSize: PAGE_SIZE }],
  ['linear addresses jump', { start: 0x60_0000n, physical: PAGE_SIZE_2M }],
  [
    'the PAT type changes, though not the effective one',
    { start: 0x20_0000n, physical: PAGE_SIZE_2M, patIndex: 3 },
  ],
  ['a hole lies between', { start: 0x20_0000n, physical: 2 * PAGE_SIZE_2M }],
])('a found range ends where %s', (_, next) => {
  const first = range(0n, 0, PAGE_SIZE_2M, 2, PAGE_SIZE_2M)
  const second = { ...first, ...next, start: virt(next.start) }
  const direct = range(DIRECT_MAP, 0, PAGE_SIZE_1G, 0, PAGE_SIZE_1G)
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  const conflicts = findTypeConflicts([
    { name: 'kernel', ranges: [first, second, direct], caching },
  ])
  expect(conflicts.map(({ start, end }) => [start, end])).toEqual([
    [0, PAGE_SIZE_2M],
    [next.physical, next.physical + PAGE_SIZE_2M],
  ])
})

test('what lies between two physical pages is not found because their linear addresses follow one another', () => {
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  const ranges = [0, 3].flatMap((patIndex) => [
    range(BigInt(patIndex) << 20n, 0, PAGE_SIZE, patIndex),
    range((BigInt(patIndex) << 20n) + 0x1000n, 2 * PAGE_SIZE, PAGE_SIZE, patIndex),
  ])
  const conflicts = findTypeConflicts([{ name: 'kernel', ranges, caching }])
  expect(conflicts.map(({ start, end }) => [start, end])).toEqual([
    [0, 0x1000],
    [0x2000, 0x3000],
  ])
})

test('a found range goes on where only rights change', () => {
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  const ranges = [
    range(0n, 0, PAGE_SIZE, 2),
    range(0x1000n, PAGE_SIZE, PAGE_SIZE, 2),
    range(DIRECT_MAP, 0, PAGE_SIZE_1G, 0, PAGE_SIZE_1G),
  ]
  expect(findTypeConflicts([{ name: 'kernel', ranges, caching }])).toMatchObject([
    { start: 0, end: 2 * PAGE_SIZE },
  ])
})

test('a terabyte in large pages against one in small pages costs as little as a page', () => {
  const bytes = 2 ** 40
  const caching = { pat: PAT_LINUX, mtrrs: ALL_WB }
  const conflicts = findTypeConflicts([
    { name: 'firmware', ranges: [range(0n, 0, bytes, 0, PAGE_SIZE_1G)], caching },
    { name: 'kernel', ranges: [range(DIRECT_MAP, 0, bytes, 1)], caching },
  ])
  expect(conflicts.map(({ start, end }) => [start, end])).toEqual([[0, bytes]])
})

test('nothing mapped, nothing found', () => {
  expect(findTypeConflicts([])).toEqual([])
})

// Against a check of each page: page tables written by hand, walked page by page.

const PHYSICAL_PAGES = 3 * 512
const LINEAR_PAGES = 4 * 512

/** A page table's entries, as runs of pages, or the flags and number of a 2 MiB page. */
const anyRuns = fc.array(
  fc.record({
    index: fc.nat(500),
    pages: fc.integer({ min: 1, max: 40 }),
    frame: fc.nat(PHYSICAL_PAGES - 41),
    pat: fc.nat(7),
  }),
  { maxLength: 5 },
)
const anyDirectoryEntry = fc.oneof(anyRuns, fc.record({ large: fc.nat(2), pat: fc.nat(7) }))
const anyCaching = fc.record({
  pat: fc.constantFrom(PAT_LINUX, PAT_AT_RESET, decodePat(0x0407_0506_0007_0106n)),
  mtrrs: fc.array(
    fc
      .tuple(fc.nat(PHYSICAL_PAGES), fc.nat(PHYSICAL_PAGES), fc.constantFrom(UC, WC, WT, WB))
      .map(([a, b, kind]) => ({
        start: Math.min(a, b) * PAGE_SIZE,
        end: Math.max(a, b) * PAGE_SIZE,
        kind,
      })),
    { maxLength: 4 },
  ),
})

type DirectoryEntry = typeof anyDirectoryEntry extends fc.Arbitrary<infer Value> ? Value : never

/** P, R/W, and a PAT index: PWT, PCD, and the PAT bit where pages of this size have it. */
function leafFlags(pat: number, patBit: bigint): bigint {
  return 3n | (BigInt(pat & 3) << 3n) | ((pat & 4) === 0 ? 0n : patBit)
}

/** 4-level tables from 16 MiB on, whose first page directory has these entries. */
function tablesOf(entries: readonly DirectoryEntry[]): TranslationContext {
  const memory = new PhysicalMemory()
  const root = 0x100_0000
  memory.write64(root, BigInt(root + 0x1000) | 3n)
  memory.write64(root + 0x1000, BigInt(root + 0x2000) | 3n)
  for (const [index, entry] of entries.entries()) {
    const at = root + 0x2000 + index * 8
    if ('large' in entry) {
      memory.write64(at, BigInt(entry.large * PAGE_SIZE_2M) | 0x80n | leafFlags(entry.pat, 0x1000n))
      continue
    }
    const table = root + 0x3000 + index * 0x1000
    memory.write64(at, BigInt(table) | 3n)
    for (const { index: first, pages, frame, pat } of entry) {
      for (let page = 0; page < Math.min(pages, 512 - first); page++) {
        const value = BigInt((frame + page) * PAGE_SIZE) | leafFlags(pat, 0x80n)
        memory.write64(table + (first + page) * 8, value)
      }
    }
  }
  return contextFromRegisters({ memory, features: BROADWELL, cr3: root })
}

/** What maps each physical page, as text without the page's own linear address, and that address; pages without conflict are left out. */
type PageMappings = ReadonlyMap<number, readonly (readonly [text: string, linear: bigint])[]>

function pagesByWalking(
  roots: readonly { context: TranslationContext; root: LiveRoot }[],
): PageMappings {
  const pages = new Map<number, { text: string; linear: bigint; effective: MemoryKind }[]>()
  for (const { context, root } of roots) {
    const { pat, mtrrs } = root.caching
    for (let linearPage = 0; linearPage < LINEAR_PAGES; linearPage++) {
      const linear = BigInt(linearPage * PAGE_SIZE)
      const found = inspectAddress(context, linear)
      if (found.status !== 'mapped') continue
      const kind = pat[found.patIndex]!
      const effective = effectiveMemoryKind(mtrrKind(mtrrs, found.physical), kind)
      const text = `${root.name} ${found.pageSize} ${kind} ${effective}`
      const page = found.physical / PAGE_SIZE
      const others = pages.get(page) ?? []
      pages.set(page, [...others, { text, linear, effective }])
    }
  }
  return new Map(
    [...pages]
      .filter(([, mappings]) => new Set(mappings.map(({ effective }) => effective)).size > 1)
      .map(([page, mappings]) => [page, mappings.map(({ text, linear }) => [text, linear])]),
  )
}

function pagesOf(conflicts: readonly TypeConflict[]): PageMappings {
  const pages = conflicts.flatMap(({ start, end, mappings }) =>
    Array.from({ length: (end - start) / PAGE_SIZE }, (_, page) => {
      const at = mappings.map((mapping): [string, bigint] => [
        `${mapping.root} ${mapping.pageSize} ${mapping.pat} ${mapping.effective}`,
        mapping.start + BigInt(page * PAGE_SIZE),
      ])
      return [start / PAGE_SIZE + page, at] as const
    }),
  )
  expect(new Set(pages.map(([page]) => page)).size).toBe(pages.length)
  return new Map(pages)
}

/** Whether one range should be part of the one before it: all of its mappings just go on. */
function goesOn(last: TypeConflict, next: TypeConflict): boolean {
  const after = describeMappings(last, BigInt(last.end - last.start))
  return last.end === next.start && after === describeMappings(next, 0n)
}

/** The mappings of a range as they are so many bytes later. */
function describeMappings({ mappings }: TypeConflict, bytes: bigint): string {
  const described = mappings.map(({ root, start, pageSize, pat, mtrr }) =>
    [root, start + bytes, pageSize, pat, mtrr].join(' '),
  )
  return described.join()
}

test('for random page tables, PATs and MTRRs the same pages are found as by looking at each page', () => {
  let found = 0
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.array(anyDirectoryEntry, { maxLength: 4 }), anyCaching), {
        maxLength: 3,
      }),
      (machines) => {
        const roots = machines.map(([entries, caching], index) => {
          const context = tablesOf(entries)
          return {
            context,
            root: { name: `root ${index}`, ranges: mappedRanges(context).ranges, caching },
          }
        })
        const conflicts = findTypeConflicts(roots.map(({ root }) => root))
        const expected = pagesByWalking(roots)
        expect(new Map([...pagesOf(conflicts)].toSorted(([a], [b]) => a - b))).toEqual(
          new Map([...expected].toSorted(([a], [b]) => a - b)),
        )
        found += expected.size
        const last = conflicts.slice(0, -1)
        expect(last.filter((one, index) => goesOn(one, conflicts[index + 1]!))).toEqual([])
      },
    ),
    { numRuns: 60 },
  )
  expect(found).toBeGreaterThan(1000)
})

test('the roots that CPUs have loaded are found, and what two of them map differently', () => {
  const machine = new Machine({ features: BROADWELL, cpus: 3, mtrrs: ALL_WB })
  let next = 0x200
  for (const [id, cacheDisable] of [
    [0, false],
    [1, true],
  ] as const) {
    const cpu = machine.cpus[id]!
    const tables = new PageTableBuilder(machine.memory, phys(0x10_0000 + id * 4096), () => next++)
    tables.mapRange(virt(DIRECT_MAP), phys(0x80_0000), 4096, { cacheDisable, executable: true })
    cpu.writeCr3(tables.root)
  }
  // The third CPU runs on the first one's tables.
  machine.cpus[2]!.writeCr3(0x10_0000)
  const roots = liveRoots(machine, (root) => (root === 0x10_0000 ? 'one' : 'two'))
  expect(roots.map(({ name }) => name)).toEqual(['one', 'two'])
  expect(findTypeConflicts(roots)).toEqual([
    expect.objectContaining({ start: 0x80_0000, end: 0x80_1000 }),
  ])
  machine.cpus[0]!.writeCr0(machine.cpus[0]!.cr0 | Cr0.CD)
  expect(machine.cpus[0]!.caching.cacheDisable).toBe(true)
  // With its cache disabled the first CPU reads the page uncached; the third, on the same tables, does not.
  expect(liveRoots(machine)).toHaveLength(3)
  expect(liveRoots(new Machine({ start: 'reset' }))).toEqual([])
})
