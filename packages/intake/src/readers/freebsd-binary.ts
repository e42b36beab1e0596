import { MEMORY_DESCRIPTOR_SIZE } from '@trapdoor/uefi'
import type { MapEntry, MemoryMapText } from '../memory-map-text.ts'

/** struct efi_map_header of FreeBSD, padded to 32 bytes: memory_size, descriptor_size, version. */
const HEADER_SIZE = 32
const LARGEST_STRIDE = 4096

/** What `sysctl -b machdep.efi_map` gives; undefined where the bytes cannot be that. */
export function readFreebsdBinary(file: string, bytes: Uint8Array): MemoryMapText | undefined {
  if (bytes.length < HEADER_SIZE) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const size = view.getBigUint64(0, true)
  const stride = view.getBigUint64(8, true)
  const version = view.getUint32(16, true)
  const plausible =
    version === 1 &&
    stride >= BigInt(MEMORY_DESCRIPTOR_SIZE) &&
    stride <= BigInt(LARGEST_STRIDE) &&
    size > 0n &&
    size % stride === 0n
  if (!plausible) return undefined
  const count = Number(size / stride)
  const whole = Math.min(count, Math.floor((bytes.length - HEADER_SIZE) / Number(stride)))
  const entries: MapEntry[] = []
  for (let index = 0; index < whole; index++) {
    const at = HEADER_SIZE + index * Number(stride)
    entries.push({
      type: view.getUint32(at, true),
      start: view.getBigUint64(at + 8, true),
      virtualStart: view.getBigUint64(at + 16, true),
      pages: view.getBigUint64(at + 24, true),
      attribute: view.getBigUint64(at + 32, true),
      line: 0,
    })
  }
  return {
    format: 'freebsd_binary',
    kind: 'firmware',
    complete: whole === count,
    ...(whole === count
      ? {}
      : { missing: `${count - whole} of ${count} descriptors: the file is cut` }),
    entries,
    warnings: [],
    file,
    line: 0,
  }
}
