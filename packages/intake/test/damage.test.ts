import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { IntakeError, type MemoryMapText, readMemoryMaps, type ReadMaps } from '../src/index.ts'
import { print, type Printable, PRINTERS } from './printers.ts'
import { codesOf, readText } from './read-text.ts'
import { LOGGED_MACHINES, readLog } from './shared-data.ts'

const RUNTIME = 1n << 63n
const entries: readonly Printable[] = [
  { type: 7, start: 0n, pages: 0x9fn, attribute: 0xfn },
  { type: 0, start: 0x9f000n, pages: 1n, attribute: 0xfn },
  { type: 4, start: 0x10_0000n, pages: 0x5_0000n, attribute: 0xfn },
  { type: 5, start: 0x7f00_0000n, pages: 0x120n, attribute: RUNTIME | 0xfn },
  { type: 6, start: 0x7f12_0000n, pages: 0x10n, attribute: RUNTIME | 0xfn },
  { type: 7, start: 0x1_0000_0000n, pages: 0x8_0000n, attribute: 0xfn },
  { type: 11, start: 0xffc0_0000n, pages: 0x400n, attribute: RUNTIME | 0x1n },
]
const samples = PRINTERS.map((printer) => ({
  format: printer.format,
  head: printer.head,
  text: print(printer, entries),
}))

/** What can be taken for the whole map of a firmware without a second thought. */
function trusted(text: string | Uint8Array): string[] {
  let read: ReadMaps
  try {
    const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text
    read = readMemoryMaps({ file: 'log.txt', bytes })
  } catch (error) {
    if (error instanceof IntakeError) return []
    throw error
  }
  if (read.warnings.length > 0) return []
  return read.maps
    .filter((map) => map.complete && map.warnings.length === 0)
    .map((map) => contentOf(map))
}

function contentOf({ format, entries: read }: MemoryMapText): string {
  const rows = read.map(({ type, start, pages, attribute }) => [type, start, pages, attribute])
  return [format, ...rows.map((row) => row.join(' '))].join('\n')
}

describe('a text that is cut is never taken for a whole map', () => {
  test.each(samples)('$format, after any byte', ({ text }) => {
    const [whole] = trusted(text)
    for (let length = 0; length < text.length; length++) {
      for (const content of trusted(text.slice(0, length))) expect(content).toBe(whole)
    }
    expect(whole).toBeDefined()
  })

  test.each(samples)('$format, before any line', ({ text }) => {
    const [whole] = trusted(text)
    const lines = text.split('\n')
    for (let from = 1; from < lines.length; from++) {
      for (const content of trusted(lines.slice(from).join('\n'))) expect(content).toBe(whole)
    }
    expect(whole).toBeDefined()
  })

  const complete = LOGGED_MACHINES.filter((machine) => machine.complete)
  test.skipIf(complete.length === 0)(
    'recorded logs, after any byte (skipped where the shared data is absent)',
    () => {
      const logs = complete.map(({ file }) => readLog(file))
      fc.assert(
        fc.property(
          fc.constantFrom(...logs),
          fc.double({ min: 0, max: 1, noNaN: true }),
          (log, at) => {
            const whole = new Set(trusted(log))
            for (const content of trusted(log.subarray(0, Math.floor(log.length * at)))) {
              expect(whole.has(content)).toBe(true)
            }
          },
        ),
        { numRuns: 300 },
      )
    },
  )
})

describe('lines that are missing in the middle are noticed', () => {
  // A form without numbers, totals or a count cannot tell, and of numbers the last is not missed.
  const telling = new Set([
    'linux_type',
    'linux_names_halfopen',
    'linux_names_incl',
    'shell',
    'esx_mmap',
  ])
  test.each(samples.filter(({ format }) => telling.has(format)))(
    '$format',
    ({ format, text, head }) => {
      const lines = text.split('\n')
      const last = format === 'shell' ? entries.length : entries.length - 1
      for (let index = 0; index < last; index++) {
        expect(trusted(lines.toSpliced(head.length + index, 1).join('\n'))).toEqual([])
      }
      expect(trusted(text)).toHaveLength(1)
    },
  )

  test('MemMap Size and Desc. Size say how many entries an arm map has', () => {
    const { text, head } = samples.find(({ format }) => format === 'linux_arm')!
    const size = `efi:   MemMap Size: 0x${(entries.length * 0x28).toString(16)}\nefi:   MemMap Desc. Size: 0x28\n`
    expect(trusted(size + text)).toHaveLength(1)
    const { maps } = readText(
      size +
        text
          .split('\n')
          .toSpliced(head.length + 1, 1)
          .join('\n'),
    )
    expect(maps[0]).toMatchObject({ complete: false, missing: '1 of 7 entries' })
  })

  test('so does the head line of U-Boot', () => {
    const { text, head } = samples.find(({ format }) => format === 'uboot_efi_mem')!
    const size = `EFI table at 0, memory map 000000001a977d90, size ${(entries.length * 0x30).toString(16)}, key 9e7, version 1, descr. size 0x30\n`
    expect(trusted(size + text)).toHaveLength(1)
    expect(trusted(size + text.split('\n').toSpliced(head.length, 1).join('\n'))).toEqual([])
  })
})

