import type { Rewind } from '../rewind.ts'

/** A device behind I/O ports. Its state is copied when a machine forks. */
export interface PortDevice {
  readonly name: string
  /** The ports that it answers. */
  readonly ports: readonly number[]
  in8(port: number): number
  out8(port: number, value: number): void
  /** 16 or 32 bits at once, for a device that tells them from single bytes. By default they are bytes of the ports from `port` up. */
  in16?(port: number): number
  in32?(port: number): number
  out16?(port: number, value: number): void
  out32?(port: number, value: number): void
  fork(): PortDevice
}

/** The I/O address space. A port that nobody answers reads as 0xff and swallows what is written. */
export class IoPorts {
  #devices: PortDevice[] = []
  #byPort: Map<number, PortDevice> = new Map()

  attach(device: PortDevice): void {
    this.#devices.push(device)
    for (const port of device.ports) this.#byPort.set(port, device)
  }

  /** The device that answers a port; undefined where nobody does. */
  deviceAt(port: number): PortDevice | undefined {
    return this.#byPort.get(port)
  }

  in8(port: number): number {
    return this.#byPort.get(port)?.in8(port) ?? 0xff
  }

  out8(port: number, value: number): void {
    this.#byPort.get(port)?.out8(port, value & 0xff)
  }

  in16(port: number): number {
    const device = this.#byPort.get(port)
    if (device?.in16 !== undefined) return device.in16(port) & 0xffff
    return this.in8(port) | (this.in8(port + 1) << 8)
  }

  /** An unsigned value. */
  in32(port: number): number {
    const device = this.#byPort.get(port)
    if (device?.in32 !== undefined) return device.in32(port) >>> 0
    return (this.in16(port) | (this.in16(port + 2) << 16)) >>> 0
  }

  out16(port: number, value: number): void {
    const device = this.#byPort.get(port)
    if (device?.out16 !== undefined) {
      device.out16(port, value & 0xffff)
      return
    }
    this.out8(port, value)
    this.out8(port + 1, value >>> 8)
  }

  out32(port: number, value: number): void {
    const device = this.#byPort.get(port)
    if (device?.out32 !== undefined) {
      device.out32(port, value >>> 0)
      return
    }
    this.out16(port, value)
    this.out16(port + 2, value >>> 16)
  }

  fork(): IoPorts {
    const copy = new IoPorts()
    for (const device of this.#devices) copy.attach(device.fork())
    return copy
  }

  /** Remembers what the devices are like at this moment. */
  checkpoint(): Rewind {
    const saved = this.fork()
    return () => {
      const copy = saved.fork()
      this.#devices = copy.#devices
      this.#byPort = copy.#byPort
    }
  }
}
