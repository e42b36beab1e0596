import { crc32 as zlibCrc32 } from 'node:zlib'

/** The CRC of UEFI tables (UEFI 2.10, 4.2: polynomial 0x04c11db7, reflected, inverted), as an unsigned number. */
export function crc32(bytes: Uint8Array): number {
  return zlibCrc32(bytes)
}
