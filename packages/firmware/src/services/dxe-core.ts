import {
  type BootServiceName,
  EDK2_DESCRIPTOR_STRIDE,
  EfiStatus,
  MEMORY_DESCRIPTOR_VERSION,
  MemoryType,
  naturalBits,
} from '@trapdoor/uefi'
import type { RuntimeImage } from '../layout/image.ts'
import { frameOwner } from '../layout/machine-memory.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import type { FirmwareHooks } from '../quirk/hooks.ts'
import { EXIT_BOOT_SERVICES_EVENT } from './at-runtime.ts'
import { replaceTable } from './replace-table.ts'
import { findFreePages, readReportedMap, retype } from './reported-map.ts'

/** EFI_ALLOCATE_TYPE. */
const AllocateType = { AnyPages: 0, MaxAddress: 1, Address: 2 } as const

const MAP_SLOT = 'mMemoryMap'
const SYSTEM_TABLE_SLOT = 'gST'
const BOOT_TABLE_SLOT = 'gBS'
const EVENT_SLOT_PREFIX = 'event '

/**
 * Lays out edk2's DXE core in boot-services memory, as far as boot services are modelled: the map at `map`, the tables, and the
 * ExitBootServices events of `images`.
 */
export function installDxeCore(
  core: RuntimeImage,
  hooks: FirmwareHooks,
  place: {
    map: number
    systemTable: number
    bootTable: number
    images: readonly RuntimeImage[]
  },
): void {
  core.pointer(MAP_SLOT, place.map, 'none')
  core.pointer(SYSTEM_TABLE_SLOT, place.systemTable, 'none')
  core.pointer(BOOT_TABLE_SLOT, place.bootTable, 'none')
  const events = place.images.map(({ name }) => `${EVENT_SLOT_PREFIX}${name}`)
  for (const [index, image] of place.images.entries()) {
    core.pointer(events[index]!, image.gate(EXIT_BOOT_SERVICES_EVENT), 'none')
  }
  // None of these is a runtime service: no quirk's beforeService sees them.
  core.code('GetMemoryMap', 'GetMemoryMap', getMemoryMap)
  core.code('AllocatePages', 'AllocatePages', allocatePages)
  core.code('FreePages', 'FreePages', freePages)
  core.code('ExitBootServices', 'ExitBootServices', (call) => exitBootServices(call, hooks, events))
  core.code('CoreEfiNotAvailableYet', 'ExitBootServices', () => EfiStatus.UNSUPPORTED)
}

/** The functions of a core that {@link installDxeCore} has laid out, as the boot services table has them. */
export function bootServicesOf(core: RuntimeImage): {
  readonly bootServices: Readonly<Record<BootServiceName, number>>
  readonly otherBootService: number
} {
  return {
    bootServices: {
      AllocatePages: core.gate('AllocatePages'),
      FreePages: core.gate('FreePages'),
      GetMemoryMap: core.gate('GetMemoryMap'),
      ExitBootServices: core.gate('ExitBootServices'),
    },
    otherBootService: core.gate('CoreEfiNotAvailableYet'),
  }
}

/** GetMemoryMap(*MemoryMapSize, *MemoryMap, *MapKey, *DescriptorSize, *DescriptorVersion). */
function getMemoryMap(call: FirmwareCall): bigint {
  const [sizeAt, mapAt, keyAt] = [call.arg(0), call.arg(1), call.arg(2)]
  const [strideAt, versionAt] = [call.arg(3), call.arg(4)]
  if (sizeAt === 0n) return EfiStatus.INVALID_PARAMETER
  const room = call.readNatural(sizeAt)
  const { key, bytes } = readReportedMap(call, call.pointer(MAP_SLOT))
  const size = BigInt(bytes.length)
  call.writeNatural(sizeAt, size)
  if (strideAt !== 0n) call.writeNatural(strideAt, BigInt(EDK2_DESCRIPTOR_STRIDE))
  if (versionAt !== 0n) call.write32(versionAt, MEMORY_DESCRIPTOR_VERSION)
  if (keyAt !== 0n) call.writeNatural(keyAt, key)
  if (room < size) return EfiStatus.BUFFER_TOO_SMALL
  if (mapAt === 0n) return EfiStatus.INVALID_PARAMETER
  call.writeBytes(mapAt, bytes)
  return EfiStatus.SUCCESS
}

