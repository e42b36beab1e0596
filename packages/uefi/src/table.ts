import { crc32 } from './crc32.ts'
import { UefiError } from './error.ts'

/** Fields of EFI_TABLE_HEADER by offset (UEFI 2.10, 4.2). */
export const TableHeader = { Signature: 0, Revision: 8, HeaderSize: 12, CRC32: 16 } as const
/** Bytes of EFI_TABLE_HEADER (UEFI 2.10, 4.2). */
export const TABLE_HEADER_SIZE = 24

/** "IBI SYST", little endian. */
export const SYSTEM_TABLE_SIGNATURE = 0x5453_5953_2049_4249n
/** "RUNTSERV", little endian. */
export const RUNTIME_SERVICES_TABLE_SIGNATURE = 0x5652_4553_544e_5552n
/** "BOOTSERV", little endian. */
export const BOOT_SERVICES_TABLE_SIGNATURE = 0x5652_4553_544f_4f42n

/** Fields of EFI_SYSTEM_TABLE behind its header, in order; each takes the bytes of a pointer (UEFI 2.10, 4.3). */
const SYSTEM_TABLE_FIELDS = [
  'FirmwareVendor',
  'FirmwareRevision',
  'ConsoleInHandle',
  'ConIn',
  'ConsoleOutHandle',
  'ConOut',
  'StandardErrorHandle',
  'StdErr',
  'RuntimeServices',
  'BootServices',
  'NumberOfTableEntries',
  'ConfigurationTable',
] as const

/** The runtime services in the order of their table (UEFI 2.10, 4.5). */
export const RUNTIME_SERVICES = [
  'GetTime',
  'SetTime',
  'GetWakeupTime',
  'SetWakeupTime',
  'SetVirtualAddressMap',
  'ConvertPointer',
  'GetVariable',
  'GetNextVariableName',
  'SetVariable',
  'GetNextHighMonotonicCount',
  'ResetSystem',
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
  'QueryVariableInfo',
] as const

/** The name of a runtime service. */
export type RuntimeServiceName = (typeof RUNTIME_SERVICES)[number]

/** Functions of EFI_BOOT_SERVICES that a loader needs, by their number in the table, and how many there are (UEFI 2.10, 4.4). */
const BOOT_SERVICES = {
  AllocatePages: 2,
  FreePages: 3,
  GetMemoryMap: 4,
  ExitBootServices: 26,
} as const
const BOOT_SERVICES_COUNT = 44

/** The name of a boot service that is modelled. */
export type BootServiceName = keyof typeof BOOT_SERVICES

/** Where the fields of the EFI tables are, for pointers of some width. Offsets and sizes in bytes. */
export interface TableLayout {
  readonly systemTable: Readonly<Record<(typeof SYSTEM_TABLE_FIELDS)[number], number>>
  readonly systemTableSize: number
  readonly runtimeServicesTable: Readonly<Record<RuntimeServiceName, number>>
  readonly runtimeServicesTableSize: number
  readonly bootServicesTable: Readonly<Record<BootServiceName, number>>
  readonly bootServicesTableSize: number
  /** Of an EFI_CONFIGURATION_TABLE entry: a GUID and a pointer, packed. */
  readonly configTableEntrySize: number
}

/** The tables as they are where pointers and UINTN have this many bytes. */
export function layOutTables(naturalBytes: 4 | 8): TableLayout {
  const at = (index: number): number => TABLE_HEADER_SIZE + index * naturalBytes
  const offsets = <Name extends string>(
    fields: Iterable<readonly [Name, number]>,
  ): Readonly<Record<Name, number>> =>
    Object.fromEntries(Array.from(fields, ([name, index]) => [name, at(index)])) as Record<
      Name,
      number
    >
  return {
    systemTable: offsets(inOrder(SYSTEM_TABLE_FIELDS)),
    systemTableSize: at(SYSTEM_TABLE_FIELDS.length),
    runtimeServicesTable: offsets(inOrder(RUNTIME_SERVICES)),
    runtimeServicesTableSize: at(RUNTIME_SERVICES.length),
    bootServicesTable: offsets(Object.entries(BOOT_SERVICES) as [BootServiceName, number][]),
    bootServicesTableSize: at(BOOT_SERVICES_COUNT),
    configTableEntrySize: 16 + naturalBytes,
  }
}

/** Names with their numbers, from 0. */
function inOrder<Name extends string>(names: readonly Name[]): [Name, number][] {
  return names.map((name, index) => [name, index])
}

const ON_X64 = layOutTables(8)

/** Fields of EFI_SYSTEM_TABLE on x86-64 by offset. */
export const SystemTable: TableLayout['systemTable'] = ON_X64.systemTable
/** Bytes of EFI_SYSTEM_TABLE on x86-64, the header included (UEFI 2.10, 4.3). */
export const SYSTEM_TABLE_SIZE: number = ON_X64.systemTableSize
/** Functions of EFI_RUNTIME_SERVICES on x86-64 by offset. */
export const RuntimeServicesTable: TableLayout['runtimeServicesTable'] = ON_X64.runtimeServicesTable
/** Bytes of EFI_RUNTIME_SERVICES on x86-64, the header included (UEFI 2.10, 4.5). */
export const RUNTIME_SERVICES_TABLE_SIZE: number = ON_X64.runtimeServicesTableSize
/** Functions of EFI_BOOT_SERVICES on x86-64 that a loader needs, by offset. */
export const BootServicesTable: TableLayout['bootServicesTable'] = ON_X64.bootServicesTable
/** Bytes of EFI_BOOT_SERVICES on x86-64, the header included (UEFI 2.10, 4.4). */
export const BOOT_SERVICES_TABLE_SIZE: number = ON_X64.bootServicesTableSize

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
