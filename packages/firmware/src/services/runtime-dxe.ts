import { EfiStatus, getNatural, setNatural } from '@trapdoor/uefi'
import { DATA_OFFSET } from '../layout/image-layout.ts'
import type { RuntimeImage } from '../layout/image.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import { ADDRESS_CHANGE_EVENT } from './address-change-event.ts'
import type { DriverContext, RuntimeDriver } from './driver.ts'
import { replaceTable } from './replace-table.ts'
import { lookUp, lookUpAll, type VirtualMap, virtualMapArgument } from './virtual-map.ts'

/** RuntimeDxe's data words: the members of edk2's mRuntime and the mVirtualMap globals, by their offset. */
const Global = {
  AtRuntime: 0,
  VirtualMode: 8,
  VirtualMap: 16,
  VirtualMapDescriptorSize: 24,
  VirtualMapMaxIndex: 32,
} as const

/** The runtime table's pointers in the order in which edk2 converts them. Those of SetVirtualAddressMap and ConvertPointer are not among them. */
const RUNTIME_TABLE = [
  'GetTime',
  'SetTime',
  'GetWakeupTime',
  'SetWakeupTime',
  'ResetSystem',
  'GetNextHighMonotonicCount',
  'GetVariable',
  'SetVariable',
  'GetNextVariableName',
  'QueryVariableInfo',
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
] as const
const SYSTEM_TABLE = ['FirmwareVendor', 'ConfigurationTable', 'RuntimeServices'] as const

const IMAGE_RECORD_BYTES = 24
const FIXUP_BYTES = 16
const OPTIONAL_PTR = 1n
const DESCRIPTOR_VERSION = 1n
const SMALLEST_DESCRIPTOR = 40n

/** edk2's MdeModulePkg/Core/RuntimeDxe: the one image that is not relocated, since it does the relocating. */
export const runtimeDxe: RuntimeDriver = {
  name: 'RuntimeDxe',
  install: ({ image, hooks, allocatePool }: DriverContext): void => {
    const lists = allocatePool(1, 'runtime image and event lists')
    image.pointer('mRuntime.ImageHead', lists, 'none')
    image.pointer('mRuntime.EventHead', lists + EVENT_LIST_OFFSET, 'none')
    image.service('ConvertPointer', (call) => convertPointer(call, call.arg(0), call.arg(1)))
    image.service('SetVirtualAddressMap', (call) => {
      const early = hooks.setVirtualAddressMap.call(call, virtualMapArgument(call))
      return early ?? setVirtualAddressMap(call)
    })
  },
}

const EVENT_LIST_OFFSET = 0x800

/**
 * Writes the lists of what has to be converted, once every image has its slots: for each image its base and its fixups with the values
 * they have now (edk2's RelocationData), and each image's event. Needs {@link runtimeDxe} installed.
 */
export function registerImages(
  memory: { write64: (address: number, value: bigint) => void },
  core: RuntimeImage,
  images: readonly RuntimeImage[],
): void {
  const lists = Number(core.slotValue('mRuntime.ImageHead'))
  const relocated = images.filter((image) => image !== core)
  let fixups = lists + 8 + relocated.length * IMAGE_RECORD_BYTES
  memory.write64(lists, BigInt(relocated.length))
  for (const [index, image] of relocated.entries()) {
    const record = lists + 8 + index * IMAGE_RECORD_BYTES
    const slots = image.slotsOf('fixup')
    memory.write64(record, BigInt(image.base))
    memory.write64(record + 8, BigInt(fixups))
    memory.write64(record + 16, BigInt(slots.length))
    for (const [name, offset] of slots) {
      memory.write64(fixups, BigInt(offset))
      memory.write64(fixups + 8, image.slotValue(name))
      fixups += FIXUP_BYTES
    }
  }
  const events = lists + EVENT_LIST_OFFSET
  memory.write64(events, BigInt(images.length))
  for (const [index, image] of images.entries()) {
    memory.write64(events + 8 + index * 8, BigInt(image.gate(ADDRESS_CHANGE_EVENT)))
  }
}

