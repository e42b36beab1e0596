import { MEMORY_DESCRIPTOR_SIZE } from '@trapdoor/uefi'
import { checkEntry, checkOverlaps } from '../entry-checks.ts'
import type { IntakeWarning, MapEntry, MemoryMapText } from '../memory-map-text.ts'

/** struct efi_map_header of FreeBSD, padded to 32 bytes: memory_size, descriptor_size, version. */
const HEADER_SIZE = 32
const LARGEST_STRIDE = 4096

/** What `sysctl -b machdep.efi_map` gives; undefined where the bytes cannot be that. Its entries have no lines: theirs is 0. */
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
  const count = size / stride
  const entries = readDescriptors(view, Number(stride), count)
  const warnings = entries.flatMap((entry) => checkEntry(file, entry))
  warnings.push(...checkOverlaps(file, entries), ...checkLength(file, bytes.length, size))
  const lacking = count - BigInt(entries.length)
  return {
    format: 'freebsd_binary',
    kind: 'firmware',
    complete: lacking === 0n,
    ...(lacking === 0n ? {} : { missing: `${lacking} of ${count} descriptors: the file is cut` }),
    entries,
    warnings,
    file,
    line: 0,
  }
}

function readDescriptors(view: DataView, stride: number, count: bigint): MapEntry[] {
  const entries: MapEntry[] = []
  for (let at = HEADER_SIZE; at + stride <= view.byteLength; at += stride) {
    if (BigInt(entries.length) === count) break
    entries.push({
      type: view.getUint32(at, true),
      start: view.getBigUint64(at + 8, true),
      virtualStart: view.getBigUint64(at + 16, true),
      pages: view.getBigUint64(at + 24, true),
      attribute: view.getBigUint64(at + 32, true),
      line: 0,
    })
  }
  return entries
}

function checkLength(file: string, length: number, size: bigint): IntakeWarning[] {
  const said = BigInt(HEADER_SIZE) + size
  if (BigInt(length) === said) return []
  const code = BigInt(length) < said ? 'INTAKE_CUT' : 'INTAKE_CONFLICT'
  return [{ code, message: `the header says ${said} bytes, here are ${length}`, file, line: 0 }]
}
