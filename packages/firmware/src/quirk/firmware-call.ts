import { type Cpu, Rflags } from '@trapdoor/core'
import {
  type Architecture,
  argumentCount,
  argumentSlot,
  type BootServiceName,
  decodeStatus,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { FirmwareDeadLoop, FirmwareError } from '../error.ts'
import type { ImageLayout } from '../layout/image-layout.ts'

/** What firmware code runs in the name of: a runtime service, or a boot service. */
export type FirmwareService = RuntimeServiceName | BootServiceName

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
  /** Where the running code sees the first byte of its image, which follows from RIP. */
  readonly imageBase: bigint
  readonly #layout: ImageLayout
  /** What was passed in registers. */
  readonly #registers: readonly bigint[]
  /** Address of the first argument on the stack. */
  readonly #stack: bigint

  constructor(
    service: FirmwareService,
    layout: ImageLayout,
    gate: { cpu: Cpu; rip: bigint; args: readonly bigint[]; offset: number },
  ) {
    this.service = service
    this.#layout = layout
    this.cpu = gate.cpu
    this.rip = gate.rip
    this.#registers = gate.args
    this.#stack = gate.cpu.rsp + BigInt(layout.architecture.naturalBytes)
    this.imageBase = BigInt.asUintN(64, gate.rip - BigInt(gate.offset))
  }

  /** Name of the image whose code runs, such as "VariableRuntimeDxe". */
  get image(): string {
    return this.#layout.name
  }

  /** What the firmware is built for. */
  get architecture(): Architecture {
    return this.#layout.architecture
  }

  /**
   * An argument: of a register, where one that the caller left out is taken as 0, or on ia32 what the stack holds, read through the page tables.
   */
  arg(index: number): bigint {
    const { architecture } = this
    if (architecture.naturalBytes === 8) return this.#registers[index] ?? 0n
    const { first, words } = argumentSlot(architecture, this.service, index)
    const at = this.#stack + BigInt(first * architecture.naturalBytes)
    const low = BigInt(this.read32(at))
    return words === 1 ? low : low | (BigInt(this.read32(at + 4n)) << 32n)
  }

  /** All arguments of the service that the code runs in the name of; on x86-64 those that were passed. */
  get args(): readonly bigint[] {
    if (this.architecture.naturalBytes === 8) return this.#registers
    return Array.from({ length: argumentCount(this.service) }, (_, index) => this.arg(index))
  }

  read8(address: bigint): number {
    return this.cpu.read8(this.#linear(address))
  }

  read16(address: bigint): number {
    return this.cpu.read16(this.#linear(address))
  }

  read32(address: bigint): number {
    return this.cpu.read32(this.#linear(address))
  }

  read64(address: bigint): bigint {
    return this.cpu.read64(this.#linear(address))
  }

  /** A pointer or UINTN. */
  readNatural(address: bigint): bigint {
    const at = this.#linear(address)
    return this.architecture.naturalBytes === 8 ? this.cpu.read64(at) : BigInt(this.cpu.read32(at))
  }

  /** A copy of `length` bytes. A length that only overwritten memory can have ended up with is walked until it faults, or hangs. */
  readBytes(address: bigint, length: number): Uint8Array {
    if (length <= LARGEST_SANE_COPY) return this.cpu.readBytes(this.#linear(address), length)
    for (let done = 0n; done < BigInt(LARGEST_SANE_COPY); done += 4096n) {
      this.read8(address + done)
    }
    return this.deadLoop(`copies ${length} bytes from 0x${address.toString(16)}`)
  }

  /** Copies the bytes from `address` on into `bytes`, as many as it has. */
  readInto(address: bigint, bytes: Uint8Array): void {
    this.cpu.readInto(this.#linear(address), bytes)
  }

  write8(address: bigint, value: number): void {
    this.cpu.write8(this.#linear(address), value)
  }

  write16(address: bigint, value: number): void {
    this.cpu.write16(this.#linear(address), value)
  }

  write32(address: bigint, value: number): void {
    this.cpu.write32(this.#linear(address), value)
  }

  write64(address: bigint, value: bigint): void {
    this.cpu.write64(this.#linear(address), value)
  }

  /** A pointer or UINTN, of which the low bits count. */
  writeNatural(address: bigint, value: bigint): void {
    const at = this.#linear(address)
    if (this.architecture.naturalBytes === 8) this.cpu.write64(at, value)
    else this.cpu.write32(at, Number(BigInt.asUintN(32, value)))
  }

  writeBytes(address: bigint, bytes: Uint8Array): void {
    this.cpu.writeBytes(this.#linear(address), bytes)
  }

  /**
   * ZeroMem() of a local variable of `bytes` bytes, with the frame that such a call has: shadow space for four registers and the return address below the variable. It stores eight bytes at a time
   * in the direction that RFLAGS.DF says, which whoever came before was to leave clear (MdePkg/Library/BaseMemoryLibRepStr, ZeroMem.nasm).
   */
  zeroLocal(bytes: number): void {
    const { cpu } = this
    const natural = BigInt(this.architecture.naturalBytes)
    const local = cpu.rsp - BigInt(bytes)
    const returnAddress = local - 5n * natural
    this.writeNatural(returnAddress, this.rip)
    const step = (cpu.rflags & Rflags.DF) === 0 ? 8n : -8n
    for (let done = 0n; done < BigInt(bytes / 8); done++) this.write64(local + step * done, 0n)
    const back = this.readNatural(returnAddress)
    if (back !== this.rip) cpu.call(back)
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
    return this.readNatural(this.slot(name))
  }

  /** Calls the code at an address, with arguments of natural size. Returns the EFI status that it returned. */
  call(address: bigint, ...args: readonly bigint[]): bigint {
    return decodeStatus(this.architecture, this.cpu.call(this.#linear(address), ...args))
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

  /** An address as a program of this architecture computes it: modulo the size of a pointer. */
  #linear(address: bigint): bigint {
    return this.architecture.naturalBytes === 8 ? address : BigInt.asUintN(32, address)
  }
}
