/** A device whose registers, or whose memory, lie in the physical address space. Its state is copied when a machine forks. */
export interface MemoryDevice {
  readonly name: string
  /** The first byte, and the first after the last; both page aligned. */
  readonly start: number
  readonly end: number
  /**
   * Whether reads give what memory holds there, without asking the device: flash in its array mode. It may change with each {@link read} or {@link write}, and at no
   * other time.
   */
  readonly readsAsMemory?: boolean
  /** `size` bytes at `offset` from the start, as an unsigned number. Larger accesses come in pieces. */
  read(offset: number, size: 1 | 2 | 4): number
  write(offset: number, size: 1 | 2 | 4, value: number): void
  /** The same device on the memory of a fork. */
  fork(memory: MemoryDeviceHost): MemoryDevice
}

/** The memory that a device is attached to, where it keeps what reads as memory. */
export interface MemoryDeviceHost {
  read8(address: number): number
  write8(address: number, value: number): void
  read(address: number, length: number): Uint8Array
  write(address: number, bytes: Uint8Array): void
}
