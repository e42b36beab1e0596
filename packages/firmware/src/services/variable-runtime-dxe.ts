import { encodeUcs2, EfiStatus, Guid, parseGuid, VariableAttribute } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import { afterExitBootServices } from './at-runtime.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'
import { MONOTONIC_COUNT_VARIABLE } from './monotonic-count-variable.ts'
import {
  formatStore,
  NV_BS_RT,
  sameBytes,
  type StoredVariable,
  type Variable,
  VARIABLE_OVERHEAD,
  VariableStore,
} from './variable-store.ts'

const { NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS } = VariableAttribute
const { HARDWARE_ERROR_RECORD, APPEND_WRITE } = VariableAttribute
const AUTHENTICATED =
  VariableAttribute.AUTHENTICATED_WRITE_ACCESS |
  VariableAttribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS
const KNOWN_ATTRIBUTES =
  NON_VOLATILE |
  BOOTSERVICE_ACCESS |
  RUNTIME_ACCESS |
  HARDWARE_ERROR_RECORD |
  APPEND_WRITE |
  AUTHENTICATED

/** Bytes of the stores. */
export const NV_STORE_BYTES = 0x8000
const VOLATILE_STORE_BYTES = 0x2000
/** Largest variable, its header included (edk2's PcdMaxVariableSize). */
const LARGEST_VARIABLE = 0x2000
const LONGEST_NAME = 0x1000
const GUID_BYTES = 16
/** AUTH_VARIABLE_INFO. */
const VARIABLE_INFO_BYTES = 64

/** edk2's MdeModulePkg/Universal/Variable/RuntimeDxe with both stores in runtime pool, and without Secure Boot. */
export const variableRuntimeDxe: RuntimeDriver = {
  name: 'VariableRuntimeDxe',
  install: ({ image, machine, allocatePool }: DriverContext): void => {
    const volatileStore = allocatePool(VOLATILE_STORE_BYTES / 4096, 'volatile variables')
    const nvStore = allocatePool(NV_STORE_BYTES / 4096, NV_STORE)
    machine.memory.write(volatileStore, formatStore(VOLATILE_STORE_BYTES, VOLATILE_VARIABLES))
    machine.memory.write(nvStore, formatStore(NV_STORE_BYTES, NON_VOLATILE_VARIABLES))
    machine.memory.owners.set(nvStore / 4096, (nvStore + NV_STORE_BYTES) / 4096, {
      kind: 'firmware',
      name: NV_STORE,
    })
    image.pointer(VOLATILE_STORE_SLOT, volatileStore, 'event')
    image.pointer(NV_STORE_SLOT, nvStore, 'event')
    image.service('GetVariable', getVariable)
    image.service('GetNextVariableName', getNextVariableName)
    image.service('SetVariable', setVariable)
    image.service('QueryVariableInfo', queryVariableInfo)
  },
}

/** Owner of the pages that survive a reset. */
const NV_STORE = 'NV store'
/** Slot that points to them. */
export const NV_STORE_SLOT = 'mNvVariableCache'
const VOLATILE_STORE_SLOT = 'VolatileVariableBase'

function globalVariable(name: string, attributes: number, data: readonly number[]): Variable {
  const vendor = parseGuid(Guid.GLOBAL_VARIABLE)
  return { name: encodeUcs2(name), vendor, attributes, data: Uint8Array.from(data) }
}

const VOLATILE_VARIABLES: readonly Variable[] = [
  globalVariable('SetupMode', BOOTSERVICE_ACCESS | RUNTIME_ACCESS, [1]),
  globalVariable('SecureBoot', BOOTSERVICE_ACCESS | RUNTIME_ACCESS, [0]),
]
const NON_VOLATILE_VARIABLES: readonly Variable[] = [
  MONOTONIC_COUNT_VARIABLE,
  globalVariable('PlatformLang', NV_BS_RT, [0x65, 0x6e, 0]),
  globalVariable('Timeout', NV_BS_RT, [5, 0]),
  globalVariable('BootOrder', NV_BS_RT, [0, 0]),
  {
    // What DxeIpl allocates the next boot's regions by: for boot services alone.
    name: encodeUcs2('MemoryTypeInformation'),
    vendor: parseGuid('4c19049f-4137-4dd3-9c10-8b97a83ffdfa'),
    attributes: NON_VOLATILE | BOOTSERVICE_ACCESS,
    data: new Uint8Array(16),
  },
]

interface Stores {
  readonly volatile: VariableStore
  readonly nonVolatile: VariableStore
}

/** Both stores, or undefined where one was overwritten. */
function readStores(call: FirmwareCall): Stores | undefined {
  const volatile = VariableStore.read(call, call.pointer(VOLATILE_STORE_SLOT))
  const nonVolatile = VariableStore.read(call, call.pointer(NV_STORE_SLOT))
  if (volatile === undefined || nonVolatile === undefined) return undefined
  return { volatile, nonVolatile }
}

