import { UefiError } from './error.ts'
import { decodeMemoryMap, encodeMemoryMap, type MemoryDescriptor } from './memory-descriptor.ts'

/** EFI_MEMORY_ATTRIBUTES_TABLE (UEFI 2.10, 4.6.4). */
export interface MemoryAttributesTable {
  readonly version: number
  /** Bytes from one entry to the next. */
  readonly descriptorSize: number
  /** Bit 0 in version 2: runtime code carries forward control-flow marks. */
  readonly flags: number
  /** Parts of runtime regions; of the attributes RO, XP and RUNTIME count. */
  readonly entries: readonly MemoryDescriptor[]
}

const HEADER_SIZE = 16
const LAST_VERSION = 2

/** The table as bytes. */
export function encodeMemoryAttributesTable(table: MemoryAttributesTable): Uint8Array {
  const entries = encodeMemoryMap(table.entries, table.descriptorSize)
  const bytes = new Uint8Array(HEADER_SIZE + entries.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, table.version, true)
  view.setUint32(4, table.entries.length, true)
  view.setUint32(8, table.descriptorSize, true)
  view.setUint32(12, table.flags, true)
  bytes.set(entries, HEADER_SIZE)
  return bytes
}

/**
 * Reads the table as Linux does (drivers/firmware/efi/memattr.c): an unknown version is refused, and so is a count of more than three entries for each of the `mapLength`
 * descriptors of the memory map. Throws UEFI_BAD_TABLE, and what decodeMemoryMap() throws.
 */
export function decodeMemoryAttributesTable(
  bytes: Uint8Array,
  mapLength: number,
): MemoryAttributesTable {
  if (bytes.length < HEADER_SIZE) {
    throw badTable('a header of 16 bytes', `${bytes.length} bytes`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = view.getUint32(0, true)
  if (version < 1 || version > LAST_VERSION) {
    throw badTable(`version 1 to ${LAST_VERSION}`, `version ${version}`)
  }
  const count = view.getUint32(4, true)
  if (count > 3 * mapLength) {
    throw badTable(`at most ${3 * mapLength} entries, three per descriptor`, `${count} entries`)
  }
  const descriptorSize = view.getUint32(8, true)
  const end = HEADER_SIZE + count * descriptorSize
  if (end > bytes.length) {
    throw badTable(`${end} bytes for ${count} entries`, `${bytes.length} bytes`)
  }
  return {
    version,
    descriptorSize,
    flags: view.getUint32(12, true),
    entries: decodeMemoryMap(bytes.subarray(HEADER_SIZE, end), descriptorSize),
  }
}

function badTable(expected: string, found: string): UefiError {
  return new UefiError('UEFI_BAD_TABLE', { expected, found, hint: 'kernels ignore such a table' })
}
