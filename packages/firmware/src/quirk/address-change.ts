import type { MemoryDescriptor } from '@trapdoor/uefi'

/** What SetVirtualAddressMap was given. */
export interface VirtualAddressMapArgument {
  /** Bytes. */
  readonly size: bigint
  /** Bytes from one descriptor to the next. */
  readonly descriptorSize: bigint
  readonly descriptorVersion: bigint
  /** Address of the first descriptor, as passed. */
  readonly address: bigint
  /** Reads the descriptors from where they were passed. Empty where the sizes make no sense. */
  readonly read: () => readonly MemoryDescriptor[]
}

/** The conversion that goes on while an address-change event runs. */
export interface AddressChange {
  /**
   * Calls ConvertPointer through the runtime table for the pointer at `address`, and returns its status; a pointer that no runtime
   * descriptor covers stays as it is. A null pointer is let through, as with EFI_OPTIONAL_PTR.
   */
  readonly convert: (address: bigint) => bigint
}