function isVisible(variable: Variable, atRuntime: boolean): boolean {
  return !atRuntime || (variable.attributes & RUNTIME_ACCESS) !== 0
}

/** Reads a NUL-terminated UCS-2 string, page by page so that nothing behind its end is touched; undefined where it is too long. */
function readName(call: FirmwareCall, address: bigint): Uint8Array | undefined {
  const name: number[] = []
  while (name.length < LONGEST_NAME) {
    const at = address + BigInt(name.length)
    const inPage = 4096 - Number(at & 0xfffn)
    const chunk = call.readBytes(at, Math.min(inPage < 2 ? 2 : inPage & ~1, 64))
    for (let index = 0; index < chunk.length; index += 2) {
      name.push(chunk[index]!, chunk[index + 1]!)
      if (chunk[index] === 0 && chunk[index + 1] === 0) return Uint8Array.from(name)
    }
  }
  return undefined
}

/** GetVariable(VariableName, VendorGuid, *Attributes, *DataSize, *Data). */
function getVariable(call: FirmwareCall): bigint {
  const [nameAt, vendorAt, attributesAt] = [call.arg(0), call.arg(1), call.arg(2)]
  const [sizeAt, dataAt] = [call.arg(3), call.arg(4)]
  if (nameAt === 0n || vendorAt === 0n || sizeAt === 0n) return EfiStatus.INVALID_PARAMETER
  const atRuntime = afterExitBootServices(call)
  const name = readName(call, nameAt)
  if (name === undefined || name.length === 2) return EfiStatus.NOT_FOUND
  const vendor = call.readBytes(vendorAt, GUID_BYTES)
  const stores = readStores(call)
  if (stores === undefined) return EfiStatus.DEVICE_ERROR
  const found = stores.volatile.find(name, vendor) ?? stores.nonVolatile.find(name, vendor)
  if (found === undefined || !isVisible(found, atRuntime)) return EfiStatus.NOT_FOUND
  const room = call.readNatural(sizeAt)
  const size = BigInt(found.data.length)
  if (room >= size && dataAt === 0n) return EfiStatus.INVALID_PARAMETER
  if (attributesAt !== 0n) call.write32(attributesAt, found.attributes)
  call.writeNatural(sizeAt, size)
  if (room < size) return EfiStatus.BUFFER_TOO_SMALL
  call.writeBytes(dataAt, found.data)
  return EfiStatus.SUCCESS
}

/** GetNextVariableName(*VariableNameSize, *VariableName, *VendorGuid): the volatile variables first, then the others. */
function getNextVariableName(call: FirmwareCall): bigint {
  const [sizeAt, nameAt, vendorAt] = [call.arg(0), call.arg(1), call.arg(2)]
  if (sizeAt === 0n || nameAt === 0n || vendorAt === 0n) return EfiStatus.INVALID_PARAMETER
  const room = call.readNatural(sizeAt)
  const name = readName(call, nameAt)
  if (name === undefined || BigInt(name.length) > room) return EfiStatus.INVALID_PARAMETER
  const atRuntime = afterExitBootServices(call)
  const stores = readStores(call)
  if (stores === undefined) return EfiStatus.DEVICE_ERROR
  const visible = [...stores.volatile.variables, ...stores.nonVolatile.variables].filter((each) =>
    isVisible(each, atRuntime),
  )
  let index = 0
  if (name.length > 2) {
    const vendor = call.readBytes(vendorAt, GUID_BYTES)
    index = 1 + visible.findIndex((each) => each.is(name, vendor))
    if (index === 0) return EfiStatus.INVALID_PARAMETER
  }
  const next = visible[index]
  if (next === undefined) return EfiStatus.NOT_FOUND
  const size = BigInt(next.name.length)
  call.writeNatural(sizeAt, size)
  if (room < size) return EfiStatus.BUFFER_TOO_SMALL
  call.writeBytes(nameAt, next.name)
  call.writeBytes(vendorAt, next.vendor)
  return EfiStatus.SUCCESS
}

