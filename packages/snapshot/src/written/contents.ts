import type { RecordedCall } from '../observed/recorded-calls.ts'
import type { FlashImage, PageRun } from '../snapshot.ts'
import type { ConfigTableEntry, MemoryDescriptor, RuntimeServiceName } from '@trapdoor/uefi'

/** Version of the form in which snapshots are written: counted up where what is written changes. Recordings made by hand have none. */
export const SNAPSHOT_FORMAT_VERSION = 1

/** A file that a snapshot was made with. */
export interface UsedFile {
  /** Its name without folders. */
  readonly name: string
  /** In hexadecimal. */
  readonly sha256: string
  /** What was changed in the copy that was used, in words. */
  readonly changed?: string
}

/** Where a snapshot comes from: enough to make it again, and to see whether it would be another. */
export interface Provenance {
  readonly firmware: UsedFile
  readonly variables: UsedFile | undefined
  /** EFI drivers that were loaded before the operating system took over, in order. */
  readonly drivers: readonly UsedFile[]
  /** The application that stood for the operating system. */
  readonly application: UsedFile
  /** QEMU's version. */
  readonly qemu: string
}

/** A page that holds a page table. */
export interface TablePage {
  readonly address: number
  /** 1 for the tables whose entries map 4 KiB, and so on up to the root. */
  readonly level: number
  /** The first linear address that is translated through it. */
  readonly linear: bigint
  readonly bytes: Uint8Array
}

/** All of a captured firmware, as it is written. Addresses are physical, in bytes, where nothing else is said. */
export interface SnapshotContents {
  /** Short, such as "pc-OVMF_CODE-512M". */
  readonly name: string
  readonly provenance: Provenance
  /** The emulator and its arguments. */
  readonly command: readonly string[]
  readonly architecture: 'x64' | 'ia32'
  readonly memoryMap: {
    readonly descriptors: readonly MemoryDescriptor[]
    readonly address: number
    readonly key: number
    readonly descriptorSize: number
    readonly descriptorVersion: number
  }
  readonly systemTable: number
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
  /** The processor's registers as the emulator's monitor prints them, see registersDocument. */
  readonly registers: Readonly<Record<string, string | readonly string[]>>
  /** MSRs by their names in the SDM. */
  readonly msrs: Readonly<Record<string, bigint>>
  readonly root: number
  readonly tables: readonly TablePage[]
  /** Runtime and ACPI memory, the memory map and the tables that the system table leads to. */
  readonly runtimePages: readonly PageRun[]
  /** The rest of what the firmware has in memory: boot services' above all. */
  readonly retainedPages: readonly PageRun[]
  readonly flash: FlashImage
  readonly devices: {
    readonly cmos: Uint8Array
    readonly pci: Readonly<Record<string, Uint8Array>>
    readonly powerManagementBase: number
  }
  /** What the firmware did when it was called from then on; undefined where nobody called it. */
  readonly recording?: Recording | undefined
}

/** Calls of a firmware, one after the other, and the machine that they were made on. */
export interface Recording {
  /** The processor before the first call. */
  readonly registers: SnapshotContents['registers']
  /** The caller's page tables, on which all calls ran. */
  readonly root: number
  readonly tables: readonly TablePage[]
  /** What SetVirtualAddressMap got: regions with their virtual addresses, in order. */
  readonly virtualMap: readonly MemoryDescriptor[]
  /** Bytes from one descriptor of that map to the next. */
  readonly descriptorSize: number
  /** The instruction that each call begins with, and where it returns to. */
  readonly caller: { readonly begin: number; readonly end: number }
  /** Memory of the caller. */
  readonly scratch: { readonly address: number; readonly bytes: number }
  readonly stackTop: number
  readonly calls: readonly WrittenCall[]
  /** How each kind of figure was measured. */
  readonly measured: Readonly<Record<string, string>>
}

/** A call, and how much was put back afterwards. */
export interface WrittenCall extends RecordedCall {
  /** Pages of runtime memory that were put back, where {@link RecordedCall.restored} says that it was. */
  readonly restoredPages: number | undefined
}
