import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeMemoryAttributesTable,
  encodeMemoryAttributesTable,
  MemoryAttribute,
  type MemoryAttributesTable,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

const { RO, XP, RUNTIME } = MemoryAttribute

const table: MemoryAttributesTable = {
  version: 2,
  descriptorSize: 48,
  flags: 1,
  entries: [
    { type: 5, physicalStart: 0x8000, virtualStart: 0n, numberOfPages: 1, attribute: RUNTIME | XP },
    { type: 5, physicalStart: 0x9000, virtualStart: 0n, numberOfPages: 4, attribute: RUNTIME | RO },
  ],
}

test('any table of a known version is read as it was written', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2),
      fc.integer({ min: 40, max: 96 }),
      fc.nat({ max: 0xffff_ffff }),
      fc.nat({ max: 6 }),
      (version, descriptorSize, flags, length) => {
        const entries = Array.from({ length }, () => table.entries[0]!)
        const written = { version, descriptorSize, flags, entries }
        expect(decodeMemoryAttributesTable(encodeMemoryAttributesTable(written), 2)).toEqual(
          written,
        )
      },
    ),
  )
})

test('the header is version, number of entries, size of one, flags', () => {
  const bytes = encodeMemoryAttributesTable(table)
  expect(bytes.length).toBe(16 + 2 * 48)
  expect(Buffer.from(bytes).toString('hex', 0, 16)).toBe('02000000020000003000000001000000')
})

test.each([
  ['of version 3', { ...table, version: 3 }, 2, 'expected version 1 to 2, found version 3'],
  ['of version 0', { ...table, version: 0 }, 2, 'expected version 1 to 2, found version 0'],
  [
    'with more than three entries for each descriptor of the map',
    { ...table, entries: Array.from({ length: 7 }, () => table.entries[0]!) },
    2,
    'expected at most 6 entries, three per descriptor, found 7 entries',
  ],
])('a table %s is refused', (_, bad, mapLength, message) => {
  const bytes = encodeMemoryAttributesTable(bad)
  expect(thrownBy(() => decodeMemoryAttributesTable(bytes, mapLength))).toEqual({
    code: 'UEFI_BAD_TABLE',
    message,
  })
})

test('a table that is shorter than its header says is refused, at every length', () => {
  const bytes = encodeMemoryAttributesTable(table)
  const codes = Array.from(
    { length: bytes.length },
    (_, length) => thrownBy(() => decodeMemoryAttributesTable(bytes.subarray(0, length), 9)).code,
  )
  expect(new Set(codes)).toEqual(new Set(['UEFI_BAD_TABLE']))
})

test('a descriptor size below that of a descriptor is refused', () => {
  const bytes = encodeMemoryAttributesTable({ ...table, entries: [] })
  new DataView(bytes.buffer).setUint32(8, 32, true)
  expect(thrownBy(() => decodeMemoryAttributesTable(bytes, 9)).code).toBe('UEFI_BAD_STRIDE')
})
