import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatGuid, Guid, parseGuid } from '../src/index.ts'
import { thrownBy } from './thrown.ts'

test('the first three fields are little endian, the others stand as written', () => {
  expect(Buffer.from(parseGuid('00112233-4455-6677-8899-aabbccddeeff')).toString('hex')).toBe(
    '33221100554477668899aabbccddeeff',
  )
})

test('any 16 bytes survive being written and read', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      expect(parseGuid(formatGuid(bytes))).toEqual(bytes)
    }),
  )
})

test('capitals are read and written small', () => {
  expect(formatGuid(parseGuid(Guid.ACPI_20.toUpperCase()))).toBe(Guid.ACPI_20)
})

test.each(['', '8be4df61', '{8be4df61-93ca-11d2-aa0d-00e098032b8c}', 'g'.repeat(36)])(
  '%j is no GUID',
  (text) => {
    expect(thrownBy(() => parseGuid(text)).code).toBe('UEFI_BAD_GUID')
  },
)

test('15 bytes are no GUID', () => {
  expect(thrownBy(() => formatGuid(new Uint8Array(15)))).toEqual({
    code: 'UEFI_BAD_GUID',
    message: 'expected 16 bytes, found 15 bytes',
  })
})

test('every well-known GUID can be parsed, and no two are equal', () => {
  const texts = Object.values(Guid).map((text) => formatGuid(parseGuid(text)))
  expect(texts).toEqual(Object.values(Guid))
  expect(new Set(texts).size).toBe(texts.length)
})
