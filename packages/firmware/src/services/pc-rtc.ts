import {
  decodeTime,
  EFI_TIME_SIZE,
  EfiStatus,
  type EfiTime,
  encodeTime,
  UNSPECIFIED_TIMEZONE,
} from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'

const INDEX_PORT = 0x70
const DATA_PORT = 0x71
/** Registers of the MC146818 and the century that PCs keep beside it. */
const Register = {
  Second: 0x00,
  SecondAlarm: 0x01,
  Minute: 0x02,
  MinuteAlarm: 0x03,
  Hour: 0x04,
  HourAlarm: 0x05,
  Day: 0x07,
  Month: 0x08,
  Year: 0x09,
  B: 0x0b,
  C: 0x0c,
  Century: 0x32,
} as const
const ALARM_ENABLE = 0x20
const ALARM_FLAG = 0x20

/** What the driver keeps in pool: zone and daylight of the clock, and the alarm's full time. */
const Pool = { TimeZone: 0, Daylight: 2, Alarm: 16 } as const
const POOL_SLOT = 'mModuleGlobal'
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const

/** edk2's PcAtChipsetPkg/PcatRealTimeClockRuntimeDxe. */
export const pcRtc: RuntimeDriver = {
  name: 'PcRtc',
  install: ({ image, machine, allocatePool }: DriverContext): void => {
    const pool = allocatePool(1, 'real-time clock')
    machine.memory.write16(pool + Pool.TimeZone, UNSPECIFIED_TIMEZONE)
    image.pointer(POOL_SLOT, pool, 'event')
    image.service('GetTime', getTime)
    image.service('SetTime', setTime)
    image.service('GetWakeupTime', getWakeupTime)
    image.service('SetWakeupTime', setWakeupTime)
  },
}

/** GetTime(*Time, *Capabilities). */
function getTime(call: FirmwareCall): bigint {
  const [timeAt, capabilitiesAt] = [call.arg(0), call.arg(1)]
  if (timeAt === 0n) return EfiStatus.INVALID_PARAMETER
  const pool = new DataView(call.readBytes(call.pointer(POOL_SLOT), EFI_TIME_SIZE).buffer)
  const time: EfiTime = {
    year: readRegister(call, Register.Century) * 100 + readRegister(call, Register.Year),
    month: readRegister(call, Register.Month),
    day: readRegister(call, Register.Day),
    hour: readRegister(call, Register.Hour),
    minute: readRegister(call, Register.Minute),
    second: readRegister(call, Register.Second),
    nanosecond: 0,
    timeZone: pool.getInt16(Pool.TimeZone, true),
    daylight: pool.getUint8(Pool.Daylight),
  }
  if (!isValidTime(time)) return EfiStatus.DEVICE_ERROR
  call.writeBytes(timeAt, encodeTime(time))
  if (capabilitiesAt !== 0n) call.writeBytes(capabilitiesAt, capabilities())
  return EfiStatus.SUCCESS
}

/** SetTime(*Time). */
function setTime(call: FirmwareCall): bigint {
  const time = readTime(call, call.arg(0))
  if (time === undefined) return EfiStatus.INVALID_PARAMETER
  writeRegister(call, Register.Second, time.second)
  writeRegister(call, Register.Minute, time.minute)
  writeRegister(call, Register.Hour, time.hour)
  writeRegister(call, Register.Day, time.day)
  writeRegister(call, Register.Month, time.month)
  writeRegister(call, Register.Year, time.year % 100)
  writeRegister(call, Register.Century, Math.floor(time.year / 100))
  const pool = call.pointer(POOL_SLOT)
  call.write16(pool + BigInt(Pool.TimeZone), time.timeZone)
  call.write8(pool + BigInt(Pool.Daylight), time.daylight)
  return EfiStatus.SUCCESS
}

/** GetWakeupTime(*Enabled, *Pending, *Time). */
function getWakeupTime(call: FirmwareCall): bigint {
  const [enabledAt, pendingAt, timeAt] = [call.arg(0), call.arg(1), call.arg(2)]
  if (enabledAt === 0n || pendingAt === 0n || timeAt === 0n) return EfiStatus.INVALID_PARAMETER
  const enabled = (readRegister(call, Register.B) & ALARM_ENABLE) !== 0
  const pending = (readRegister(call, Register.C) & ALARM_FLAG) !== 0
  call.write8(enabledAt, enabled ? 1 : 0)
  call.write8(pendingAt, pending ? 1 : 0)
  call.writeBytes(
    timeAt,
    call.readBytes(call.pointer(POOL_SLOT) + BigInt(Pool.Alarm), EFI_TIME_SIZE),
  )
  return EfiStatus.SUCCESS
}

/** SetWakeupTime(Enable, *Time). */
function setWakeupTime(call: FirmwareCall): bigint {
  const control = readRegister(call, Register.B)
  if ((call.arg(0) & 0xffn) === 0n) {
    writeRegister(call, Register.B, control & ~ALARM_ENABLE)
    return EfiStatus.SUCCESS
  }
  const time = readTime(call, call.arg(1))
  if (time === undefined) return EfiStatus.INVALID_PARAMETER
  writeRegister(call, Register.SecondAlarm, time.second)
  writeRegister(call, Register.MinuteAlarm, time.minute)
  writeRegister(call, Register.HourAlarm, time.hour)
  writeRegister(call, Register.B, control | ALARM_ENABLE)
  call.writeBytes(call.pointer(POOL_SLOT) + BigInt(Pool.Alarm), encodeTime(time))
  return EfiStatus.SUCCESS
}

/** A valid time that the caller passed, or undefined. */
function readTime(call: FirmwareCall, address: bigint): EfiTime | undefined {
  if (address === 0n) return undefined
  const time = decodeTime(call.readBytes(address, EFI_TIME_SIZE))
  return isValidTime(time) ? time : undefined
}

/** Whether each field is in the range that UEFI 2.10, 8.3 gives it, and the year in edk2's for this clock. */
function isValidTime(time: EfiTime): boolean {
  const leap = time.year % 4 === 0 && (time.year % 100 !== 0 || time.year % 400 === 0)
  const days = (DAYS[time.month - 1] ?? 0) + (time.month === 2 && leap ? 1 : 0)
  return (
    time.year >= 1998 &&
    time.year <= 2097 &&
    time.day >= 1 &&
    time.day <= days &&
    time.hour <= 23 &&
    time.minute <= 59 &&
    time.second <= 59 &&
    time.nanosecond <= 999_999_999 &&
    (time.timeZone === UNSPECIFIED_TIMEZONE || Math.abs(time.timeZone) <= 1440) &&
    (time.daylight & ~3) === 0
  )
}

/** EFI_TIME_CAPABILITIES: one second of resolution, 50 parts per million, SetTime keeps what is below a second. */
function capabilities(): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 1, true)
  view.setUint32(4, 50_000_000, true)
  return bytes
}

function readRegister(call: FirmwareCall, register: number): number {
  call.cpu.out8(INDEX_PORT, register)
  return call.cpu.in8(DATA_PORT)
}

function writeRegister(call: FirmwareCall, register: number, value: number): void {
  call.cpu.out8(INDEX_PORT, register)
  call.cpu.out8(DATA_PORT, value)
}
