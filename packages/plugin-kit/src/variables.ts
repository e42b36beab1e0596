import { decodeUcs2, formatGuid, parseGuid } from '@trapdoor/uefi'
import type { Caller } from './caller.ts'

/** EFI_GLOBAL_VARIABLE. */
export const GLOBAL = '8be4df61-93ca-11d2-aa0d-00e098032b8c'
const VENDOR = '12345678-9abc-def0-1122-334455667788'
// Attributes of variables, as arguments (UEFI 2.10, 8.2).
/** EFI_VARIABLE_NON_VOLATILE. */
export const NV = 1n
/** EFI_VARIABLE_BOOTSERVICE_ACCESS. */
export const BS = 2n
/** EFI_VARIABLE_RUNTIME_ACCESS. */
export const RT = 4n
/** EFI_VARIABLE_APPEND_WRITE. */
export const APPEND = 0x40n

/** The variable services as a program sees them. */
export class Variables {
  readonly caller: Caller
  readonly #name: bigint
  readonly #vendor: bigint
  readonly #size: bigint
  readonly #attributes: bigint
  readonly #data: bigint

  constructor(caller: Caller) {
    this.caller = caller
    this.#name = caller.room(0x1000)
    this.#vendor = caller.room(16)
    this.#size = caller.room(8)
    this.#attributes = caller.room(8)
    this.#data = caller.room(0x4000)
  }

  /** GetVariable with a buffer of `room` bytes. */
  get(
    name: string,
    vendor: string = VENDOR,
    room = 0x4000,
  ): {
    status: bigint
    size: bigint
    attributes: number
    data: readonly number[]
  } {
    const { cpu } = this.caller
    cpu.write64(this.#size, BigInt(room))
    const [nameAt, vendorAt] = this.#named(name, vendor)
    const args = [nameAt, vendorAt, this.#attributes, this.#size, this.#data]
    const status = this.caller.service('GetVariable', ...args)
    const size = cpu.read64(this.#size)
    const data = status === 0n ? Array.from(cpu.readBytes(this.#data, Number(size))) : []
    return { status, size, attributes: cpu.read32(this.#attributes), data }
  }

  /** SetVariable. */
  set(name: string, attributes: bigint, data: readonly number[], vendor: string = VENDOR): bigint {
    this.caller.cpu.writeBytes(this.#data, Uint8Array.from(data))
    const named = this.#named(name, vendor)
    return this.caller.service('SetVariable', ...named, attributes, BigInt(data.length), this.#data)
  }

  /** The names of all variables, each with its vendor, until the service says that there are no more. */
  names(): string[] {
    const { cpu } = this.caller
    const names: string[] = []
    cpu.write16(this.#name, 0)
    for (;;) {
      cpu.write64(this.#size, 0x1000n)
      const args = [this.#size, this.#name, this.#vendor]
      if (this.caller.service('GetNextVariableName', ...args) !== 0n) return names
      const name = decodeUcs2(cpu.readBytes(this.#name, Number(cpu.read64(this.#size))))
      names.push(`${formatGuid(cpu.readBytes(this.#vendor, 16))}:${name}`)
    }
  }

  /** QueryVariableInfo. */
  info(attributes: bigint): {
    status: bigint
    maximum: number
    remaining: number
    largest: number
  } {
    const { cpu } = this.caller
    const [first, second, third] = [this.#data, this.#data + 8n, this.#data + 16n]
    const status = this.caller.service('QueryVariableInfo', attributes, first, second, third)
    const [maximum, remaining, largest] = [first, second, third].map((at) => Number(cpu.read64(at)))
    return { status, maximum: maximum!, remaining: remaining!, largest: largest! }
  }

  #named(name: string, vendor: string): [bigint, bigint] {
    this.caller.cpu.writeBytes(this.#name, Buffer.from(`${name}\0`, 'utf16le'))
    this.caller.cpu.writeBytes(this.#vendor, parseGuid(vendor))
    return [this.#name, this.#vendor]
  }
}
