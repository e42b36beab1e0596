import type { PortDevice } from '@trapdoor/core'

const SELECTOR_PORT = 0x510
const DATA_PORT = 0x511
/** Items by their keys (QEMU, docs/specs/fw_cfg.rst; hw/i386/fw_cfg.c). */
const Key = {
  Signature: 0x00,
  Identity: 0x01,
  RamSize: 0x03,
  NumberOfCpus: 0x05,
  MaximumOfCpus: 0x0f,
  Directory: 0x19,
} as const
/** Traditional interface, no DMA. */
const IDENTITY = 1

export interface FirmwareConfigurationOptions {
  readonly memoryBytes: number
  readonly cpus: number
}

/**
 * QEMU's firmware configuration device by its two ports: a key is written to one, the item's bytes come out of the other. It has what guests ask for, sizes and numbers, and no files.
 */
export class FirmwareConfiguration implements PortDevice {
  readonly name = 'fw_cfg'
  readonly ports: readonly number[] = [SELECTOR_PORT, DATA_PORT]
  readonly #options: FirmwareConfigurationOptions
  readonly #items: ReadonlyMap<number, Uint8Array>
  #key = 0
  #offset = 0

  constructor(options: FirmwareConfigurationOptions) {
    const { memoryBytes, cpus } = options
    this.#options = options
    this.#items = new Map([
      [Key.Signature, new TextEncoder().encode('QEMU')],
      [Key.Identity, number(IDENTITY, 4)],
      [Key.RamSize, number(memoryBytes, 8)],
      [Key.NumberOfCpus, number(cpus, 2)],
      [Key.MaximumOfCpus, number(cpus, 2)],
      [Key.Directory, number(0, 4)],
    ])
  }

  in8(port: number): number {
    if (port !== DATA_PORT) return 0
    return this.#items.get(this.#key)?.[this.#offset++] ?? 0
  }

  /** A byte to the selector changes nothing: keys have 16 bits. */
  out8(): void {}

  out16(port: number, value: number): void {
    if (port !== SELECTOR_PORT) return
    this.#key = value
    this.#offset = 0
  }

  fork(): FirmwareConfiguration {
    const copy = new FirmwareConfiguration(this.#options)
    copy.#key = this.#key
    copy.#offset = this.#offset
    return copy
  }
}

/** A little-endian number of so many bytes. */
function number(value: number, bytes: 2 | 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, BigInt(value), true)
  return new Uint8Array(view.buffer, 0, bytes)
}