describe('lines of other programs in between do not matter', () => {
  const noise = fc.constantFrom(
    'usb 1-1: new high-speed USB device number 2 using xhci_hcd',
    '[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable',
    '[    0.000000]  BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)',
    'efi: EFI v2.31 by American Megatrends',
    'esrt: Reserving ESRT space from 0x0000000074dd6f98 to 0x0000000074dd6fd0.',
    'Nov 11 14:48:39 host systemd[1]: Started Journal Service.',
    '(XEN) r9:  0000000000000000   r10: 00000000ff920000   r11: 0000000000020000',
    'RAX: 00000000bfbcf001 RBX: 00000000a6403e90 RCX: 0000000000000001',
    '',
    'MD5 (kernel) = d41d8cd98f00b204e9800998ecf8427e',
    'sha1: da39a3ee5e6b4b0d3255bfef95601890afd80709',
    'efi: Remove mem78: MMIO range=[0xc0000000-0xcfffffff] (256MB) from e820 map',
    'cxl_region region0: range=[0x0000000410000000-0x000000050fffffff]',
    '(XEN)  0000000000000000 - 000000000009fc00 (usable)',
  )
  test.each(samples)('$format', ({ text, head }) => {
    const [whole] = trusted(text)
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: entries.length - 1 }), noise), { maxLength: 8 }),
        (inserted) => {
          const lines = text.split('\n')
          for (const [index, line] of inserted) lines.splice(head.length + index + 1, 0, line)
          expect(trusted(lines.join('\n'))).toEqual([whole])
        },
      ),
      { numRuns: 40 },
    )
  })
})

describe('a line that another program tore apart is named', () => {
  test.each(samples)('$format', ({ text, head }) => {
    const lines = text.split('\n')
    const torn = head.length + 3
    const line = lines[torn]!
    lines[torn] = `${line.slice(0, Math.floor(line.length * 0.6))}usb 1-1: new device`
    const tornText = lines.join('\n')
    const { maps } = readText(tornText)
    const warnings = maps.flatMap((map) => map.warnings)
    expect(trusted(tornText)).toEqual([])
    expect(maps.some((map) => map.complete)).toBe(false)
    expect(warnings.length).toBeGreaterThan(0)
  })

  test('with file and line', () => {
    const { text } = samples[0]!
    const lines = text.split('\n')
    lines[4] = lines[4]!.slice(0, 40)
    expect(readText(lines.join('\n')).maps[0]!.warnings).toMatchObject([
      { code: 'INTAKE_TORN_LINE', file: 'log.txt', line: 5 },
      { code: 'INTAKE_GAP', file: 'log.txt', line: 6 },
    ])
  })
})

describe('a row that is broken in two is noticed, wherever it breaks', () => {
  const noise = '[    1.234567] usb 1-1: new high-speed USB device'
  test.each<[string, (head: string, tail: string) => string]>([
    ['by the line of another program', (head, tail) => `${head}${noise}\n${tail}`],
    ['by a terminal that wraps it', (head, tail) => `${head}\n${tail}`],
  ])('%s', (_, broken) => {
    for (const { text, head } of samples) {
      const [whole] = trusted(text)
      const lines = text.split('\n')
      for (let row = head.length; row < head.length + entries.length; row++) {
        const line = lines[row]!
        for (let at = 1; at < line.length; at++) {
          const damaged = lines.with(row, broken(line.slice(0, at), line.slice(at)))
          for (const content of trusted(damaged.join('\n'))) expect(content).toBe(whole)
        }
      }
      expect(whole).toBeDefined()
    }
  })
})

