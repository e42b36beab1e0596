import type { Cpu, VirtualAddress } from '@trapdoor/core'
import {
  decodeTime,
  decodeUcs2,
  EFI_TIME_SIZE,
  type EfiTime,
  EfiStatus,
  encodeTime,
  encodeUcs2,
  formatGuid,
  parseGuid,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import type { Kernel } from '../kernel.ts'
import type { ArgumentArea, ArgumentPlace } from '../task/task.ts'
import { readNatural, writeNatural } from './natural.ts'
import { physicalCall } from './physical-call.ts'
import { type RuntimeCall, strategyCall } from './runtime-call.ts'

/** What a service returned: its status, and its results where it succeeded. */
export interface ServiceResult<T> {
  readonly status: bigint
  readonly value: T | undefined
}

/** A call whose arguments lie ready. {@link run} makes it; `call` and {@link finish} do the same in steps. */
export class PreparedCall<T> {
  readonly service: RuntimeServiceName
  /** Undefined where the kernel has no EFI runtime services, or not this one. */
  readonly call: RuntimeCall | undefined
  readonly #read: (call: RuntimeCall) => T
  readonly #release: () => void

  constructor(
    service: RuntimeServiceName,
    call: RuntimeCall | undefined,
    read: (call: RuntimeCall) => T,
    release: () => void,
  ) {
    this.service = service
    this.call = call
    this.#read = read
    this.#release = release
  }

  /** Enters, executes, leaves, and reads the results. EFI_UNSUPPORTED where the kernel has no EFI runtime services. */
  run(): ServiceResult<T> {
    this.call?.run()
    return this.finish()
  }

  /** Reads the results of a call that was left, from where the firmware was told to put them. */
  finish(): ServiceResult<T> {
    const { call } = this
    if (call === undefined) {
      this.#release()
      return { status: EfiStatus.UNSUPPORTED, value: undefined }
    }
    const { status } = call
    const value = status === EfiStatus.SUCCESS ? this.#read(call) : undefined
    this.#release()
    return { status, value }
  }
}

/** A variable as GetVariable gives it. */
export interface VariableValue {
  readonly attributes: number
  readonly data: Uint8Array
}

/** Numbers of QueryVariableInfo, in bytes. */
export interface VariableSpace {
  readonly maximumStorage: bigint
  readonly remainingStorage: bigint
  readonly maximumVariable: bigint
}

/** Bytes for a variable's name, with its NUL. */
const NAME_BYTES = 256

/**
 * The runtime services as kernel code calls them: arguments are written where a kernel would have them (`place`), pointers are the kernel's virtual ones, results are
 * read back the same way. A method only writes the arguments; the call is made by {@link PreparedCall.run}.
 */
export class EfiServices {
  readonly #kernel: Kernel
  readonly #cpu: Cpu
  readonly #place: ArgumentPlace
  readonly #area: ArgumentArea
  readonly #isEarly: boolean

  /** With `early` the calls are those that the kernel makes before its runtime services are set up. */
  constructor(
    kernel: Kernel,
    cpu: Cpu,
    place: ArgumentPlace,
    when: 'early' | 'running' = 'running',
  ) {
    this.#isEarly = when === 'early'
    this.#kernel = kernel
    this.#cpu = cpu
    this.#place = place
    this.#area = kernel.argumentAreas[cpu.id]!
  }

  getTime(): PreparedCall<EfiTime> {
    const time = this.#take(EFI_TIME_SIZE)
    const capabilities = this.#take(12)
    return this.#prepare('GetTime', [time, capabilities], () => this.#readTime(time))
  }

  setTime(time: EfiTime): PreparedCall<undefined> {
    return this.#prepare('SetTime', [this.#put(encodeTime(time))], () => undefined)
  }

  getWakeupTime(): PreparedCall<{ enabled: boolean; pending: boolean; time: EfiTime }> {
    const enabled = this.#take(1)
    const pending = this.#take(1)
    const time = this.#take(EFI_TIME_SIZE)
    return this.#prepare('GetWakeupTime', [enabled, pending, time], () => ({
      enabled: this.#cpu.read8(enabled) !== 0,
      pending: this.#cpu.read8(pending) !== 0,
      time: this.#readTime(time),
    }))
  }

  /** Sets the alarm, or switches it off where there is no time. */
  setWakeupTime(time: EfiTime | undefined): PreparedCall<undefined> {
    const args = time === undefined ? [0n, 0n] : [1n, this.#put(encodeTime(time))]
    return this.#prepare('SetWakeupTime', args, () => undefined)
  }

  /** `capacity` is the size of the buffer in bytes. */
  getVariable(name: string, guid: string, capacity = 1024): PreparedCall<VariableValue> {
    const attributes = this.#take(4)
    const size = this.#take(8)
    const data = this.#take(capacity)
    this.#writeNatural(size, BigInt(capacity))
    const args = [this.#put(encodeUcs2(name)), this.#put(parseGuid(guid)), attributes, size, data]
    return this.#prepare('GetVariable', args, () => ({
      attributes: this.#cpu.read32(attributes),
      data: this.#cpu.readBytes(data, Number(this.#readNatural(size))),
    }))
  }

  setVariable(
    name: string,
    guid: string,
    attributes: number,
    data: Uint8Array,
  ): PreparedCall<undefined> {
    const args = [
      this.#put(encodeUcs2(name)),
      this.#put(parseGuid(guid)),
      BigInt(attributes),
      BigInt(data.length),
      this.#put(data),
    ]
    return this.#prepare('SetVariable', args, () => undefined)
  }

  /** The variable after `previous`, or the first. */
  getNextVariableName(previous?: {
    readonly name: string
    readonly guid: string
  }): PreparedCall<{ name: string; guid: string }> {
    const size = this.#take(8)
    const name = this.#take(NAME_BYTES)
    const guid = this.#put(previous === undefined ? new Uint8Array(16) : parseGuid(previous.guid))
    this.#writeNatural(size, BigInt(NAME_BYTES))
    this.#cpu.writeBytes(
      name,
      previous === undefined ? new Uint8Array(2) : encodeUcs2(previous.name),
    )
    return this.#prepare('GetNextVariableName', [size, name, guid], () => ({
      name: decodeUcs2(this.#cpu.readBytes(name, Number(this.#readNatural(size)))),
      guid: formatGuid(this.#cpu.readBytes(guid, 16)),
    }))
  }

  queryVariableInfo(attributes: number): PreparedCall<VariableSpace> {
    const [maximum, remaining, largest] = [this.#take(8), this.#take(8), this.#take(8)]
    return this.#prepare(
      'QueryVariableInfo',
      [BigInt(attributes), maximum, remaining, largest],
      () => ({
        maximumStorage: this.#cpu.read64(maximum),
        remainingStorage: this.#cpu.read64(remaining),
        maximumVariable: this.#cpu.read64(largest),
      }),
    )
  }

  getNextHighMonotonicCount(): PreparedCall<number> {
    const count = this.#take(4)
    return this.#prepare('GetNextHighMonotonicCount', [count], () => this.#cpu.read32(count))
  }

  /** Asks whether the firmware takes a capsule with these flags. */
  queryCapsuleCapabilities(
    guid: string,
    flags: number,
  ): PreparedCall<{ maximumSize: bigint; resetType: number }> {
    const list = this.#capsules(guid, flags)
    const maximum = this.#take(8)
    const reset = this.#take(4)
    return this.#prepare('QueryCapsuleCapabilities', [list, 1n, maximum, reset], () => ({
      maximumSize: this.#cpu.read64(maximum),
      resetType: this.#cpu.read32(reset),
    }))
  }

  /**
   * Hands a capsule over, with the scatter-gather list that one which waits for the reset needs. Its last byte is the one that makes the sum of all zero, which firmware looks
   * at.
   */
  updateCapsule(
    guid: string,
    flags: number,
    payload: Uint8Array = new Uint8Array(0),
  ): PreparedCall<undefined> {
    const capsule = capsuleOf(guid, flags, payload)
    // EFI_CAPSULE_BLOCK_DESCRIPTORs hold physical addresses, and so does the argument: kmalloc memory has one.
    const blocks = this.#area.take(this.#cpu, 'kmalloc', 32)
    const bytes = this.#area.take(this.#cpu, 'kmalloc', capsule.length)
    const direct = this.#kernel.tables.directMapAddress(0)
    this.#cpu.writeBytes(bytes, capsule)
    this.#cpu.writeBytes(blocks, new Uint8Array(32))
    this.#cpu.write64(blocks, BigInt(capsule.length))
    this.#cpu.write64(blocks + 8n, bytes - direct)
    const list = this.#take(8)
    this.#writeNatural(list, bytes)
    return this.#prepare('UpdateCapsule', [list, 1n, blocks - direct], () => undefined)
  }

  /** ResetSystem() with a type of `ResetType`. It does not return where it works: a MachineReset is thrown. */
  resetSystem(type: number): PreparedCall<undefined> {
    return this.#prepare('ResetSystem', [BigInt(type), 0n, 0n, 0n], () => undefined)
  }

  /** An array of one pointer to a capsule without a payload. */
  #capsules(guid: string, flags: number): VirtualAddress {
    const list = this.#take(8)
    this.#writeNatural(list, this.#put(capsuleOf(guid, flags, new Uint8Array(0))))
    return list
  }

  /** An unsigned long of the kernel's, which is the firmware's UINTN or pointer. */
  #readNatural(address: VirtualAddress): bigint {
    return readNatural(this.#kernel.architecture, this.#cpu, address)
  }

  #writeNatural(address: VirtualAddress, value: bigint): void {
    writeNatural(this.#kernel.architecture, this.#cpu, address, value)
  }

  #readTime(address: VirtualAddress): EfiTime {
    return decodeTime(this.#cpu.readBytes(address, EFI_TIME_SIZE))
  }

  #take(bytes: number): VirtualAddress {
    return this.#area.take(this.#cpu, this.#place, bytes)
  }

  #put(bytes: Uint8Array): VirtualAddress {
    const address = this.#take(bytes.length)
    this.#cpu.writeBytes(address, bytes)
    return address
  }

  #prepare<T>(
    service: RuntimeServiceName,
    args: readonly bigint[],
    read: (call: RuntimeCall) => T,
  ): PreparedCall<T> {
    const kernel = this.#kernel
    const { efi, strategy } = kernel
    const isOffered =
      efi !== undefined &&
      strategy !== undefined &&
      strategy.instance.offers?.(kernel, service) !== false &&
      !(this.#isEarly && strategy.instance.callsEarly === false)
    const isPhysical = this.#isEarly && strategy?.instance.setupEarly === undefined
    const call = !isOffered
      ? undefined
      : isPhysical
        ? physicalCall(kernel, service, args)
        : strategyCall(kernel, this.#cpu, service, args)
    return new PreparedCall(service, call, read, () => {
      this.#area.release()
    })
  }
}

/** Bytes of EFI_CAPSULE_HEADER. */
const CAPSULE_HEADER_BYTES = 28

/** A capsule: header, payload, and a byte that makes the sum of all bytes zero. */
function capsuleOf(guid: string, flags: number, payload: Uint8Array): Uint8Array {
  const capsule = new Uint8Array(CAPSULE_HEADER_BYTES + payload.length + 1)
  capsule.set(parseGuid(guid))
  const view = new DataView(capsule.buffer)
  view.setUint32(16, CAPSULE_HEADER_BYTES, true)
  view.setUint32(20, flags, true)
  view.setUint32(24, capsule.length, true)
  capsule.set(payload, CAPSULE_HEADER_BYTES)
  capsule[capsule.length - 1] = -capsule.reduce((sum, byte) => (sum + byte) & 0xff, 0)
  return capsule
}
