import type { IoPorts, PortDevice } from '@trapdoor/core'
import type { DeviceAccess } from '@trapdoor/snapshot'

/** An access to an I/O port, which is the address; the size in bytes. */
export type PortAccess = Omit<DeviceAccess, 'device'>

const PORTS = 0x1_0000
const CMOS_INDEX = 0x70
const CMOS_DATA = 0x71

/** All ports of a machine, with a note of each access. It goes before the devices that it was made of. */
export class NotedPorts implements PortDevice {
  readonly name = 'noted ports'
  readonly ports: readonly number[] = Array.from({ length: PORTS }, (_, port) => port)
  /** All accesses so far, in their order. */
  readonly accesses: PortAccess[] = []
  readonly #devices: IoPorts

  constructor(devices: IoPorts) {
    this.#devices = devices
  }

  in8(port: number): number {
    return this.#read(port, 1, this.#devices.in8(port))
  }

  in16(port: number): number {
    return this.#read(port, 2, this.#devices.in16(port))
  }

  in32(port: number): number {
    return this.#read(port, 4, this.#devices.in32(port))
  }

  out8(port: number, value: number): void {
    this.#write(port, 1, value)
    this.#devices.out8(port, value)
  }

  out16(port: number, value: number): void {
    this.#write(port, 2, value)
    this.#devices.out16(port, value)
  }

  out32(port: number, value: number): void {
    this.#write(port, 4, value)
    this.#devices.out32(port, value)
  }

  /** What the clock of the machine says, ISO without zone. It counts in BCD and 24 hours, as that of a PC does whose firmware is edk2. */
  get time(): string {
    // Selecting a register changes the clock.
    const devices = this.#devices.fork()
    const digits = (register: number): string => {
      devices.out8(CMOS_INDEX, register)
      return devices.in8(CMOS_DATA).toString(16).padStart(2, '0')
    }
    const [century, year, month, day] = [0x32, 9, 8, 7].map(digits)
    return `${century}${year}-${month}-${day}T${[4, 2, 0].map(digits).join(':')}`
  }

  /** A fork goes its own way, and notes for itself. */
  fork(): NotedPorts {
    return new NotedPorts(this.#devices.fork())
  }

  #read(address: number, size: number, value: number): number {
    this.accesses.push({ kind: 'read', address, size, value })
    return value
  }

  /** Before the device gets it: the write may be the last thing that the machine does. */
  #write(address: number, size: number, value: number): void {
    this.accesses.push({ kind: 'write', address, size, value })
  }
}
