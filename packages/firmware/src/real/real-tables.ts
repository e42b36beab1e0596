import type { PhysicalMemory } from '@trapdoor/core'
import {
  type Architecture,
  decodeConfigTable,
  decodeUcs2,
  encodeConfigTable,
  encodeUcs2,
  RUNTIME_SERVICES,
  type RuntimeServiceName,
  sealTable,
  TABLE_HEADER_SIZE,
  TableHeader,
} from '@trapdoor/uefi'
import { readNatural, writeNatural } from '../layout/natural.ts'
import type { TableIdentity } from '../tables/efi-tables.ts'

const VENDOR_BYTES = 128

/** What the tables of a real firmware say, for quirks to change. */
export interface TableState {
  readonly services: Map<RuntimeServiceName, number>
  readonly configTables: Map<string, number>
  readonly identity: TableIdentity
}

/** The EFI tables of a real firmware in memory. Addresses are physical. */
export class RealTables {
  readonly systemTable: number
  readonly #memory: PhysicalMemory
  readonly #architecture: Architecture

  constructor(memory: PhysicalMemory, architecture: Architecture, systemTable: number) {
    this.#memory = memory
    this.#architecture = architecture
    this.systemTable = systemTable
  }

  /** Address of the runtime services table. */
  get runtimeTable(): number {
    return this.#pointer('RuntimeServices')
  }

  /** What they say now. */
  read(): TableState {
    const { tables } = this.#architecture
    const config = this.#memory.read(
      this.#pointer('ConfigurationTable'),
      this.#pointer('NumberOfTableEntries') * tables.configTableEntrySize,
    )
    return {
      services: new Map(
        RUNTIME_SERVICES.map((name) => [
          name,
          this.#word(this.runtimeTable + tables.runtimeServicesTable[name]),
        ]),
      ),
      configTables: new Map(
        decodeConfigTable(config, this.#architecture).map(({ guid, table }) => [
          guid,
          Number(table),
        ]),
      ),
      identity: {
        vendor: decodeUcs2(this.#memory.read(this.#pointer('FirmwareVendor'), VENDOR_BYTES)),
        revision: this.#memory.read32(this.systemTable + TableHeader.Revision),
      },
    }
  }

  /** Writes what has changed; what has not is not touched. `allocate` gives runtime memory for what does not fit where it was. */
  write(before: TableState, after: TableState, allocate: (bytes: number) => number): void {
    for (const [name, address] of after.services) {
      if (before.services.get(name) === address) continue
      const { [name]: offset } = this.#architecture.tables.runtimeServicesTable
      this.#setWord(this.runtimeTable + offset, address)
    }
    if (!sameEntries(before.configTables, after.configTables)) {
      this.#writeConfigTables(after.configTables, before.configTables.size, allocate)
    }
    const { vendor, revision } = after.identity
    if (vendor !== before.identity.vendor) {
      const bytes = encodeUcs2(vendor)
      const place = allocate(bytes.length)
      this.#memory.write(place, bytes)
      this.#setPointer('FirmwareVendor', place)
    }
    if (revision !== before.identity.revision) {
      for (const table of [this.systemTable, this.runtimeTable]) {
        this.#memory.write32(table + TableHeader.Revision, revision)
      }
    }
    this.#seal(this.runtimeTable)
    this.#seal(this.systemTable)
  }

  /** Puts boot services and consoles back, which ExitBootServices has taken away. */
  offerBootServices(bootTable: number, console: number): void {
    const { tables, naturalBytes } = this.#architecture
    const { ConsoleInHandle, RuntimeServices } = tables.systemTable
    for (let at = ConsoleInHandle; at < RuntimeServices; at += naturalBytes) {
      this.#setWord(this.systemTable + at, console)
    }
    this.#setPointer('BootServices', bootTable)
    this.#seal(this.systemTable)
  }

  #writeConfigTables(
    entries: ReadonlyMap<string, number>,
    room: number,
    allocate: (bytes: number) => number,
  ): void {
    const bytes = encodeConfigTable(
      [...entries].map(([guid, table]) => ({ guid, table: BigInt(table) })),
      this.#architecture,
    )
    const place =
      entries.size <= room ? this.#pointer('ConfigurationTable') : allocate(bytes.length)
    this.#memory.write(place, bytes)
    this.#setPointer('ConfigurationTable', place)
    this.#setPointer('NumberOfTableEntries', entries.size)
  }

  /** Computes a table's checksum anew. */
  #seal(table: number): void {
    const size = this.#memory.read32(table + TableHeader.HeaderSize)
    if (size < TABLE_HEADER_SIZE) return
    const sealed = sealTable(this.#memory.read(table, size))
    this.#memory.write(table, sealed.subarray(0, TABLE_HEADER_SIZE))
  }

  #pointer(field: keyof Architecture['tables']['systemTable']): number {
    return this.#word(this.systemTable + this.#architecture.tables.systemTable[field])
  }

  #setPointer(field: keyof Architecture['tables']['systemTable'], value: number): void {
    this.#setWord(this.systemTable + this.#architecture.tables.systemTable[field], value)
  }

  #word(address: number): number {
    return Number(readNatural(this.#architecture, this.#memory, address))
  }

  #setWord(address: number, value: number): void {
    writeNatural(this.#architecture, this.#memory, address, BigInt(value))
  }
}

function sameEntries(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([guid, address]) => b.get(guid) === address)
}
