import { UefiError } from './error.ts'

/** EFI_TIME (UEFI 2.10, 8.3). */
export interface EfiTime {
  /** 1900 to 9999. */
  readonly year: number
  /** 1 to 12. */
  readonly month: number
  /** 1 to 31. */
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  readonly nanosecond: number
  /** Minutes from UTC, -1440 to 1440, or {@link UNSPECIFIED_TIMEZONE}. */
  readonly timeZone: number
  /** Bit 0: daylight saving applies here, bit 1: it is in effect. */
  readonly daylight: number
}

/** Bytes of EFI_TIME (UEFI 2.10, 8.3). */
export const EFI_TIME_SIZE = 16
/** The time is local, wherever that is. */
export const UNSPECIFIED_TIMEZONE = 2047

/** EFI_TIME as bytes. Fields are written as they are, valid or not. */
export function encodeTime(time: EfiTime): Uint8Array {
  const bytes = new Uint8Array(EFI_TIME_SIZE)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, time.year, true)
  bytes.set([time.month, time.day, time.hour, time.minute, time.second], 2)
  view.setUint32(8, time.nanosecond, true)
  view.setInt16(12, time.timeZone, true)
  view.setUint8(14, time.daylight)
  return bytes
}

/** Reads what {@link encodeTime} writes. Throws UEFI_BAD_TIME where there are fewer than 16 bytes. */
export function decodeTime(bytes: Uint8Array): EfiTime {
  if (bytes.length < EFI_TIME_SIZE) {
    throw new UefiError('UEFI_BAD_TIME', {
      expected: `${EFI_TIME_SIZE} bytes`,
      found: `${bytes.length} bytes`,
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    year: view.getUint16(0, true),
    month: view.getUint8(2),
    day: view.getUint8(3),
    hour: view.getUint8(4),
    minute: view.getUint8(5),
    second: view.getUint8(6),
    nanosecond: view.getUint32(8, true),
    timeZone: view.getInt16(12, true),
    daylight: view.getUint8(14),
  }
}
