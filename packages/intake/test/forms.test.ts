import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { print, type Printable, PRINTERS } from './printers.ts'
import { codesOf, readOneMap } from './read-text.ts'

const RUNTIME = 1n << 63n

/** Maps whose entries neither overlap nor lack what a firmware's map has; the first thirteen types are those that all forms name. */
const map: fc.Arbitrary<Printable[]> = fc
  .array(
    fc.record({
      gap: fc.bigInt({ min: 0n, max: 2n ** 20n }),
      type: fc.nat({ max: 13 }),
      pages: fc.bigInt({ min: 1n, max: 2n ** 24n }),
      attribute: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    }),
    { minLength: 2, maxLength: 20 },
  )
  .map((drafts) => {
    const [first, second, ...others] = drafts
    let next = 0n
    return [
      { ...first!, type: 7 },
      { ...second!, attribute: second!.attribute | RUNTIME },
      ...others,
    ].map(({ gap, type, pages, attribute }) => {
      const start = next + gap * 4096n
      next = start + pages * 4096n
      return { type, start, pages, attribute }
    })
  })

describe.each(PRINTERS)('$format', (printer) => {
  test('any map is read as its program prints it', () => {
    fc.assert(
      fc.property(map, (drafts) => {
        const entries = drafts.map((entry) => ({
          ...entry,
          attribute: entry.attribute & printer.bits,
        }))
        const read = readOneMap(print(printer, entries))
        expect(read.format).toBe(printer.format)
        expect(
          read.entries.map(({ type, start, pages, attribute }) => ({
            type,
            start,
            pages,
            attribute,
          })),
        ).toEqual(entries)
        expect(read.missing).toBeUndefined()
        expect(read.complete).toBe(true)
        expect(codesOf(read)).toEqual([])
      }),
      { numRuns: 60 },
    )
  })
})

describe('a partial form', () => {
  test('"Remove memNN" has MMIO alone and no attributes', () => {
    const read = readOneMap(
      [
        '[    0.000000] efi: Remove mem78: MMIO range=[0xc0000000-0xcfffffff] (256MB) from e820 map',
        '[    0.000000] efi: Not removing mem79: MMIO range=[0xfe010000-0xfe010fff] (4KB) from e820 map',
      ].join('\n'),
    )
    expect(read).toMatchObject({
      format: 'linux_remove_mmio',
      complete: false,
      missing: 'everything but MMIO; boot with efi=debug',
      entries: [
        { type: 11, start: 0xc000_0000n, pages: 0x1_0000n, attribute: null, line: 1 },
        { type: 11, start: 0xfe01_0000n, pages: 1n, attribute: null, line: 2 },
      ],
    })
    expect(codesOf(read)).toEqual([])
  })

  test('the memory attributes table is not the memory map, and rejected entries are marked', () => {
    const read = readOneMap(
      [
        'efi: memattr: Processing EFI Memory Attributes table:',
        'efi: memattr:  0x00003f6e8000-0x00003f6e9fff [Runtime Code|RUN|  |RO|   |  |  ]',
        'efi: memattr: ! 0x00000008b000-0x00000008bfff [Runtime Code       |RUN|  |  |   |  |  ]',
        '',
      ].join('\n'),
    )
    expect(read).toMatchObject({
      format: 'linux_memattr',
      kind: 'memory-attributes',
      complete: false,
      entries: [
        { type: 5, start: 0x3f6e_8000n, pages: 2n, attribute: RUNTIME | (1n << 17n) },
        { type: 5, start: 0x8b000n, pages: 1n, attribute: RUNTIME },
      ],
      warnings: [{ code: 'INTAKE_MARKED', message: 'the kernel rejects it', line: 3 }],
    })
  })

  test('OpenCore names the MMIO that it takes RUNTIME from', () => {
    const text =
      '15:754 00:002 OCABC: MMIO devirt 0xE0000000 (0x10000 pages, 0x800000000000100D) skip 0\n'
    expect(readOneMap(text)).toMatchObject({
      format: 'opencore_devirt',
      complete: false,
      missing: 'everything but runtime MMIO',
      entries: [
        { type: 11, start: 0xe000_0000n, pages: 0x1_0000n, attribute: RUNTIME | 0x100dn, line: 1 },
      ],
    })
  })

  test('runtime-map, one region a line, has virtual addresses', () => {
    const text = [
      '# idx type phys_addr virt_addr num_pages attribute',
      '0 0xb 0xffc00000 0xfffffffeffc00000 0x400 0x8000000000000001',
      '1 0x6 0x3fef4000 0xfffffffeffaf4000 0x84 0x800000000000000f',
      '',
    ].join('\n')
    expect(readOneMap(text)).toMatchObject({
      format: 'runtime_map_list',
      kind: 'runtime-copy',
      complete: false,
      missing: 'everything but the runtime regions',
      entries: [
        { type: 11, start: 0xffc0_0000n, virtualStart: 0xffff_fffe_ffc0_0000n, pages: 0x400n },
        { type: 6, attribute: RUNTIME | 0xfn, line: 3 },
      ],
      warnings: [],
    })
  })

  test('runtime-map by grep, one field a line, in any order', () => {
    const fields = ['attribute:0x800000000000000f', 'num_pages:0x10', 'type:0x5']
    const addresses = ['phys_addr:0x7f000000', 'virt_addr:0xfffffffeff000000']
    const lines = [...addresses, ...fields].map(
      (field) => `/sys/firmware/efi/runtime-map/0/${field}`,
    )
    const expected = {
      type: 5,
      start: 0x7f00_0000n,
      pages: 0x10n,
      attribute: RUNTIME | 0xfn,
      virtualStart: 0xffff_fffe_ff00_0000n,
    }
    fc.assert(
      fc.property(fc.shuffledSubarray(lines, { minLength: lines.length }), (shuffled) => {
        const read = readOneMap(`${shuffled.join('\n')}\n`)
        expect(read).toMatchObject({ format: 'runtime_map_sysfs', kind: 'runtime-copy' })
        expect(read.entries).toEqual([{ ...expected, line: 1 }])
        expect(codesOf(read)).toEqual([])
      }),
    )
  })
})

