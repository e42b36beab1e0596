import type { MemoryDevice, ParallelFlash, PortDevice } from '@trapdoor/core'
import type { DeviceAccess } from '@trapdoor/snapshot'
import { type Difference, hex } from './difference.ts'

/** QEMU's name for the interrupts of the timer, which come whenever the host pleases. */
const NOISE = 'apic-msi'
const PORT_LIMIT = 0x1_0000
/** The port by which firmware enters system-management mode. */
const SMI_PORT = 0xb2

type Size = 1 | 2 | 4

/**
 * What devices answered in one call, in order. An access is compared with the next that was recorded, and a read gets what was read then. From the first that is another on nothing is
 * compared any more, as all that follows may follow from it.
 */
export class DeviceLog {
  readonly differences: Difference[] = []
  readonly #recorded: readonly DeviceAccess[]
  #next = 0

  constructor(recorded: readonly DeviceAccess[]) {
    this.#recorded = recorded.filter(({ device }) => device !== NOISE)
  }

  /** How many SMIs were raised. */
  get smis(): number {
    return this.#recorded.filter(isSmi).length
  }

  /** Whether accesses are still as recorded. */
  get isInStep(): boolean {
    return this.differences.length === 0
  }

  /** Compares a write. */
  write(address: number, size: Size, value: number): void {
    this.#take(`write of ${hex(value)} to ${place(address, size)}`, (next) => {
      return next.kind === 'write' && next.value === value && isSame(next, address, size)
    })
  }

  /** Compares a read. Returns what was read in its place; undefined where nothing was recorded. */
  read(address: number, size: Size): number | undefined {
    const next = this.#take(`read of ${place(address, size)}`, (each) => {
      return each.kind === 'read' && isSame(each, address, size)
    })
    return next?.value
  }

  /** Compares a read that a device has answered by itself. */
  compareRead(address: number, size: Size, value: number): void {
    this.#take(`read of ${hex(value)} from ${place(address, size)}`, (next) => {
      return next.kind === 'read' && next.value === value && isSame(next, address, size)
    })
  }

  /** Skips what was recorded from here on, up to the next SMI, and returns it: what a handler in system-management mode did. */
  skipHandler(): readonly DeviceAccess[] {
    const end = this.#recorded.findIndex((each, index) => index >= this.#next && isSmi(each))
    const skipped = this.#recorded.slice(this.#next, end === -1 ? undefined : end)
    this.#next += skipped.length
    return skipped
  }

  /** Whether all that was recorded has happened. */
  get isDone(): boolean {
    return this.#next === this.#recorded.length
  }

  /** What was recorded and has not happened. */
  rest(): readonly DeviceAccess[] {
    return this.#recorded.slice(this.#next)
  }

  /** Ends the comparison: what was recorded and did not happen is a difference. */
  finish(): void {
    const next = this.#recorded[this.#next]
    if (next !== undefined) this.#differ(describe(next), 'nothing more')
  }

  #take(what: string, isNext: (next: DeviceAccess) => boolean): DeviceAccess | undefined {
    if (!this.isInStep) return undefined
    const next = this.#recorded[this.#next]
    if (next === undefined || !isNext(next)) {
      this.#differ(next === undefined ? 'nothing more' : describe(next), what)
      return undefined
    }
    this.#next++
    return next
  }

  #differ(recorded: string, replayed: string): void {
    if (!this.isInStep) return
    this.differences.push({
      compared: 'device access',
      place: `number ${this.#next + 1}`,
      recorded,
      replayed,
    })
  }
}

/** Ports that answer what was recorded. */
export class RecordedPorts implements PortDevice {
  readonly name = 'recorded ports'
  readonly ports: readonly number[] = Array.from({ length: PORT_LIMIT }, (_, port) => port)
  /** The log of the call that runs. */
  log: DeviceLog = new DeviceLog([])
  /** Told when an SMI is raised as it was recorded. */
  onSmi: (() => void) | undefined

