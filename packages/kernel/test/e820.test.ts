import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MemoryAttribute, type MemoryDescriptor } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type E820Entry,
  e820FromEfi,
  E820Type,
  e820TypeOf,
  endOfRam,
  ramRanges,
  removeE820,
  sanitizeE820,
  updateE820,
} from '../src/index.ts'

const { RAM, RESERVED, ACPI, NVS, UNUSABLE } = E820Type

const descriptor = (type: number, start = 0, pages = 1, attribute = 0xfn): MemoryDescriptor => ({
  type,
  physicalStart: start,
  virtualStart: 0n,
  numberOfPages: pages,
  attribute,
})

/** Types by the numbers of UEFI 2.10, 7.2.1, and what do_add_efi_memmap() makes of them. */
test.each([
  [0, 'reserved', RESERVED],
  [1, 'loader code', RAM],
  [2, 'loader data', RAM],
  [3, 'boot services code', RAM],
  [4, 'boot services data', RAM],
  [5, 'runtime services code', RESERVED],
  [6, 'runtime services data', RESERVED],
  [7, 'conventional', RAM],
  [8, 'unusable', UNUSABLE],
  [9, 'ACPI reclaim', ACPI],
  [10, 'ACPI NVS', NVS],
  [11, 'MMIO', RESERVED],
  [12, 'MMIO port space', RESERVED],
  [13, 'PAL code', RESERVED],
  [0x8000_0001, 'an OS loader’s own', RESERVED],
])('EFI type %i, %s, is e820 type %s', (type, _, expected) => {
  expect(e820TypeOf(descriptor(type))).toBe(expected)
})

test('memory that cannot be cached write-back is no RAM', () => {
  expect(e820TypeOf(descriptor(7, 0, 1, MemoryAttribute.UC))).toBe(RESERVED)
})

test('neighbours of one e820 type become one entry, whatever EFI called them', () => {
  const map = [descriptor(7, 0x3000, 1), descriptor(4, 0x1000, 2), descriptor(5, 0x4000, 1)]
  expect(e820FromEfi(map)).toEqual([
    { start: 0x1000, end: 0x4000, type: RAM },
    { start: 0x4000, end: 0x5000, type: RESERVED },
  ])
})

test('a descriptor without pages is no entry', () => {
  expect(e820FromEfi([descriptor(7, 0x1000, 0)])).toEqual([])
})

const UNITS = 40
const entry = fc
  .record({
    start: fc.nat(UNITS - 1),
    length: fc.integer({ min: 1, max: UNITS }),
    type: fc.constantFrom(RAM, RESERVED, ACPI, NVS, UNUSABLE),
  })
  .map(({ start, length, type }) => ({ start, end: Math.min(start + length, UNITS), type }))

/** The type of each unit, 0 where there is none. */
const unitsOf = (entries: readonly E820Entry[]): number[] => {
  const units: number[] = Array.from({ length: UNITS }, () => 0)
  for (const { start, end, type } of entries) {
    for (let unit = start; unit < end; unit++) units[unit] = Math.max(units[unit]!, type)
  }
  return units
}

/** The entries that a list of units has to become: each run of one type. */
const runsOf = (units: readonly number[]): { start: number; end: number; type: number }[] => {
  const runs: { start: number; end: number; type: number }[] = []
  for (const [unit, type] of units.entries()) {
    const last = runs.at(-1)
    if (last?.end === unit && last.type === type) last.end = unit + 1
    else if (type !== 0) runs.push({ start: unit, end: unit + 1, type })
  }
  return runs
}

test('a sanitized map has each byte once, with the highest type that claims it', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
      expect(sanitizeE820(entries)).toEqual(runsOf(unitsOf(entries)))
    }),
  )
})

test('an update changes the bytes in the range that have the old type, and no others', () => {
  const types = fc.constantFrom(RAM, RESERVED, ACPI, NVS)
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), entry, types, types, (raw, range, from, to) => {
      const before = sanitizeE820(raw)
      const units = unitsOf(before).map((type, unit) =>
        type === from && unit >= range.start && unit < range.end ? to : type,
      )
      expect(updateE820(before, range.start, range.end, from, to)).toEqual(runsOf(units))
    }),
  )
})

