import type { Architecture, MemoryDescriptor, RuntimeServiceName } from '@trapdoor/uefi'
import type { FirmwareCall, FirmwareService } from './firmware-call.ts'

/** A driver of a quirk's own, with pages of runtime-services code of its own, events and pointers like those of the built-in ones. Addresses are physical. */
export interface LoadedDriver {
  /** The first of its two pages: code, then data. */
  readonly base: number
  /** Adds a function that runs in the name of `service`. Returns its address. */
  readonly code: (
    name: string,
    service: FirmwareService,
    run: (call: FirmwareCall) => bigint,
  ) => number
  /** Makes a slot that holds `value`. The driver's address-change event converts it, or `none` does. */
  readonly pointer: (slot: string, value: number | bigint, options?: { convert?: boolean }) => void
}

/** What a quirk's driver may do while the machine is powered on. Addresses are physical, in bytes. */
export interface FirmwareSetup {
  /** What the firmware is built for. */
  readonly architecture: Architecture
  /**
   * Takes zeroed pages out of a descriptor of `type` (boot services or runtime services), above 1 MiB where there is a choice.
   * Returns their address. Throws FIRMWARE_NO_ROOM, naming `name`.
   */
  readonly allocate: (request: { type: number; pages: number; name: string }) => number
  /** Puts a device at pages that the reported map does not list. Throws FIRMWARE_BAD_SETUP where it does. Returns their address. */
  readonly allocateOutsideMap: (request: { address: number; pages: number; name: string }) => number
  /**
   * Places a function's gate at `address`, in memory that was allocated, and returns the address. The event log calls it `name` of
   * `image`; it runs in the name of `service`, and its `imageBase` is where the gate is.
   */
  readonly code: (request: {
    address: number
    image: string
    name: string
    service: FirmwareService
    run: (call: FirmwareCall) => bigint
  }) => number
  readonly write64: (address: number, value: bigint) => void
  readonly write: (address: number, bytes: Uint8Array) => void
  /**
   * Makes a slot in an image's data that holds `value`. With `convert` (the default) the image's address-change event converts it;
   * without, it keeps what it has. Throws FIRMWARE_BAD_SETUP for an unknown image or a slot that exists.
   */
  readonly pointer: (
    image: string,
    slot: string,
    value: number | bigint,
    options?: { convert?: boolean },
  ) => void
  /**
   * Loads a runtime driver after EndOfDxe, as an option ROM or a shell does: the memory attributes table does not know of its code. Throws FIRMWARE_NO_ROOM.
   */
  readonly loadDriver: (name: string) => LoadedDriver
  /** Puts a function into the runtime services table. Returns the address that was there. */
  readonly replaceService: (service: RuntimeServiceName, address: number) => number
  /** Where the memory attributes table will be: a page that has room for 16 bytes at its end. Undefined where the firmware has none. */
  readonly memoryAttributesTable: number | undefined
  /** Physical base of an image. Throws FIRMWARE_BAD_SETUP for an unknown one. */
  readonly imageBase: (image: string) => number
  /** Address that a configuration table has so far. */
  readonly configTable: (guid: string) => number | undefined
  readonly setConfigTable: (guid: string, address: number) => void
  /**
   * Changes what GetMemoryMap reports, once it is known what lies where; what is really there stays. A descriptor added at the right place of the order is the caller's business.
   */
  readonly reportMap: (
    change: (descriptors: readonly MemoryDescriptor[]) => readonly MemoryDescriptor[],
  ) => void
  /**
   * What the tables say of the firmware: the vendor's name, of 31 characters at most, and the revision of UEFI as major << 16 | minor. Before 2.0 (0x20000) the runtime table ends
   * behind ResetSystem, and the services of UEFI 2.0 are null. Throws FIRMWARE_BAD_SETUP for a longer name.
   */
  readonly identify: (identity: { readonly vendor?: string; readonly revision?: number }) => void
}