  in8(port: number): number {
    return this.#in(port, 1)
  }

  in16(port: number): number {
    return this.#in(port, 2)
  }

  in32(port: number): number {
    return this.#in(port, 4)
  }

  out8(port: number, value: number): void {
    this.#out(port, 1, value)
  }

  out16(port: number, value: number): void {
    this.#out(port, 2, value)
  }

  out32(port: number, value: number): void {
    this.#out(port, 4, value)
  }

  /** A recording is of one machine. */
  fork(): RecordedPorts {
    return this
  }

  #in(port: number, size: Size): number {
    return this.log.read(port, size) ?? 256 ** size - 1
  }

  #out(port: number, size: Size, value: number): void {
    this.log.write(port, size, value)
    if (port === SMI_PORT && this.log.isInStep) this.onSmi?.()
  }
}

/** A flash that does what it does, and is compared with what was recorded. In array mode it is memory, which no emulator records. */
export class RecordedFlash implements MemoryDevice {
  readonly name = 'flash'
  readonly start: number
  readonly end: number
  readonly #flash: ParallelFlash
  readonly #ports: RecordedPorts

  /** The log is that of `ports`, as one order holds for all devices. */
  constructor(flash: ParallelFlash, ports: RecordedPorts) {
    this.#flash = flash
    this.#ports = ports
    this.start = flash.start
    this.end = flash.end
  }

  get readsAsMemory(): boolean {
    return this.#flash.readsAsMemory
  }

  read(offset: number, size: Size): number {
    const value = this.#flash.read(offset, size)
    this.#ports.log.compareRead(this.start + offset, size, value)
    return value
  }

  write(offset: number, size: Size, value: number): void {
    this.#ports.log.write(this.start + offset, size, value)
    this.#flash.write(offset, size, value)
  }

  /** A write that nobody listens to. */
  program(offset: number, size: number, value: number): void {
    this.#flash.write(offset, size, value)
  }

  fork(): RecordedFlash {
    return this
  }
}

/** Pages of devices that are not modelled: they answer what was recorded. */
export class RecordedRegisters implements MemoryDevice {
  readonly name = 'recorded registers'
  readonly start: number
  readonly end: number
  readonly #ports: RecordedPorts

  constructor(page: number, ports: RecordedPorts) {
    this.start = page
    this.end = page + 4096
    this.#ports = ports
  }

  read(offset: number, size: Size): number {
    return this.#ports.log.read(this.start + offset, size) ?? 0
  }

  write(offset: number, size: Size, value: number): void {
    this.#ports.log.write(this.start + offset, size, value)
  }

  fork(): RecordedRegisters {
    return this
  }
}

/** The pages outside of `flash` in which a device was recorded to answer. */
export function devicePages(
  accesses: readonly DeviceAccess[],
  flash: { readonly start: number; readonly end: number } | undefined,
): number[] {
  const addresses = accesses
    .filter(({ device, address }) => device !== NOISE && address >= PORT_LIMIT)
    .map(({ address }) => address)
    .filter((address) => flash === undefined || address < flash.start || address >= flash.end)
  return [...new Set(addresses.map((address) => address - (address % 4096)))]
}

function isSmi({ kind, address }: DeviceAccess): boolean {
  return kind === 'write' && address === SMI_PORT
}

function isSame(access: DeviceAccess, address: number, size: Size): boolean {
  return access.address === address && access.size === size
}

function place(address: number, size: Size): string {
  const bits = size === 1 ? '' : ` (${size * 8} bits)`
  return `${address < PORT_LIMIT ? 'port ' : ''}${hex(address)}${bits}`
}

function describe({ kind, address, value, size }: DeviceAccess): string {
  const where = place(address, size as Size)
  return kind === 'read'
    ? `read of ${hex(value)} from ${where}`
    : `write of ${hex(value)} to ${where}`
}
