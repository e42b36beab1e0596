import type { Cpu } from '@trapdoor/core'
import type { RuntimeServiceName } from '@trapdoor/uefi'
import { FirmwareDeadLoop, FirmwareError } from '../error.ts'
import type { ImageLayout } from '../layout/image-layout.ts'

/** What firmware code runs in the name of: a runtime service, or a boot service. */
export type FirmwareService =
  | RuntimeServiceName
  | 'AllocatePages'
  | 'FreePages'
  | 'GetMemoryMap'
  | 'ExitBootServices'

const LARGEST_SANE_COPY = 0x10_0000

/**
 * Firmware code on a CPU. All memory is reached through the page tables that this CPU has loaded, at the address that is given, so that
 * a stale pointer faults or hits what is there now. Addresses and 64-bit values are bigint.
 */
export class FirmwareCall {
  readonly service: FirmwareService
  readonly cpu: Cpu
  /** Address at which the gate of the running function was fetched. */
  readonly rip: bigint
  readonly args: readonly bigint[]
  /** Where the running code sees the first byte of its image, which follows from RIP. */
  readonly imageBase: bigint
  readonly #layout: ImageLayout

  constructor(
    service: FirmwareService,
    layout: ImageLayout,
    gate: { cpu: Cpu; rip: bigint; args: readonly bigint[]; offset: number },
  ) {
    this.service = service
    this.#layout = layout
    this.cpu = gate.cpu
    this.rip = gate.rip
    this.args = gate.args
    this.imageBase = BigInt.asUintN(64, gate.rip - BigInt(gate.offset))
  }

  /** Name of the image whose code runs, such as "VariableRuntimeDxe". */
  get image(): string {
    return this.#layout.name
  }

  /** An argument; one that the caller left out is what the register held, taken as 0. */
  arg(index: number): bigint {
    return this.args[index] ?? 0n
  }

  read8(address: bigint): number {
    return this.cpu.read8(address)
  }

  read16(address: bigint): number {
    return this.cpu.read16(address)
  }

  read32(address: bigint): number {
    return this.cpu.read32(address)
  }

  read64(address: bigint): bigint {
    return this.cpu.read64(address)
  }

  /** A copy of `length` bytes. A length that only overwritten memory can have ended up with is walked until it faults, or hangs. */
  readBytes(address: bigint, length: number): Uint8Array {
    if (length <= LARGEST_SANE_COPY) return this.cpu.readBytes(address, length)
    for (let done = 0n; done < BigInt(LARGEST_SANE_COPY); done += 4096n) {
      this.cpu.read8(address + done)
    }
    return this.deadLoop(`copies ${length} bytes from 0x${address.toString(16)}`)
  }

  write8(address: bigint, value: number): void {
    this.cpu.write8(address, value)
  }

  write16(address: bigint, value: number): void {
    this.cpu.write16(address, value)
  }

  write32(address: bigint, value: number): void {
    this.cpu.write32(address, value)
  }

  write64(address: bigint, value: bigint): void {
    this.cpu.write64(address, value)
  }

  writeBytes(address: bigint, bytes: Uint8Array): void {
    this.cpu.writeBytes(address, bytes)
  }

  /** Address of a pointer slot of this image, relative to RIP. Throws FIRMWARE_BAD_SETUP for a slot that nobody made. */
  slot(name: string): bigint {
    const offset = this.#layout.slots.get(name)
    if (offset === undefined) {
      throw new FirmwareError('FIRMWARE_BAD_SETUP', {
        expected: `a pointer slot of ${this.image}`,
        found: `"${name}"`,
        hint: `it has ${[...this.#layout.slots.keys()].join(', ')}; setup.pointer() makes one at power-on`,
      })
    }
    return this.imageBase + BigInt(offset)
  }

  /** What a pointer slot of this image holds now, read relative to RIP. */
  pointer(name: string): bigint {
    return this.cpu.read64(this.slot(name))
  }

  /** Calls the code at an address. Returns RAX. */
  call(address: bigint, ...args: readonly bigint[]): bigint {
    return this.cpu.call(address, ...args)
  }

  /** Hangs this CPU for good. */
  deadLoop(reason: string): never {
    this.note(`${reason}; CPU dead loop`)
    throw new FirmwareDeadLoop(reason, this.cpu.id)
  }

  /** Puts a line into the event log. */
  note(text: string): void {
    this.cpu.machine.log.emit({ kind: 'message', source: 'firmware', text })
  }
}
