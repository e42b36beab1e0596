import { crc32 } from './crc32.ts'
import { UefiError } from './error.ts'

/** Fields of EFI_TABLE_HEADER by offset (UEFI 2.10, 4.2). */
export const TableHeader = { Signature: 0, Revision: 8, HeaderSize: 12, CRC32: 16 } as const
export const TABLE_HEADER_SIZE = 24

/** "IBI SYST", little endian. */
export const SYSTEM_TABLE_SIGNATURE = 0x5453_5953_2049_4249n
/** "RUNTSERV", little endian. */
export const RUNTIME_SERVICES_TABLE_SIGNATURE = 0x5652_4553_544e_5552n
/** "BOOTSERV", little endian. */
export const BOOT_SERVICES_TABLE_SIGNATURE = 0x5652_4553_544f_4f42n

/** Fields of EFI_SYSTEM_TABLE on x86-64 by offset (UEFI 2.10, 4.3). */
export const SystemTable = {
  FirmwareVendor: 0x18,
  FirmwareRevision: 0x20,
  ConsoleInHandle: 0x28,
  ConIn: 0x30,
  ConsoleOutHandle: 0x38,
  ConOut: 0x40,
  StandardErrorHandle: 0x48,
  StdErr: 0x50,
  RuntimeServices: 0x58,
  BootServices: 0x60,
  NumberOfTableEntries: 0x68,
  ConfigurationTable: 0x70,
} as const
export const SYSTEM_TABLE_SIZE = 0x78

/** Functions of EFI_RUNTIME_SERVICES on x86-64 by offset (UEFI 2.10, 4.5). */
export const RuntimeServicesTable = {
  GetTime: 0x18,
  SetTime: 0x20,
  GetWakeupTime: 0x28,
  SetWakeupTime: 0x30,
  SetVirtualAddressMap: 0x38,
  ConvertPointer: 0x40,
  GetVariable: 0x48,
  GetNextVariableName: 0x50,
  SetVariable: 0x58,
  GetNextHighMonotonicCount: 0x60,
  ResetSystem: 0x68,
  UpdateCapsule: 0x70,
  QueryCapsuleCapabilities: 0x78,
  QueryVariableInfo: 0x80,
} as const
export const RUNTIME_SERVICES_TABLE_SIZE = 0x88

/** The name of a runtime service. */
export type RuntimeServiceName = keyof typeof RuntimeServicesTable

/** The runtime services in the order of their table. */
export const RUNTIME_SERVICES: readonly RuntimeServiceName[] = Object.keys(
  RuntimeServicesTable,
) as RuntimeServiceName[]

/** Functions of EFI_BOOT_SERVICES on x86-64 that a loader needs, by offset (UEFI 2.10, 4.4). */
export const BootServicesTable = {
  AllocatePages: 0x28,
  FreePages: 0x30,
  GetMemoryMap: 0x38,
  ExitBootServices: 0xe8,
} as const
export const BOOT_SERVICES_TABLE_SIZE = 0x178

/** A table's header, its CRC still 0. `revision` is major << 16 | minor; `headerSize` the bytes that the CRC covers. */
export function encodeTableHeader(header: {
  readonly signature: bigint
  readonly revision: number
  readonly headerSize: number
}): Uint8Array {
  const bytes = new Uint8Array(TABLE_HEADER_SIZE)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(TableHeader.Signature, header.signature, true)
  view.setUint32(TableHeader.Revision, header.revision, true)
  view.setUint32(TableHeader.HeaderSize, header.headerSize, true)
  return bytes
}

/** Writes the CRC into a table's header, computed over HeaderSize bytes with the field itself 0. Returns the same bytes. Throws UEFI_BAD_TABLE where there are fewer. */
export function sealTable(bytes: Uint8Array): Uint8Array {
  viewOf(bytes).setUint32(TableHeader.CRC32, checksum(bytes), true)
  return bytes
}

/** Whether a table's CRC is right. Throws UEFI_BAD_TABLE where there are fewer bytes than its header says. */
export function checkTable(bytes: Uint8Array): boolean {
  return viewOf(bytes).getUint32(TableHeader.CRC32, true) === checksum(bytes)
}

function checksum(bytes: Uint8Array): number {
  const size =
    bytes.length < TABLE_HEADER_SIZE
      ? Infinity
      : viewOf(bytes).getUint32(TableHeader.HeaderSize, true)
  if (size < TABLE_HEADER_SIZE || size > bytes.length) {
    throw new UefiError('UEFI_BAD_TABLE', {
      expected: 'a whole table with a header',
      found: `${bytes.length} bytes, HeaderSize ${size}`,
    })
  }
  const covered = bytes.slice(0, size)
  viewOf(covered).setUint32(TableHeader.CRC32, 0, true)
  return crc32(covered)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