/** RuntimeDriverSetVirtualAddressMap, in its order: what fails after VirtualMode is set leaves it set. */
function setVirtualAddressMap(call: FirmwareCall): bigint {
  const [, stride, version, address] = [call.arg(0), call.arg(1), call.arg(2), call.arg(3)]
  const globals = call.imageBase + BigInt(DATA_OFFSET)
  const atRuntime = call.read64(globals + BigInt(Global.AtRuntime)) !== 0n
  const virtualMode = call.read64(globals + BigInt(Global.VirtualMode)) !== 0n
  if (!atRuntime || virtualMode) return EfiStatus.UNSUPPORTED
  if (version !== DESCRIPTOR_VERSION || stride < SMALLEST_DESCRIPTOR) {
    return EfiStatus.INVALID_PARAMETER
  }
  const map = { address, stride, count: call.arg(0) / stride }
  call.write64(globals + BigInt(Global.VirtualMode), 1n)
  call.write64(globals + BigInt(Global.VirtualMapDescriptorSize), stride)
  call.write64(globals + BigInt(Global.VirtualMapMaxIndex), map.count)
  call.write64(globals + BigInt(Global.VirtualMap), address)
  for (const notify of pointerList(call, 'mRuntime.EventHead')) call.call(notify)
  relocateImages(call, map)
  const { tables } = call.architecture
  convertTable(call, map, call.pointer('gRT'), {
    bytes: tables.runtimeServicesTableSize,
    pointers: RUNTIME_TABLE.map((name) => tables.runtimeServicesTable[name]),
  })
  convertTable(call, map, call.pointer('gST'), {
    bytes: tables.systemTableSize,
    pointers: SYSTEM_TABLE.map((name) => tables.systemTable[name]),
  })
  call.write64(globals + BigInt(Global.VirtualMap), 0n)
  return EfiStatus.SUCCESS
}

/**
 * RuntimeDriverConvertPointer. Outside SetVirtualAddressMap it looks things up in a map at address 0, as edk2 does: the pointer is cleared
 * in the end, and the count is not.
 */
function convertPointer(call: FirmwareCall, disposition: bigint, address: bigint): bigint {
  if (address === 0n) return EfiStatus.INVALID_PARAMETER
  const pointer = call.readNatural(address)
  if (pointer === 0n) {
    return (disposition & OPTIONAL_PTR) === 0n ? EfiStatus.INVALID_PARAMETER : EfiStatus.SUCCESS
  }
  const globals = call.imageBase + BigInt(DATA_OFFSET)
  const words = new DataView(call.readBytes(globals, 40).buffer)
  const map = {
    address: words.getBigUint64(Global.VirtualMap, true),
    stride: words.getBigUint64(Global.VirtualMapDescriptorSize, true),
    count: words.getBigUint64(Global.VirtualMapMaxIndex, true),
  }
  const converted = lookUp(call, map, pointer)
  if (converted === undefined) return EfiStatus.NOT_FOUND
  call.writeNatural(address, converted)
  return EfiStatus.SUCCESS
}

/** PeCoffLoaderRelocateImageForRuntime for each image: a word that has changed since the image was loaded is left alone. */
function relocateImages(call: FirmwareCall, map: VirtualMap): void {
  const list = call.pointer('mRuntime.ImageHead')
  const count = Number(call.read64(list))
  const records = new DataView(call.readBytes(list + 8n, count * IMAGE_RECORD_BYTES).buffer)
  for (let at = 0; at < records.byteLength; at += IMAGE_RECORD_BYTES) {
    const base = records.getBigUint64(at, true)
    const fixupCount = Number(records.getBigUint64(at + 16, true))
    const delta = (lookUp(call, map, base) ?? base) - base
    const bytes = call.readBytes(records.getBigUint64(at + 8, true), fixupCount * FIXUP_BYTES)
    const fixups = new DataView(bytes.buffer)
    for (let fixup = 0; fixup < fixups.byteLength; fixup += FIXUP_BYTES) {
      const slot = base + fixups.getBigUint64(fixup, true)
      const recorded = fixups.getBigUint64(fixup + 8, true)
      if (call.readNatural(slot) === recorded) {
        call.writeNatural(slot, BigInt.asUintN(64, recorded + delta))
      }
    }
  }
}

/** Converts pointers of a table and writes its checksum anew. Pointers that are null or not covered stay as they are. */
function convertTable(
  call: FirmwareCall,
  map: VirtualMap,
  address: bigint,
  table: { readonly bytes: number; readonly pointers: readonly number[] },
): void {
  const bytes = call.readBytes(address, table.bytes)
  const view = new DataView(bytes.buffer)
  const { architecture } = call
  const pointers = table.pointers
    .map((offset) => ({ offset, pointer: getNatural(architecture, view, offset) }))
    .filter(({ pointer }) => pointer !== 0n)
  const converted = lookUpAll(
    call,
    map,
    pointers.map(({ pointer }) => pointer),
  )
  for (const [index, { offset }] of pointers.entries()) {
    const virtual = converted[index]
    if (virtual !== undefined) setNatural(architecture, view, offset, virtual)
  }
  replaceTable(call, address, bytes)
}

function pointerList(call: FirmwareCall, slot: string): BigUint64Array {
  const list = call.pointer(slot)
  const bytes = call.readBytes(list + 8n, Number(call.read64(list)) * 8)
  return new BigUint64Array(bytes.buffer)
}