/** SetVariable(VariableName, VendorGuid, Attributes, DataSize, Data). */
function setVariable(call: FirmwareCall): bigint {
  const [nameAt, vendorAt, dataAt] = [call.arg(0), call.arg(1), call.arg(4)]
  const attributes = Number(BigInt.asUintN(32, call.arg(2)))
  const size = call.arg(3)
  const name = nameAt === 0n ? undefined : readName(call, nameAt)
  if (name === undefined || name.length === 2 || vendorAt === 0n) return EfiStatus.INVALID_PARAMETER
  if (size !== 0n && dataAt === 0n) return EfiStatus.INVALID_PARAMETER
  const refusal = refusedAttributes(attributes)
  if (refusal !== undefined) return refusal
  if (size + BigInt(name.length + VARIABLE_OVERHEAD) > LARGEST_VARIABLE) {
    return EfiStatus.INVALID_PARAMETER
  }
  const atRuntime = afterExitBootServices(call)
  const vendor = call.readBytes(vendorAt, GUID_BYTES)
  // OrgVariableInfo of ProcessVariable() (SecurityPkg/Library/AuthVariableLib/AuthService.c).
  call.zeroLocal(VARIABLE_INFO_BYTES)
  const stores = readStores(call)
  if (stores === undefined) return EfiStatus.DEVICE_ERROR
  const inVolatile = stores.volatile.find(name, vendor)
  const old = inVolatile ?? stores.nonVolatile.find(name, vendor)
  const append = (attributes & APPEND_WRITE) !== 0
  const access = attributes & (BOOTSERVICE_ACCESS | RUNTIME_ACCESS)
  const deletes = access === 0 || (size === 0n && !append)
  if (old === undefined && (deletes || size === 0n)) return EfiStatus.NOT_FOUND
  if (old !== undefined) {
    const locked = refusedChange(old, attributes, atRuntime)
    if (locked !== undefined) return locked
    const store = inVolatile === undefined ? stores.nonVolatile : stores.volatile
    if (deletes) {
      store.delete(old)
      return EfiStatus.SUCCESS
    }
    const written = call.readBytes(dataAt, Number(size))
    const data = append ? Uint8Array.from([...old.data, ...written]) : written
    if (sameBytes(data, old.data)) return EfiStatus.SUCCESS
    return write(store, old, { name, vendor, attributes: old.attributes, data })
  }
  const persistent = (attributes & NON_VOLATILE) !== 0
  if (atRuntime && (!persistent || (attributes & RUNTIME_ACCESS) === 0)) {
    return EfiStatus.INVALID_PARAMETER
  }
  const data = call.readBytes(dataAt, Number(size))
  const store = persistent ? stores.nonVolatile : stores.volatile
  return write(store, undefined, { name, vendor, attributes: attributes & ~APPEND_WRITE, data })
}

function write(store: VariableStore, old: StoredVariable | undefined, variable: Variable): bigint {
  if (VariableStore.cost(variable) > LARGEST_VARIABLE) return EfiStatus.INVALID_PARAMETER
  return store.replace(old, variable) ? EfiStatus.SUCCESS : EfiStatus.OUT_OF_RESOURCES
}

/** What SetVariable says to attributes that it does not take (UEFI 2.10, 8.2.3). */
function refusedAttributes(attributes: number): bigint | undefined {
  if ((attributes & AUTHENTICATED) !== 0) return EfiStatus.UNSUPPORTED
  if ((attributes & ~KNOWN_ATTRIBUTES) !== 0) return EfiStatus.INVALID_PARAMETER
  if ((attributes & (RUNTIME_ACCESS | BOOTSERVICE_ACCESS)) === RUNTIME_ACCESS) {
    return EfiStatus.INVALID_PARAMETER
  }
  return (attributes & HARDWARE_ERROR_RECORD) === 0 ? undefined : EfiStatus.INVALID_PARAMETER
}

/** What SetVariable says to a change of a variable that exists (edk2's UpdateVariable). */
function refusedChange(old: Variable, attributes: number, atRuntime: boolean): bigint | undefined {
  if (atRuntime && (old.attributes & NON_VOLATILE) === 0) return EfiStatus.WRITE_PROTECTED
  if (atRuntime && (old.attributes & RUNTIME_ACCESS) === 0) return EfiStatus.INVALID_PARAMETER
  const access = attributes & ~APPEND_WRITE
  return access === 0 || access === old.attributes ? undefined : EfiStatus.INVALID_PARAMETER
}

/** QueryVariableInfo(Attributes, *MaximumStorage, *RemainingStorage, *MaximumVariable). */
function queryVariableInfo(call: FirmwareCall): bigint {
  const attributes = Number(BigInt.asUintN(32, call.arg(0)))
  const [maximumAt, remainingAt, largestAt] = [call.arg(1), call.arg(2), call.arg(3)]
  if (maximumAt === 0n || remainingAt === 0n || largestAt === 0n || attributes === 0) {
    return EfiStatus.INVALID_PARAMETER
  }
  const refusal = refusedAttributes(attributes)
  if (refusal !== undefined) return refusal
  const hidden = afterExitBootServices(call) && (attributes & RUNTIME_ACCESS) === 0
  if (hidden || (attributes & BOOTSERVICE_ACCESS) === 0) return EfiStatus.INVALID_PARAMETER
  const stores = readStores(call)
  if (stores === undefined) return EfiStatus.DEVICE_ERROR
  const store = (attributes & NON_VOLATILE) === 0 ? stores.volatile : stores.nonVolatile
  const { remaining } = store
  call.write64(maximumAt, BigInt(store.size))
  call.write64(remainingAt, BigInt(remaining))
  const room = Math.min(LARGEST_VARIABLE, remaining) - VARIABLE_OVERHEAD
  call.write64(largestAt, BigInt(Math.max(0, room)))
  return EfiStatus.SUCCESS
}