describe('Linux', () => {
  const before = 'efi: mem00: [Conventional       |   |WB] range=[0x0-0xfff] (0MB)'

  test.each([
    ['4.10 and later', 'range=[0x000000000009f000-0x0000000000000000] (invalid)', 0x9f000n],
    ['4.9', 'range=[0x000000000009f000-0x000000000009efff] (0MB)', 0x9f000n],
    ['4.9 at address 0', 'range=[0x0000000000000000-0xffffffffffffffff] (0MB)', 0n],
  ])('prints an entry of no pages in a way of its own: %s', (_, range, start) => {
    const read = readOneMap(`${before}\nefi: mem01: [Reserved           |   |  ] ${range}\n`)
    expect(read.entries[1]).toMatchObject({ start, pages: 0n })
    expect(codesOf(read)).toContain('INTAKE_ZERO_LENGTH')
    expect(codesOf(read)).not.toContain('INTAKE_RANGE')
  })

  test.each([
    ['EFI: mem00: type=7, attr=0xf, range=[0x0-0x9f000) (0MB)', 'linux_type'],
    ['efi: mem100: type=7, attr=0xf, range=[0x0-0x9f000) (0MB)', 'linux_type'],
    ['efi: mem00: [type=1879048193   |RUN|WB] range=[0x0-0x9efff] (0MB)', 'linux_names_incl'],
  ])('%s', (line, format) => {
    const read = readOneMap(`${line}\n`)
    expect(read.format).toBe(format)
    expect(read.entries[0]).toMatchObject({ start: 0n, pages: 0x9fn })
  })
})

describe('GRUB', () => {
  const head = 'Type      Physical start  - end             #Pages        Size Attributes'
  test.each([
    ['Unk 70000001    0000000000001000-0000000000001fff 00000001    4KB RT', 0x7000_0001],
    ['conv-mem  0000000000100000-00000000001fffff 00000100    1MB UC WC WT WB', 7],
    ['persist   0000000100000000-000000013fffffff 00040000      1GiB WB', 14],
  ])('%s', (row, type) => {
    const read = readOneMap(`${head}\n${row}\ngrub>\n`)
    expect(read.entries).toMatchObject([{ type }])
    expect(codesOf(read)).not.toContain('INTAKE_RANGE')
  })
})
