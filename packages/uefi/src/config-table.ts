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
export const CONFIG_TABLE_ENTRY_SIZE = 24

/** The configuration table as bytes. */
export function encodeConfigTable(entries: readonly ConfigTableEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * CONFIG_TABLE_ENTRY_SIZE)
  const view = new DataView(bytes.buffer)
  for (const [index, { guid, table }] of entries.entries()) {
    bytes.set(parseGuid(guid), index * CONFIG_TABLE_ENTRY_SIZE)
    view.setBigUint64(index * CONFIG_TABLE_ENTRY_SIZE + 16, table, true)
  }
  return bytes
}

/** Reads what {@link encodeConfigTable} writes. Throws UEFI_BAD_LENGTH where `bytes` is no whole number of entries. */
export function decodeConfigTable(bytes: Uint8Array): ConfigTableEntry[] {
  if (bytes.length % CONFIG_TABLE_ENTRY_SIZE !== 0) {
    throw new UefiError('UEFI_BAD_LENGTH', {
      expected: `a multiple of ${CONFIG_TABLE_ENTRY_SIZE} bytes`,
      found: `${bytes.length} bytes`,
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const entries: ConfigTableEntry[] = []
  for (let at = 0; at < bytes.length; at += CONFIG_TABLE_ENTRY_SIZE) {
    entries.push({
      guid: formatGuid(bytes.subarray(at, at + 16)),
      table: view.getBigUint64(at + 16, true),
    })
  }
  return entries
}
