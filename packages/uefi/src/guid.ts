import { UefiError } from './error.ts'

/** GUIDs by their usual names, as text (UEFI 2.10, 4.6; Linux include/linux/efi.h). */
export const Guid = {
  GLOBAL_VARIABLE: '8be4df61-93ca-11d2-aa0d-00e098032b8c',
  MPS: 'eb9d2d2f-2d88-11d3-9a16-0090273fc14d',
  ACPI_10: 'eb9d2d30-2d88-11d3-9a16-0090273fc14d',
  ACPI_20: '8868e871-e4f1-11d3-bc22-0080c73c8881',
  SMBIOS: 'eb9d2d31-2d88-11d3-9a16-0090273fc14d',
  SMBIOS3: 'f2fd1544-9794-4a2c-992e-e5bbcf20e394',
  SAL: 'eb9d2d32-2d88-11d3-9a16-0090273fc14d',
  HCDP: 'f951938d-620b-42ef-8279-a84b79617898',
  UGA_IO: '61a4d49e-6f68-4f1b-b922-a86eed0b07a2',
  UV: '3b13a7d4-633e-11dd-93ec-da2556d89593',
  ESRT: 'b122a263-3661-4f68-9929-78f8b0d62180',
  PROPERTIES_TABLE: '880aaca3-4adc-4a04-9079-b747340825e5',
  MEMORY_ATTRIBUTES_TABLE: 'dcfa911d-26eb-469f-a220-38b7dc461220',
  RT_PROPERTIES_TABLE: 'eb66918a-7eef-402a-842e-931d21c38ae9',
  /** The vendor of variables that Linux writes for itself. */
  LINUX_CRASH: 'cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0',
} as const

const TEXT = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/i

/** The 16 bytes of a GUID: the first three fields little endian, the rest in the order written. Throws UEFI_BAD_GUID. */
export function parseGuid(text: string): Uint8Array {
  const fields = TEXT.exec(text)
  if (fields === null) {
    throw new UefiError('UEFI_BAD_GUID', {
      expected: 'a GUID such as 8be4df61-93ca-11d2-aa0d-00e098032b8c',
      found: `"${text}"`,
    })
  }
  const [, first, second, third, fourth, fifth] = fields as unknown as string[]
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, Number.parseInt(first!, 16), true)
  view.setUint16(4, Number.parseInt(second!, 16), true)
  view.setUint16(6, Number.parseInt(third!, 16), true)
  view.setUint16(8, Number.parseInt(fourth!, 16))
  view.setUint16(10, Number.parseInt(fifth!.slice(0, 4), 16))
  view.setUint32(12, Number.parseInt(fifth!.slice(4), 16))
  return bytes
}

function hex(part: Uint8Array): string {
  return Buffer.from(part).toString('hex')
}

/** The text of a GUID's 16 bytes, in lower case. Throws UEFI_BAD_GUID on another length. */
export function formatGuid(bytes: Uint8Array): string {
  if (bytes.length !== 16) {
    throw new UefiError('UEFI_BAD_GUID', { expected: '16 bytes', found: `${bytes.length} bytes` })
  }
  return [
    hex(bytes.slice(0, 4).toReversed()),
    hex(bytes.slice(4, 6).toReversed()),
    hex(bytes.slice(6, 8).toReversed()),
    hex(bytes.slice(8, 10)),
    hex(bytes.slice(10)),
  ].join('-')
}
