import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeUcs2, encodeUcs2 } from '../src/index.ts'

test('a string is two bytes a character, with a NUL at its end', () => {
  expect(Buffer.from(encodeUcs2('Boot€')).toString('hex')).toBe('42006f006f007400ac200000')
})

test('any text without a NUL is read as it was written', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      fc.pre(!text.includes('\0'))
      expect(decodeUcs2(encodeUcs2(text))).toBe(text)
    }),
  )
})

test('what stands after the NUL is left out', () => {
  expect(decodeUcs2(Uint8Array.of(0x41, 0, 0, 0, 0x42, 0))).toBe('A')
})

test('a string without a NUL ends with its bytes, a last odd one left out', () => {
  expect(decodeUcs2(Uint8Array.of(0x41, 0, 0x42, 0, 0x43))).toBe('AB')
})