describe('a character that a serial line has lost is noticed', () => {
  // Elsewhere a number without a fixed width, such as a type, can lose a digit and remain one.
  const fixedWidth = new Set<string>([
    'linux_names_halfopen',
    'linux_names_incl',
    'linux_arm',
    'shell',
    'grub',
    'uboot_efi_mem',
    'uboot_efidebug',
    'freebsd_text',
  ])
  test.each(samples.filter(({ format }) => fixedWidth.has(format)))('$format', ({ text, head }) => {
    const [whole] = trusted(text)
    const lines = text.split('\n')
    for (let row = head.length; row < head.length + entries.length; row++) {
      const line = lines[row]!
      for (let at = 0; at < line.length; at++) {
        const damaged = lines.with(row, line.slice(0, at) + line.slice(at + 1))
        for (const content of trusted(damaged.join('\n'))) expect(content).toBe(whole)
      }
    }
    expect(whole).toBeDefined()
  })
})

describe('a changed digit that another column contradicts is noticed', () => {
  test.each([
    ['the end of a shell row', 'shell', '7F11FFFF', '7F11FFFE'],
    ['the number of pages of a shell row', 'shell', '0000000000000120 8', '0000000000000121 8'],
    ['the size of a Linux line', 'linux_names_incl', '(1MB)', '(3MB)'],
    ['the end of a GRUB row', 'grub', '7f11ffff', '7f12ffff'],
    ['the length of an ESX line', 'esx_mmap', 'len=1179648', 'len=1183744'],
    ['an end within a page', 'xen', '7f11ffff', '7f11fffe'],
  ])('%s', (_, format, from, to) => {
    const { text } = samples.find((sample) => sample.format === format)!
    expect(text).toContain(from)
    const [map] = readText(text.replace(from, to)).maps
    expect(codesOf(map!)).toContain('INTAKE_RANGE')
  })
})

describe('several maps in one text', () => {
  test('stay apart, in the order in which they stand', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...samples), { minLength: 1, maxLength: 5 }),
        (chosen) => {
          const text = chosen.map((sample) => `Linux version 6.12.0\n${sample.text}`).join('')
          expect(readText(text).maps.map((map) => contentOf(map))).toEqual(
            chosen.map((sample) => trusted(sample.text)[0]),
          )
        },
      ),
      { numRuns: 60 },
    )
  })

  test('a log of two boots has two maps, with or without the line that a kernel begins with', () => {
    const { text } = samples[0]!
    expect(readText(text + text).maps.map(({ entries: { length } }) => length)).toEqual([7, 7])
  })

  test('the kernel’s own copy is told from the firmware’s map', () => {
    const { text } = samples.find(({ format }) => format === 'linux_names_incl')!
    const { maps } = readText(`${text}efi: EFI runtime memory map:\n${text}`)
    expect(maps.map(({ kind, complete }) => [kind, complete])).toEqual([
      ['firmware', true],
      ['runtime-copy', false],
    ])
  })

  test('lines that a boot loader prints to two consoles are one entry, unless they differ', () => {
    const { text } = samples.find(({ format }) => format === 'esx_mmap')!
    const lines = text.trimEnd().split('\n')
    expect(
      trusted(
        lines
          .flatMap((line) => [line, line])
          .join('\n')
          .concat('\n'),
      ),
    ).toEqual(trusted(text))
    const other = lines.toSpliced(1, 0, lines[0]!.replace('type=7', 'type=4'))
    const [map] = readText(`${other.join('\n')}\n`).maps
    expect(map).toMatchObject({ complete: false })
    expect(codesOf(map!)).toContain('INTAKE_CONFLICT')
  })
})

describe('rows that lose what they print', () => {
  test.each([
    [
      'a type that U-Boot does not know',
      'uboot_efi_mem',
      'ReservedMemory          ',
      '(unknown)               ',
    ],
    [
      'a type that FreeBSD does not know',
      'freebsd_text',
      '               Reserved',
      '              <INVALID>',
    ],
    ['a type that nobody knows', 'shell', 'RT_Code ', 'Frobnic '],
    ['an attribute that nobody knows', 'linux_arm', '|RUN|', '|QQQ|'],
  ])('%s makes the map incomplete', (_, format, from, to) => {
    const { text } = samples.find((sample) => sample.format === format)!
    expect(text).toContain(from)
    const [map] = readText(text.replace(from, to)).maps
    expect(map).toMatchObject({ complete: false })
    expect(codesOf(map!)).toContain('INTAKE_TORN_LINE')
  })
})

describe('garbage is never a map', () => {
  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(trusted(bytes)).toEqual([])
      }),
      { numRuns: 300 },
    )
  })

  test('pieces of real lines in any order', () => {
    const pieces = samples.flatMap(({ text }) => text.split(/(?<=[\s|\]-])/))
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 60 }), (chosen) => {
        expect(trusted(chosen.join(''))).toEqual([])
      }),
      { numRuns: 300 },
    )
  })
})
