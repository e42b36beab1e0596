import { type Architecture, getNatural, setNatural, X64 } from './architecture.ts'
import { UefiError } from './error.ts'
import { formatGuid, parseGuid } from './guid.ts'

/** An EFI_CONFIGURATION_TABLE entry (UEFI 2.10, 4.6). */
export interface ConfigTableEntry {
  /** In lower case. */
  readonly guid: string
  /** VendorTable. */
  readonly table: bigint
}

/** Bytes of an entry on x86-64. */
export const CONFIG_TABLE_ENTRY_SIZE: number = X64.tables.configTableEntrySize

/** The configuration table as bytes. */
export function encodeConfigTable(
  entries: readonly ConfigTableEntry[],
  architecture: Architecture = X64,
): Uint8Array {
  const size = architecture.tables.configTableEntrySize
  const bytes = new Uint8Array(entries.length * size)
  const view = new DataView(bytes.buffer)
  for (const [index, { guid, table }] of entries.entries()) {
    bytes.set(parseGuid(guid), index * size)
    setNatural(architecture, view, index * size + 16, table)
  }
  return bytes
}

/** Reads what {@link encodeConfigTable} writes. Throws UEFI_BAD_LENGTH where `bytes` is no whole number of entries. */
export function decodeConfigTable(
  bytes: Uint8Array,
  architecture: Architecture = X64,
): ConfigTableEntry[] {
  const size = architecture.tables.configTableEntrySize
  if (bytes.length % size !== 0) {
    throw new UefiError('UEFI_BAD_LENGTH', {
      expected: `a multiple of ${size} bytes`,
      found: `${bytes.length} bytes`,
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const entries: ConfigTableEntry[] = []
  for (let at = 0; at < bytes.length; at += size) {
    entries.push({
      guid: formatGuid(bytes.subarray(at, at + 16)),
      table: getNatural(architecture, view, at + 16),
    })
  }
  return entries
}
