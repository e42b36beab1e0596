import type { PhysicalMemory } from '@trapdoor/core'
import {
  BOOT_SERVICES_TABLE_SIGNATURE,
  BOOT_SERVICES_TABLE_SIZE,
  BootServicesTable,
  encodeConfigTable,
  encodeTableHeader,
  encodeUcs2,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIGNATURE,
  RUNTIME_SERVICES_TABLE_SIZE,
  type RuntimeServiceName,
  RuntimeServicesTable,
  sealTable,
  SYSTEM_TABLE_SIGNATURE,
  SYSTEM_TABLE_SIZE,
  SystemTable,
  TABLE_HEADER_SIZE,
} from '@trapdoor/uefi'

/** What tables say of the firmware: the vendor's name, and the revision of UEFI as major << 16 | minor. */
export interface TableIdentity {
  vendor: string
  revision: number
}

/** UEFI 2.31. */
export const OWN_IDENTITY: Readonly<TableIdentity> = { vendor: 'Trapdoor', revision: 0x0002_001f }
/** UEFI 2.0, which has added three runtime services behind ResetSystem. */
const UEFI_2_0 = 0x0002_0000

/** Where the tables are in their page of runtime-services data. */
const Place = {
  SystemTable: 0,
  RuntimeTable: 0x100,
  Vendor: 0x200,
  ConfigurationTable: 0x240,
} as const

/** Characters of a vendor's name that there is room for beside its NUL. */
export const LONGEST_VENDOR: number = (Place.ConfigurationTable - Place.Vendor) / 2 - 1

/** Physical addresses of the tables, in bytes. */
export interface TablePlaces {
  readonly systemTable: number
  readonly runtimeTable: number
  readonly vendor: number
  readonly configurationTable: number
  readonly bootTable: number
}

/** Where tables go in a page of runtime-services data and at `bootTable` in boot-services data. */
export function placeTables(page: number, bootTable: number): TablePlaces {
  return {
    systemTable: page + Place.SystemTable,
    runtimeTable: page + Place.RuntimeTable,
    vendor: page + Place.Vendor,
    configurationTable: page + Place.ConfigurationTable,
    bootTable,
  }
}

/** What the tables point to. */
export interface TableContents {
  readonly services: Readonly<Record<RuntimeServiceName, number>>
  readonly bootServices: Readonly<Record<keyof typeof BootServicesTable, number>>
  /** Function of the boot services that are not modelled. */
  readonly otherBootService: number
  /** Stands for the console handles and protocols, which nobody calls. */
  readonly console: number
  readonly configTables: ReadonlyMap<string, number>
  readonly identity: TableIdentity
}

/** Writes the three tables with their checksums, the vendor string and the configuration table. */
export function writeTables(
  memory: PhysicalMemory,
  places: TablePlaces,
  contents: TableContents,
): void {
  const config = [...contents.configTables].map(([guid, table]) => ({ guid, table: BigInt(table) }))
  memory.write(places.configurationTable, encodeConfigTable(config))
  const { vendor, revision } = contents.identity
  memory.write(places.vendor, encodeUcs2(vendor))
  const runtimeBytes =
    revision < UEFI_2_0 ? RuntimeServicesTable.UpdateCapsule : RUNTIME_SERVICES_TABLE_SIZE
  const runtime = newTable(RUNTIME_SERVICES_TABLE_SIGNATURE, runtimeBytes, revision)
  for (const name of RUNTIME_SERVICES) {
    if (RuntimeServicesTable[name] < runtimeBytes)
      runtime.setPointer(RuntimeServicesTable[name], contents.services[name])
  }
  memory.write(places.runtimeTable, sealTable(runtime.bytes))
  const boot = newTable(BOOT_SERVICES_TABLE_SIGNATURE, BOOT_SERVICES_TABLE_SIZE, revision)
  for (let offset = TABLE_HEADER_SIZE; offset < BOOT_SERVICES_TABLE_SIZE; offset += 8) {
    boot.setPointer(offset, contents.otherBootService)
  }
  for (const [name, address] of Object.entries(contents.bootServices)) {
    boot.setPointer(BootServicesTable[name as keyof typeof BootServicesTable], address)
  }
  memory.write(places.bootTable, sealTable(boot.bytes))
  const system = newTable(SYSTEM_TABLE_SIGNATURE, SYSTEM_TABLE_SIZE, revision)
  system.setPointer(SystemTable.FirmwareVendor, places.vendor)
  system.setPointer(SystemTable.FirmwareRevision, 0x1_0000)
  for (let at: number = SystemTable.ConsoleInHandle; at < SystemTable.RuntimeServices; at += 8) {
    system.setPointer(at, contents.console)
  }
  system.setPointer(SystemTable.RuntimeServices, places.runtimeTable)
  system.setPointer(SystemTable.BootServices, places.bootTable)
  system.setPointer(SystemTable.NumberOfTableEntries, config.length)
  system.setPointer(SystemTable.ConfigurationTable, places.configurationTable)
  memory.write(places.systemTable, sealTable(system.bytes))
}

function newTable(
  signature: bigint,
  size: number,
  revision: number,
): { bytes: Uint8Array; setPointer: (offset: number, value: number) => void } {
  const bytes = new Uint8Array(size)
  bytes.set(encodeTableHeader({ signature, revision, headerSize: size }))
  const view = new DataView(bytes.buffer)
  return {
    bytes,
    setPointer: (offset: number, value: number): void =>
      view.setBigUint64(offset, BigInt(value), true),
  }
}
