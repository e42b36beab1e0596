import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  CONFIG_TABLE_ENTRY_SIZE,
  decodeConfigTable,
  encodeConfigTable,
  formatGuid,
  Guid,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

test('any configuration table is read as it was written', () => {
  const entry = fc.record({
    guid: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => formatGuid(bytes)),
    table: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  })
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const bytes = encodeConfigTable(entries)
      expect(bytes.length).toBe(entries.length * 24)
      expect(decodeConfigTable(bytes)).toEqual(entries)
    }),
  )
})

test('an entry is a GUID, then a pointer', () => {
  const bytes = encodeConfigTable([{ guid: Guid.SMBIOS, table: 0x7de5_5000n }])
  expect(Buffer.from(bytes).toString('hex')).toBe(
    '312d9deb882dd3119a160090273fc14d0050e57d00000000',
  )
})

test('half an entry is refused', () => {
  const bytes = new Uint8Array(CONFIG_TABLE_ENTRY_SIZE + 12)
  expect(thrownBy(() => decodeConfigTable(bytes))).toEqual({
    code: 'UEFI_BAD_LENGTH',
    message: 'expected a multiple of 24 bytes, found 36 bytes',
  })
})
