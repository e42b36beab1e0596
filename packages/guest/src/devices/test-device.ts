import type { MemoryDevice, MemoryDeviceHost, PortDevice } from '@trapdoor/core'

const DATA_PORTS = 0xe0
const FLUSH_PORTS = 0xe4
const BYTE_PORTS = 0xe8
const PORTS = 12
const MEMORY = 0xff00_0000
const MEMORY_BYTES = 0x1_0000

/**
 * The ports of QEMU's pc-testdev (hw/misc/pc-testdev.c) that tests of instructions use: four that read as they were written, four that have a page flushed, which is nothing here, and the four
 * again, byte by byte. Its interrupt lines are not there.
 */
export class TestDevicePorts implements PortDevice {
  readonly name = 'test device'
  readonly ports: readonly number[] = Array.from(
    { length: PORTS },
    (_, index) => DATA_PORTS + index,
  )
  readonly #data: Uint8Array

  constructor(data: Uint8Array = new Uint8Array(4)) {
    this.#data = data
  }

  in8(port: number): number {
    return isFlush(port) ? 0xff : this.#data[port & 3]!
  }

  out8(port: number, value: number): void {
    if (!isFlush(port)) this.#data[port & 3] = value
  }

  fork(): TestDevicePorts {
    return new TestDevicePorts(this.#data.slice())
  }
}

function isFlush(port: number): boolean {
  return port >= FLUSH_PORTS && port < BYTE_PORTS
}

/** The memory of pc-testdev: 64 KiB that read as they were written, by way of a device. */
export class TestDeviceMemory implements MemoryDevice {
  readonly name = 'test device memory'
  readonly start: number = MEMORY
  readonly end: number = MEMORY + MEMORY_BYTES
  readonly #bytes: DataView

  constructor(bytes: Uint8Array = new Uint8Array(MEMORY_BYTES)) {
    this.#bytes = new DataView(bytes.buffer)
  }

  read(offset: number, size: 1 | 2 | 4): number {
    if (size === 1) return this.#bytes.getUint8(offset)
    return size === 2 ? this.#bytes.getUint16(offset, true) : this.#bytes.getUint32(offset, true)
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (size === 1) this.#bytes.setUint8(offset, value)
    else if (size === 2) this.#bytes.setUint16(offset, value, true)
    else this.#bytes.setUint32(offset, value, true)
  }

  fork(_memory: MemoryDeviceHost): TestDeviceMemory {
    return new TestDeviceMemory(new Uint8Array(this.#bytes.buffer.slice(0)))
  }
}
