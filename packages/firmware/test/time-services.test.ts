import { decodeTime, EfiStatus, type EfiTime, encodeTime } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bootToRuntime, type Caller, smallFirmware } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()
const TIME: EfiTime = {
  year: 2016,
  month: 2,
  day: 29,
  hour: 23,
  minute: 59,
  second: 58,
  nanosecond: 0,
  timeZone: -720,
  daylight: 3,
}

function getTime(caller: Caller): EfiTime {
  const at = caller.room(16)
  expect(caller.service('GetTime', at, 0n)).toBe(EfiStatus.SUCCESS)
  return decodeTime(caller.cpu.readBytes(at, 16))
}

const setTime = (caller: Caller, time: EfiTime): bigint =>
  caller.service('SetTime', caller.put(encodeTime(time)))

describe('GetTime', () => {
  test('reads the CMOS clock', () => {
    const { year, month, day, hour, minute, second, timeZone } = getTime(bootToRuntime(firmware))
    expect([year, month, day, hour, minute, second]).toEqual([2010, 8, 13, 14, 39, 25])
    expect(timeZone).toBe(2047)
  })

  test('tells what the clock can do', () => {
    const caller = bootToRuntime(firmware)
    const capabilities = caller.room(16)
    caller.service('GetTime', caller.room(16), capabilities)
    expect([caller.cpu.read32(capabilities), caller.cpu.read32(capabilities + 4n)]).toEqual([
      1, 50_000_000,
    ])
  })

  test('refuses a null pointer, and reports a clock that has lost its time', () => {
    const caller = bootToRuntime(firmware)
    expect(caller.service('GetTime', 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    caller.machine.ports.out8(0x70, 0x08)
    caller.machine.ports.out8(0x71, 0xff)
    expect(caller.service('GetTime', caller.room(16), 0n)).toBe(EfiStatus.DEVICE_ERROR)
  })
})

describe('SetTime', () => {
  test('is what GetTime reads from then on', () => {
    const valid = fc.record({
      year: fc.integer({ min: 1998, max: 2097 }),
      month: fc.integer({ min: 1, max: 12 }),
      day: fc.integer({ min: 1, max: 28 }),
      hour: fc.nat(23),
      minute: fc.nat(59),
      second: fc.nat(59),
      nanosecond: fc.constant(0),
      timeZone: fc.oneof(fc.integer({ min: -1440, max: 1440 }), fc.constant(2047)),
      daylight: fc.nat(3),
    })
    fc.assert(
      fc.property(valid, (time) => {
        const caller = bootToRuntime(firmware)
        expect(setTime(caller, time)).toBe(EfiStatus.SUCCESS)
        expect(getTime(caller)).toEqual(time)
      }),
      { numRuns: 50 },
    )
  })

  test.for([
    ['a day that the month lacks', { day: 31, month: 4 }],
    ['29 February of a common year', { year: 2015 }],
    ['29 February 2100, no leap year and out of range', { year: 2100 }],
    ['month 0', { month: 0 }],
    ['hour 24', { hour: 24 }],
    ['second 60', { second: 60 }],
    ['a thousand million nanoseconds', { nanosecond: 1_000_000_000 }],
    ['a time zone two days off', { timeZone: 1441 }],
    ['a daylight bit that does not exist', { daylight: 4 }],
  ] as const)('refuses %s', ([, fields]) => {
    const caller = bootToRuntime(firmware)
    expect(setTime(caller, { ...TIME, ...fields })).toBe(EfiStatus.INVALID_PARAMETER)
  })
})

describe('the wakeup timer', () => {
  test('is off at first, and keeps the time that it was given', () => {
    const caller = bootToRuntime(firmware)
    const [enabled, pending, time] = [caller.room(8), caller.room(8), caller.room(16)]
    const get = (): [number, EfiTime] => {
      expect(caller.service('GetWakeupTime', enabled, pending, time)).toBe(EfiStatus.SUCCESS)
      return [caller.cpu.read8(enabled), decodeTime(caller.cpu.readBytes(time, 16))]
    }
    expect(get()[0]).toBe(0)
    expect(caller.service('SetWakeupTime', 1n, caller.put(encodeTime(TIME)))).toBe(
      EfiStatus.SUCCESS,
    )
    expect(get()).toEqual([1, TIME])
    expect(caller.service('SetWakeupTime', 0n, 0n)).toBe(EfiStatus.SUCCESS)
    expect(get()[0]).toBe(0)
  })

  test('refuses null pointers and times that are none', () => {
    const caller = bootToRuntime(firmware)
    const bad = caller.put(encodeTime({ ...TIME, month: 13 }))
    expect(caller.service('SetWakeupTime', 1n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.service('SetWakeupTime', 1n, bad)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.service('GetWakeupTime', 0n, bad, bad)).toBe(EfiStatus.INVALID_PARAMETER)
  })
})
