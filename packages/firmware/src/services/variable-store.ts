import { VariableAttribute } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** A store: a header, then variables one after the other, each from a multiple of 8. */
const STORE_SIGNATURE = 0x5352_4156
const StoreHeader = { Signature: 0, Size: 4, Used: 8, Bytes: 32 } as const
/** edk2's VARIABLE_HEADER. */
const VariableHeader = {
  StartId: 0,
  State: 2,
  Attributes: 4,
  NameSize: 8,
  DataSize: 12,
  VendorGuid: 16,
  Bytes: 32,
} as const
const VARIABLE_START = 0x55aa
const STATE_ADDED = 0x3f
const STATE_DELETED = 0x3d

/** Attributes of most variables: non-volatile, for boot services and at runtime. */
export const NV_BS_RT: number =
  VariableAttribute.NON_VOLATILE |
  VariableAttribute.BOOTSERVICE_ACCESS |
  VariableAttribute.RUNTIME_ACCESS

/** Bytes that a variable costs beside its name and data. */
export const VARIABLE_OVERHEAD: number = VariableHeader.Bytes

/** One variable, as bytes: the name in UCS-2 with its NUL. */
export interface Variable {
  readonly name: Uint8Array
  readonly vendor: Uint8Array
  readonly attributes: number
  readonly data: Uint8Array
}

/** A variable that is in a store's bytes. */
export class StoredVariable implements Variable {
  /** Offset in the store, in bytes. */
  readonly offset: number
  readonly attributes: number
  readonly #store: Uint8Array
  readonly #nameSize: number
  readonly #dataSize: number

  constructor(store: Uint8Array, view: DataView, offset: number) {
    this.offset = offset
    this.attributes = view.getUint32(offset + VariableHeader.Attributes, true)
    this.#store = store
    this.#nameSize = view.getUint32(offset + VariableHeader.NameSize, true)
    this.#dataSize = view.getUint32(offset + VariableHeader.DataSize, true)
  }

  get name(): Uint8Array {
    const start = this.offset + VariableHeader.Bytes
    return this.#store.subarray(start, start + this.#nameSize)
  }

  get vendor(): Uint8Array {
    const start = this.offset + VariableHeader.VendorGuid
    return this.#store.subarray(start, start + 16)
  }

  get data(): Uint8Array {
    return this.#store.subarray(this.end - this.#dataSize, this.end)
  }

  /** Offset in the store behind the last byte of data. */
  get end(): number {
    return this.offset + VariableHeader.Bytes + this.#nameSize + this.#dataSize
  }

  /** Whether it has this name and vendor. */
  is(name: Uint8Array, vendor: Uint8Array): boolean {
    return (
      this.#nameSize === name.length && sameBytes(this.name, name) && sameBytes(this.vendor, vendor)
    )
  }
}

/** An empty store of `size` bytes with these variables. */
export function formatStore(size: number, variables: readonly Variable[]): Uint8Array {
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  let used: number = StoreHeader.Bytes
  for (const variable of variables) {
    const record = encodeVariable(variable)
    bytes.set(record, used)
    used += record.length
  }
  view.setUint32(StoreHeader.Signature, STORE_SIGNATURE, true)
  view.setUint32(StoreHeader.Size, size, true)
  view.setUint32(StoreHeader.Used, used, true)
  return bytes
}

/** A copy of a store's bytes that was read through a CPU, and the way back. */
export class VariableStore {
  /** The valid variables in the order in which they were written. */
  readonly variables: readonly StoredVariable[]
  /** Bytes of the store, its header included. */
  readonly size: number
  readonly #call: FirmwareCall
  readonly #address: bigint
  #used: number

  private constructor(call: FirmwareCall, address: bigint, size: number, bytes: Uint8Array) {
    this.#call = call
    this.#address = address
    this.#used = bytes.length
    this.size = size
    this.variables = decodeVariables(bytes)
  }

  /** The store at `address`, or undefined where there is none any more. */
  static read(call: FirmwareCall, address: bigint): VariableStore | undefined {
    const header = new DataView(call.readBytes(address, StoreHeader.Bytes).buffer)
    const size = header.getUint32(StoreHeader.Size, true)
    const used = header.getUint32(StoreHeader.Used, true)
    if (header.getUint32(StoreHeader.Signature, true) !== STORE_SIGNATURE || used > size) {
      return undefined
    }
    return new VariableStore(call, address, size, call.readBytes(address, used))
  }

  find(name: Uint8Array, vendor: Uint8Array): StoredVariable | undefined {
    return this.variables.find((each) => each.is(name, vendor))
  }

  /** Bytes that are left once the deleted variables are reclaimed. */
  get remaining(): number {
    const taken = this.variables.reduce((sum, each) => sum + recordBytes(each), 0)
    return this.size - StoreHeader.Bytes - taken
  }

  /** Bytes that `variable` takes. */
  static cost(variable: Variable): number {
    return recordBytes(variable)
  }

  /** Writes `variable` in the place of `old`. Returns false where it does not fit, with the store as it was. */
  replace(old: StoredVariable | undefined, variable: Variable): boolean {
    const record = encodeVariable(variable)
    const gained = old === undefined ? 0 : recordBytes(old)
    if (record.length > this.remaining + gained) return false
    if (this.#used + record.length > this.size) {
      const kept = this.variables.filter((each) => each !== old)
      this.#call.writeBytes(this.#address, formatStore(this.size, [...kept, variable]))
      return true
    }
    this.#call.writeBytes(this.#address + BigInt(this.#used), record)
    this.#used += record.length
    this.#call.write32(this.#address + BigInt(StoreHeader.Used), this.#used)
    if (old !== undefined) this.delete(old)
    return true
  }

  delete(variable: StoredVariable): void {
    const state = this.#address + BigInt(variable.offset + VariableHeader.State)
    this.#call.write8(state, STATE_DELETED)
  }
}

/** Whether two byte strings are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let index = 0; index < a.length; index++) {
    if (a[index] !== b[index]) return false
  }
  return true
}

/** The valid variables of a store's bytes, up to the first that is not whole. */
export function decodeVariables(bytes: Uint8Array): StoredVariable[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const variables: StoredVariable[] = []
  for (let offset: number = StoreHeader.Bytes; offset + VariableHeader.Bytes <= bytes.length;) {
    if (view.getUint16(offset + VariableHeader.StartId, true) !== VARIABLE_START) break
    const variable = new StoredVariable(bytes, view, offset)
    if (variable.end > bytes.length) break
    if (view.getUint8(offset + VariableHeader.State) === STATE_ADDED) variables.push(variable)
    offset = alignUp(variable.end)
  }
  return variables
}

function encodeVariable({ name, vendor, attributes, data }: Variable): Uint8Array {
  const bytes = new Uint8Array(recordBytes({ name, data }))
  const view = new DataView(bytes.buffer)
  view.setUint16(VariableHeader.StartId, VARIABLE_START, true)
  view.setUint8(VariableHeader.State, STATE_ADDED)
  view.setUint32(VariableHeader.Attributes, attributes, true)
  view.setUint32(VariableHeader.NameSize, name.length, true)
  view.setUint32(VariableHeader.DataSize, data.length, true)
  bytes.set(vendor, VariableHeader.VendorGuid)
  bytes.set(name, VariableHeader.Bytes)
  bytes.set(data, VariableHeader.Bytes + name.length)
  return bytes
}

function recordBytes({ name, data }: Pick<Variable, 'name' | 'data'>): number {
  return alignUp(VariableHeader.Bytes + name.length + data.length)
}

function alignUp(offset: number): number {
  return Math.ceil(offset / 8) * 8
}
