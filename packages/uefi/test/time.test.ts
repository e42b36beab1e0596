import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeTime,
  EFI_TIME_SIZE,
  type EfiTime,
  encodeTime,
  UNSPECIFIED_TIMEZONE,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

const august2010: EfiTime = {
  year: 2010,
  month: 8,
  day: 13,
  hour: 15,
  minute: 18,
  second: 9,
  nanosecond: 999_999_999,
  timeZone: -120,
  daylight: 3,
}

test('the fields stand where the specification puts them', () => {
  expect(Buffer.from(encodeTime(august2010)).toString('hex')).toBe(
    'da07080d0f120900ffc99a3b88ff0300',
  )
})

test('any fields are read as they were written, dates that do not exist included', () => {
  const byte = fc.nat({ max: 255 })
  const time: fc.Arbitrary<EfiTime> = fc.record({
    year: fc.nat({ max: 0xffff }),
    month: byte,
    day: byte,
    hour: byte,
    minute: byte,
    second: byte,
    nanosecond: fc.nat({ max: 0xffff_ffff }),
    timeZone: fc.oneof(fc.integer({ min: -1440, max: 1440 }), fc.constant(UNSPECIFIED_TIMEZONE)),
    daylight: byte,
  })
  fc.assert(
    fc.property(time, (written) => {
      expect(decodeTime(encodeTime(written))).toEqual(written)
    }),
  )
})

test('15 bytes are no time', () => {
  const bytes = encodeTime(august2010).subarray(0, EFI_TIME_SIZE - 1)
  expect(thrownBy(() => decodeTime(bytes))).toEqual({
    code: 'UEFI_BAD_TIME',
    message: 'expected 16 bytes, found 15 bytes',
  })
})
