import type { PhysicalMemory } from '@trapdoor/core'
import {
  type Architecture,
  type ConfigTableEntry,
  decodeConfigTable,
  decodeUcs2,
  getNatural,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
} from '@trapdoor/uefi'

/** What the EFI system table leads to. Addresses are physical. */
export interface SystemTableContents {
  readonly firmwareVendor: string
  readonly firmwareRevision: number
  readonly configurationTable: {
    readonly address: number
    readonly entries: readonly ConfigTableEntry[]
  }
  readonly runtimeServices: {
    readonly address: number
    readonly functions: Readonly<Record<RuntimeServiceName, number>>
  }
}

/** Bytes of a vendor's name that are looked at. */
const VENDOR_BYTES = 128

/** Follows the pointers of the EFI system table at `address`. */
export function readSystemTable(
  memory: PhysicalMemory,
  address: number,
  architecture: Architecture,
): SystemTableContents {
  const { systemTable, systemTableSize, runtimeServicesTable, ...sizes } = architecture.tables
  const table = viewOf(memory.read(address, systemTableSize))
  const pointer = (offset: number): number => Number(getNatural(architecture, table, offset))
  const configuration = pointer(systemTable.ConfigurationTable)
  const entries = pointer(systemTable.NumberOfTableEntries)
  const runtime = pointer(systemTable.RuntimeServices)
  const services = viewOf(memory.read(runtime, sizes.runtimeServicesTableSize))
  return {
    firmwareVendor: decodeUcs2(memory.read(pointer(systemTable.FirmwareVendor), VENDOR_BYTES)),
    firmwareRevision: table.getUint32(systemTable.FirmwareRevision, true),
    configurationTable: {
      address: configuration,
      entries: decodeConfigTable(
        memory.read(configuration, entries * sizes.configTableEntrySize),
        architecture,
      ),
    },
    runtimeServices: {
      address: runtime,
      functions: Object.fromEntries(
        RUNTIME_SERVICES.map((name) => [
          name,
          Number(getNatural(architecture, services, runtimeServicesTable[name])),
        ]),
      ) as Record<RuntimeServiceName, number>,
    },
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