test('what is removed is gone from the bytes of that type, and from no others', () => {
  const map = [
    { start: 0, end: 0x1000, type: E820Type.RAM },
    { start: 0x2000, end: 0x5000, type: E820Type.RESERVED },
    { start: 0x5000, end: 0x8000, type: E820Type.RAM },
  ]
  expect(removeE820(map, 0x3000, 0x6000, E820Type.RESERVED)).toEqual([
    map[0],
    { start: 0x2000, end: 0x3000, type: E820Type.RESERVED },
    map[2],
  ])
  expect(removeE820(map, 0x6000, 0x7000, E820Type.RAM).slice(2)).toEqual([
    { start: 0x5000, end: 0x6000, type: E820Type.RAM },
    { start: 0x7000, end: 0x8000, type: E820Type.RAM },
  ])
})

test('RAM counts in whole pages', () => {
  const map = [
    { start: 0x800, end: 0x2fff, type: RAM },
    { start: 0x3001, end: 0x3fff, type: RAM },
    { start: 0x5000, end: 0x6000, type: NVS },
  ]
  expect(ramRanges(map)).toEqual([{ start: 0x1000, end: 0x2000 }])
})

test('the end of RAM is that of the last RAM below the limit', () => {
  const map = [
    { start: 0, end: 0x8000_0000, type: RAM },
    { start: 0x8000_0000, end: 0x9000_0000, type: RESERVED },
    { start: 2 ** 32, end: 2 ** 33, type: RAM },
  ]
  expect([endOfRam(map), endOfRam(map, 2 ** 32), endOfRam(map, 0x1000)]).toEqual([
    2 ** 33,
    0x8000_0000,
    0x1000,
  ])
  expect(endOfRam([])).toBe(0)
})

const BOOTS = join(import.meta.dirname, '../../../../shared/data/observed/boots')
const boots = existsSync(BOOTS)
  ? readdirSync(BOOTS)
      .filter((boot) => existsSync(join(BOOTS, boot, 'firmware-map.txt')))
      .toSorted()
  : []

/** Names as Linux prints them with efi=debug (drivers/firmware/efi/efi.c). */
const EFI_TYPE_NAMES = [
  'Reserved',
  'Loader Code',
  'Loader Data',
  'Boot Code',
  'Boot Data',
  'Runtime Code',
  'Runtime Data',
  'Conventional',
  'Unusable',
  'ACPI Reclaim',
  'ACPI Mem NVS',
  'MMIO',
]

/** The names in /sys/firmware/memmap. */
const FIRMWARE_MEMMAP_TYPES: Readonly<Record<string, E820Type>> = {
  'System RAM': RAM,
  Reserved: RESERVED,
  'ACPI Tables': ACPI,
  'ACPI Non-volatile Storage': NVS,
}

function readFirmwareMap(boot: string): MemoryDescriptor[] {
  const text = readFileSync(join(BOOTS, boot, 'firmware-map.txt'), 'utf8')
  const lines = text.matchAll(/efi: mem\d+: \[([^|]+)\|([^\]]+)\] range=\[0x(\w+)-0x(\w+)\]/g)
  return Array.from(lines, ([, name, attributes, start, last]) => {
    const from = Number.parseInt(start!, 16)
    const isWriteBack = attributes!.split('|').includes('WB')
    return descriptor(
      EFI_TYPE_NAMES.indexOf(name!.trim()),
      from,
      (Number.parseInt(last!, 16) + 1 - from) / 4096,
      isWriteBack ? 0xfn : 0x1n,
    )
  })
}

function readFirmwareMemmap(boot: string): E820Entry[] {
  const text = readFileSync(join(BOOTS, boot, 'boot1.firmware-memmap.txt'), 'utf8')
  return Array.from(text.matchAll(/^\d+ 0x(\w+) 0x(\w+) (.+)$/gm), ([, start, last, type]) => ({
    start: Number.parseInt(start!, 16),
    end: Number.parseInt(last!, 16) + 1,
    type: FIRMWARE_MEMMAP_TYPES[type!]!,
  }))
}

describe.skipIf(boots.length === 0)('boots of real firmware (skipped without ../shared)', () => {
  test.each(boots)('%s: the e820 map is the one that its kernel got', (boot) => {
    const descriptors = readFirmwareMap(boot)
    expect(descriptors.length).toBeGreaterThan(100)
    expect(e820FromEfi(descriptors)).toEqual(readFirmwareMemmap(boot))
  })
})
