import type { PortDevice } from '../machine/ports.ts'
import { type Board, POWER_MANAGEMENT_BASE } from './board.ts'

/** CONFIG_ADDRESS and CONFIG_DATA (PCI 3.0, 3.2.2.3.2). */
const ADDRESS_PORT = 0xcf8
const DATA_PORT = 0xcfc
const ENABLE = 0x8000_0000
const ONES = 0xffff_ffff

/** Subsystem of all of QEMU's functions (docs/specs/pci-ids.txt). */
const SUBSYSTEM = 0x1100_1af4
const MULTIPLE_FUNCTIONS = 0x80_0000
/** A base address is that of ports. */
const IS_PORT_SPACE = 1

/** A function's registers by their offset; others read as zero. */
type Registers = Readonly<Record<number, number>>

/** The functions that firmware asks who the machine is, and where its power management: bus 0, by device * 8 + function. */
const FUNCTIONS: Readonly<Record<Board, Readonly<Record<number, Registers>>>> = {
  pc: {
    // 82441FX host bridge, revision 2.
    0x00: { 0x00: 0x1237_8086, 0x08: 0x0600_0002, 0x2c: SUBSYSTEM },
    // PIIX3 ISA bridge.
    0x08: { 0x00: 0x7000_8086, 0x08: 0x0601_0000, 0x0c: MULTIPLE_FUNCTIONS, 0x2c: SUBSYSTEM },
    // PIIX4 power management: PMBA, and in PMREGMISC that it is enabled.
    0x0b: {
      0x00: 0x7113_8086,
      0x08: 0x0680_0003,
      0x2c: SUBSYSTEM,
      0x40: POWER_MANAGEMENT_BASE.pc | IS_PORT_SPACE,
      0x80: 0x01,
    },
  },
  q35: {
    // 82G33 host bridge.
    0x00: { 0x00: 0x29c0_8086, 0x08: 0x0600_0000, 0x2c: SUBSYSTEM },
    // ICH9 LPC bridge: PMBASE, and in ACPI_CNTL that it is enabled.
    0xf8: {
      0x00: 0x2918_8086,
      0x08: 0x0601_0002,
      0x0c: MULTIPLE_FUNCTIONS,
      0x2c: SUBSYSTEM,
      0x40: POWER_MANAGEMENT_BASE.q35 | IS_PORT_SPACE,
      0x44: 0x80,
    },
  },
}

/**
 * PCI configuration space by the ports of mechanism 1, with the bridges of a PC of QEMU's as OVMF leaves them. There is no other function, and what is written is dropped: firmware at runtime reads. The
 * address is written as 32 bits; bytes in its place are other devices' (the reset control register is one).
 */
export class PciConfiguration implements PortDevice {
  readonly name = 'PCI configuration'
  readonly ports: readonly number[] = [ADDRESS_PORT, DATA_PORT, 0xcfd, 0xcfe, 0xcff]
  readonly #board: Board
  #address = 0

  constructor(board: Board) {
    this.#board = board
  }

  in8(port: number): number {
    return port === ADDRESS_PORT ? 0xff : this.#data(port, 1)
  }

  in16(port: number): number {
    return port === ADDRESS_PORT ? 0xffff : this.#data(port, 2)
  }

  in32(port: number): number {
    return port === ADDRESS_PORT ? this.#address : this.#data(port, 4)
  }

  out8(): void {}

  out16(): void {}

  out32(port: number, value: number): void {
    if (port === ADDRESS_PORT) this.#address = value
  }

  fork(): PciConfiguration {
    const copy = new PciConfiguration(this.#board)
    copy.#address = this.#address
    return copy
  }

  #data(port: number, size: number): number {
    const within = port - DATA_PORT
    return Math.floor(this.#register() / 256 ** within) % 256 ** size
  }

  /** The 32 bits that CONFIG_ADDRESS selects; ones where nobody answers. */
  #register(): number {
    if (this.#address < ENABLE) return ONES
    const bus = (this.#address >>> 16) & 0xff
    const registers = bus === 0 ? FUNCTIONS[this.#board][(this.#address >>> 8) & 0xff] : undefined
    return registers === undefined ? ONES : (registers[this.#address & 0xfc] ?? 0)
  }
}
