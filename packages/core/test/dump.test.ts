import { expect, test } from 'vitest'
import {
  BITS_32_PSE,
  BROADWELL,
  contextFromRegisters,
  Cr0,
  Cr4,
  Efer,
  FIVE_LEVEL,
  FOUR_LEVEL,
  inspectAddress,
  loadDump,
  PAE,
  PAGE_SIZE,
  PAGING_OFF,
  PhysicalMemory,
  SAPPHIRE_RAPIDS,
} from '../src/index.ts'

/** Pages whose first bytes are their numbers, from 1 on. */
function numberedPages(count: number): Uint8Array {
  const bytes = new Uint8Array(count * PAGE_SIZE)
  for (let page = 0; page < count; page++) bytes[page * PAGE_SIZE] = page + 1
  return bytes
}

test('a raw dump lies from address 0 on', () => {
  const memory = new PhysicalMemory()
  loadDump(memory, numberedPages(3))
  expect([0, 1, 2, 3].map((page) => memory.read8(page * PAGE_SIZE))).toEqual([1, 2, 3, 0])
})

test('the pages of a dump with runs lie where the runs say, in the order of the file', () => {
  const memory = new PhysicalMemory()
  loadDump(memory, numberedPages(4), [
    [0x7000_0000, 1],
    [0x1000, 2],
    [2 ** 52 - PAGE_SIZE, 1],
  ])
  const found = [0x7000_0000, 0x1000, 0x2000, 2 ** 52 - PAGE_SIZE].map((at) => memory.read8(at))
  expect(found).toEqual([1, 2, 3, 4])
})

test('a dump may come in pieces', () => {
  const memory = new PhysicalMemory()
  const bytes = numberedPages(5)
  loadDump(memory, bytes.subarray(0, 2 * PAGE_SIZE), [[0, 2]])
  loadDump(memory, bytes.subarray(2 * PAGE_SIZE), [[2 * PAGE_SIZE, 3]])
  expect(memory.read(0, bytes.length)).toEqual(bytes)
})

test('a page of zeros takes no space, but takes the place of what was there', () => {
  const memory = new PhysicalMemory()
  memory.write8(0x1000, 1)
  memory.fill(0x2000, 0x3000, 0xffff_ffff)
  loadDump(memory, new Uint8Array(4 * PAGE_SIZE))
  expect(memory.read(0, 4 * PAGE_SIZE)).toEqual(new Uint8Array(4 * PAGE_SIZE))
  expect([0, 3].map((frame) => memory.isWritten(frame))).toEqual([false, false])
})

test.each([
  ['less than a page', new Uint8Array(100), undefined],
  ['a file longer than its runs', new Uint8Array(2 * PAGE_SIZE), [[0, 1]] as const],
  ['a file shorter than its runs', new Uint8Array(PAGE_SIZE), [[0, 2]] as const],
])('%s is refused', (_, bytes, runs) => {
  expect(() => {
    loadDump(new PhysicalMemory(), bytes, runs)
  }).toThrow(`found ${bytes.length} bytes`)
})

test('a run that begins within a page is refused', () => {
  expect(() => {
    loadDump(new PhysicalMemory(), new Uint8Array(PAGE_SIZE), [[0x800, 1]])
  }).toThrow('expected a run that starts at a page, found 0x0000000000000800')
})

const memory = new PhysicalMemory()
const PROTECTED = Cr0.PE | Cr0.PG

test.each([
  [PAGING_OFF, { cr0: Cr0.PE }],
  [BITS_32_PSE, { cr0: PROTECTED, cr4: Cr4.PSE, efer: 0 }],
  [PAE, { cr0: PROTECTED, cr4: Cr4.PAE, efer: Efer.NXE }],
  [FOUR_LEVEL, {}],
  [FIVE_LEVEL, { cr4: Cr4.PAE | Cr4.LA57 }],
])('$name is read off control registers', (mode, registers) => {
  const context = contextFromRegisters({ memory, features: SAPPHIRE_RAPIDS, cr3: 0, ...registers })
  expect(context.mode).toBe(mode)
})

test('NX counts where EFER.NXE is set', () => {
  const efers = [undefined, Efer.LME | Efer.LMA, Efer.LME | Efer.LMA | Efer.NXE]
  const contexts = efers.map((efer) =>
    contextFromRegisters({
      memory,
      features: BROADWELL,
      cr3: 0,
      ...(efer === undefined ? {} : { efer }),
    }),
  )
  expect(contexts.map(({ noExecute }) => noExecute)).toEqual([true, false, true])
})

test.each([
  ['a PCID', 0x1_2345_6fffn, 0x1_2345_6000],
  ['address masking and a kept context', 0xe000_0000_1234_5001n, 0x1234_5000],
  ['PWT and PCD', 0x1234_5018, 0x1234_5000],
])('the root is found in a CR3 with %s', (_, cr3, root) => {
  expect(contextFromRegisters({ memory, features: BROADWELL, cr3 }).root).toBe(root)
})

test('the root of PAE paging is aligned to 32 bytes', () => {
  const registers = { cr0: PROTECTED, cr4: Cr4.PAE, efer: 0, cr3: 0x1234_5678 }
  expect(contextFromRegisters({ memory, features: BROADWELL, ...registers }).root).toBe(0x1234_5660)
})

test('a raw dump with a CR3 is enough to translate', () => {
  const tables = new PhysicalMemory()
  for (const [address, entry] of [
    [0x1000 + 511 * 8, 0x2003n],
    [0x2000 + 510 * 8, 0x3003n],
    [0x3000, 0x8000_0000_0020_0083n],
  ] as const) {
    tables.write64(address, entry)
  }
  const opened = new PhysicalMemory()
  loadDump(opened, tables.read(0, 0x4000))
  const context = contextFromRegisters({ memory: opened, features: BROADWELL, cr3: 0x1000 })
  expect(inspectAddress(context, 0xffff_ffff_8001_2345n)).toMatchObject({
    status: 'mapped',
    physical: 0x21_2345,
    pageSize: 0x20_0000,
    executable: false,
  })
})
