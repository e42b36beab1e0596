import type { PhysicalMemory } from '@trapdoor/core'
import {
  type Architecture,
  BOOT_SERVICES_TABLE_SIGNATURE,
  type BootServiceName,
  encodeConfigTable,
  encodeTableHeader,
  encodeUcs2,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIGNATURE,
  type RuntimeServiceName,
  sealTable,
  setNatural,
  SYSTEM_TABLE_SIGNATURE,
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

/** What the tables are, and what they point to. */
export interface TableContents {
  readonly architecture: Architecture
  readonly services: Readonly<Record<RuntimeServiceName, number>>
  readonly bootServices: Readonly<Record<BootServiceName, number>>
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
  const { architecture } = contents
  const { tables, naturalBytes } = architecture
  const config = [...contents.configTables].map(([guid, table]) => ({ guid, table: BigInt(table) }))
  memory.write(places.configurationTable, encodeConfigTable(config, architecture))
  const { vendor, revision } = contents.identity
  memory.write(places.vendor, encodeUcs2(vendor))
  const newTable = (signature: bigint, size: number): NewTable =>
    startTable(architecture, { signature, revision, headerSize: size })
  const runtimeBytes =
    revision < UEFI_2_0
      ? tables.runtimeServicesTable.UpdateCapsule
      : tables.runtimeServicesTableSize
  const runtime = newTable(RUNTIME_SERVICES_TABLE_SIGNATURE, runtimeBytes)
  for (const name of RUNTIME_SERVICES) {
    const { [name]: offset } = tables.runtimeServicesTable
    if (offset < runtimeBytes) runtime.setPointer(offset, contents.services[name])
  }
  memory.write(places.runtimeTable, sealTable(runtime.bytes))
  writeBootTable(memory, places.bootTable, contents)
  const fields = tables.systemTable
  const system = newTable(SYSTEM_TABLE_SIGNATURE, tables.systemTableSize)
  system.setPointer(fields.FirmwareVendor, places.vendor)
  system.setPointer(fields.FirmwareRevision, 0x1_0000)
  for (let at: number = fields.ConsoleInHandle; at < fields.RuntimeServices; at += naturalBytes) {
    system.setPointer(at, contents.console)
  }
  system.setPointer(fields.RuntimeServices, places.runtimeTable)
  system.setPointer(fields.BootServices, places.bootTable)
  system.setPointer(fields.NumberOfTableEntries, config.length)
  system.setPointer(fields.ConfigurationTable, places.configurationTable)
  memory.write(places.systemTable, sealTable(system.bytes))
}

/** Writes the boot services table, with its checksum. */
export function writeBootTable(
  memory: PhysicalMemory,
  address: number,
  contents: Pick<TableContents, 'architecture' | 'bootServices' | 'otherBootService' | 'identity'>,
): void {
  const { architecture, bootServices, otherBootService } = contents
  const { tables, naturalBytes } = architecture
  const table = startTable(architecture, {
    signature: BOOT_SERVICES_TABLE_SIGNATURE,
    revision: contents.identity.revision,
    headerSize: tables.bootServicesTableSize,
  })
  for (let at = TABLE_HEADER_SIZE; at < tables.bootServicesTableSize; at += naturalBytes) {
    table.setPointer(at, otherBootService)
  }
  for (const [name, function_] of Object.entries(bootServices)) {
    table.setPointer(tables.bootServicesTable[name as BootServiceName], function_)
  }
  memory.write(address, sealTable(table.bytes))
}

interface NewTable {
  readonly bytes: Uint8Array
  readonly setPointer: (offset: number, value: number) => void
}

function startTable(
  architecture: Architecture,
  header: { readonly signature: bigint; readonly revision: number; readonly headerSize: number },
): NewTable {
  const bytes = new Uint8Array(header.headerSize)
  bytes.set(encodeTableHeader(header))
  const view = new DataView(bytes.buffer)
  return {
    bytes,
    setPointer: (offset: number, value: number): void => {
      setNatural(architecture, view, offset, BigInt(value))
    },
  }
}