/** AllocatePages(Type, MemoryType, Pages, *Memory). */
function allocatePages(call: FirmwareCall): bigint {
  const kind = Number(call.arg(0))
  const type = Number(BigInt.asUintN(32, call.arg(1)))
  const pages = Number(call.arg(2))
  const memoryAt = call.arg(3)
  if (memoryAt === 0n || kind > AllocateType.Address || pages === 0)
    return EfiStatus.INVALID_PARAMETER
  if (type === MemoryType.ConventionalMemory || type === MemoryType.PersistentMemory) {
    return EfiStatus.INVALID_PARAMETER
  }
  const map = call.pointer(MAP_SLOT)
  const passed = Number(call.read64(memoryAt))
  const highest = 2 ** Math.min(naturalBits(call.architecture), 53) - 1
  const limit = (kind === AllocateType.MaxAddress ? Math.min(passed, highest) : highest) + 1
  const start = kind === AllocateType.Address ? passed : findFreePages(call, map, pages, limit)
  if (start === undefined) return EfiStatus.OUT_OF_RESOURCES
  if (start % 4096 !== 0) return EfiStatus.NOT_FOUND
  if (!retype(call, map, { start, pages, from: isFree, to: type })) return EfiStatus.NOT_FOUND
  const { owners } = call.cpu.machine.memory
  owners.set(start / 4096, start / 4096 + pages, frameOwner(type))
  call.write64(memoryAt, BigInt(start))
  return EfiStatus.SUCCESS
}

function isFree(type: number): boolean {
  return type === MemoryType.ConventionalMemory
}

function isTaken(type: number): boolean {
  return !isFree(type)
}

/** FreePages(Memory, Pages). */
function freePages(call: FirmwareCall): bigint {
  const start = Number(call.arg(0))
  const pages = Number(call.arg(1))
  if (start % 4096 !== 0 || pages === 0) return EfiStatus.INVALID_PARAMETER
  const to = MemoryType.ConventionalMemory
  if (!retype(call, call.pointer(MAP_SLOT), { start, pages, from: isTaken, to })) {
    return EfiStatus.NOT_FOUND
  }
  call.cpu.machine.memory.owners.set(start / 4096, start / 4096 + pages, undefined)
  return EfiStatus.SUCCESS
}

/** CoreExitBootServices(ImageHandle, MapKey): the key decides; what follows cannot fail. */
function exitBootServices(
  call: FirmwareCall,
  hooks: FirmwareHooks,
  events: readonly string[],
): bigint {
  const bootTable = call.pointer(BOOT_TABLE_SLOT)
  if (call.read64(bootTable) === 0n) return EfiStatus.UNSUPPORTED
  hooks.beforeExitBootServices.call(call)
  const { key } = readReportedMap(call, call.pointer(MAP_SLOT))
  if (call.arg(1) !== key) return EfiStatus.INVALID_PARAMETER
  hooks.exitBootServices.call(call)
  for (const event of events) call.call(call.pointer(event))
  call.cpu.interruptFlag = false
  clearBootPointers(call)
  call.writeBytes(bootTable, new Uint8Array(call.architecture.tables.bootServicesTableSize))
  return EfiStatus.SUCCESS
}

/** Clears what the system table says of consoles and boot services, and computes its checksum anew. */
function clearBootPointers(call: FirmwareCall): void {
  const address = call.pointer(SYSTEM_TABLE_SLOT)
  const { systemTable, systemTableSize } = call.architecture.tables
  const bytes = call.readBytes(address, systemTableSize)
  bytes.fill(0, systemTable.ConsoleInHandle, systemTable.RuntimeServices)
  bytes.fill(0, systemTable.BootServices, systemTable.NumberOfTableEntries)
  replaceTable(call, address, bytes)
}
