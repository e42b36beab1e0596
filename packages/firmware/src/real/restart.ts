import type { Machine, PhysicalMemory } from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { ARCHITECTURES, descriptorEnd, MemoryType, parseGuid } from '@trapdoor/uefi'
import { keepCmos } from '../reset.ts'

/** EFI_FIRMWARE_VOLUME_HEADER.HeaderLength (PI 1.7, volume 3, 3.2.1). */
const VOLUME_HEADER_LENGTH = 48
/** VARIABLE_STORE_HEADER (MdeModulePkg/Include/Guid/VariableFormat.h): signature, size, and others. */
const StoreHeader = { Size: 16, Bytes: 28 } as const
/** gEfiAuthenticatedVariableGuid and gEfiVariableGuid. */
const STORE_SIGNATURES = [
  'aaf32c78-947b-439a-a180-2e144ec37792',
  'ddcf3616-3275-4164-98b6-fe85707ffe7d',
] as const
/** AUTHENTICATED_VARIABLE_HEADER and VARIABLE_HEADER: where the sizes of name and data are, and how long the header is. */
const VARIABLE_HEADERS: Readonly<
  Record<string, { readonly sizes: number; readonly bytes: number }>
> = {
  [STORE_SIGNATURES[0]]: { sizes: 36, bytes: 60 },
  [STORE_SIGNATURES[1]]: { sizes: 8, bytes: 32 },
}
const VARIABLE_START = 0x55aa
const ALIGNMENT = 4
/** Words of VARIABLE_MODULE_GLOBAL behind NonVolatileVariableBase that are looked through. */
const GLOBAL_WORDS = 20

/** A store of variables in a flash. */
interface VariableStore {
  /** Offset in the flash. */
  readonly offset: number
  readonly bytes: Uint8Array
  /** Offset in the store of the first byte behind the last variable. */
  readonly end: number
}

/**
 * Carries flash and clock of a machine that was reset into one that was just powered on with the same firmware. What a firmware does between the two is not in a snapshot of its end; of that the one thing is
 * done here that shows in runtime services: VariableRuntimeDxe has a copy of the store in memory, and knows where it ends (edk2, VariableCommonInitialize()
 * and InitNonVolatileVariableStore()). Firmware that keeps variables in system-management mode has them there.
 */
export function keepFlash(snapshot: FirmwareSnapshot, before: Machine, after: Machine): void {
  keepCmos(before, after)
  const { flash } = snapshot
  if (flash === undefined) return
  const contents = before.memory.read(flash.address, flash.contents.length)
  after.memory.write(flash.address, contents)
  if (snapshot.smm) return
  const [old, now] = [findStore(flash.contents), findStore(contents)]
  if (old === undefined || now === undefined || old.bytes.length !== now.bytes.length) return
  copyStore(snapshot, after.memory, old, now)
  moveEnd(snapshot, after.memory, flash.address + old.offset, old, now)
}

/** The first store of variables in a firmware volume. */
function findStore(flash: Uint8Array): VariableStore | undefined {
  const view = new DataView(flash.buffer, flash.byteOffset, flash.byteLength)
  const offset = view.getUint16(VOLUME_HEADER_LENGTH, true)
  if (offset + StoreHeader.Bytes > flash.length) return undefined
  const signature = STORE_SIGNATURES.find((guid) =>
    Buffer.from(parseGuid(guid)).equals(flash.subarray(offset, offset + 16)),
  )
  const size = view.getUint32(offset + StoreHeader.Size, true)
  if (signature === undefined || offset + size > flash.length) return undefined
  const bytes = flash.subarray(offset, offset + size)
  return { offset, bytes, end: endOfVariables(bytes, VARIABLE_HEADERS[signature]!) }
}

function endOfVariables(
  store: Uint8Array,
  header: { readonly sizes: number; readonly bytes: number },
): number {
  const view = new DataView(store.buffer, store.byteOffset, store.byteLength)
  let at: number = StoreHeader.Bytes
  while (at + header.bytes <= store.length && view.getUint16(at, true) === VARIABLE_START) {
    const name = view.getUint32(at + header.sizes, true)
    const data = view.getUint32(at + header.sizes + 4, true)
    at = aligned(at + header.bytes + aligned(name) + data)
  }
  return at
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT
}

/** Puts the store in place of each copy of it in the firmware's runtime data. */
function copyStore(
  snapshot: FirmwareSnapshot,
  memory: PhysicalMemory,
  old: VariableStore,
  now: VariableStore,
): void {
  const head = Buffer.from(old.bytes.subarray(0, StoreHeader.Bytes))
  forEachRuntimeData(snapshot, memory, (bytes, address) => {
    for (let at = bytes.indexOf(head); at !== -1; at = bytes.indexOf(head, at + 1)) {
      const copy = bytes.subarray(at, at + old.bytes.length)
      if (copy.equals(old.bytes)) memory.write(address + at, now.bytes)
    }
  })
}

/** Tells the driver where the variables end: behind its pointer to the store in flash are the end and the bytes that variables take. */
function moveEnd(
  snapshot: FirmwareSnapshot,
  memory: PhysicalMemory,
  storeAddress: number,
  old: VariableStore,
  now: VariableStore,
): void {
  const { naturalBytes } = ARCHITECTURES[snapshot.architecture]
  const pointer = Buffer.alloc(8)
  pointer.writeBigUInt64LE(BigInt(storeAddress))
  const taken = old.end - StoreHeader.Bytes
  forEachRuntimeData(snapshot, memory, (bytes, address) => {
    for (let at = bytes.indexOf(pointer); at !== -1; at = bytes.indexOf(pointer, at + 1)) {
      const words = Array.from(
        { length: GLOBAL_WORDS },
        (_, index) => at + 8 + index * naturalBytes,
      )
      const inside = words.filter((word) => word + naturalBytes <= bytes.length)
      const end = inside.find((word) => bytes.readUInt32LE(word) === old.end)
      if (end === undefined) continue
      memory.write32(address + end, now.end)
      const total = inside.find((word) => word > end && bytes.readUInt32LE(word) === taken)
      if (total !== undefined) memory.write32(address + total, now.end - StoreHeader.Bytes)
    }
  })
}

function forEachRuntimeData(
  snapshot: FirmwareSnapshot,
  memory: PhysicalMemory,
  visit: (bytes: Buffer, address: number) => void,
): void {
  for (const region of snapshot.memoryMap) {
    if (region.type !== MemoryType.RuntimeServicesData) continue
    const { physicalStart } = region
    const bytes = memory.read(physicalStart, descriptorEnd(region) - physicalStart)
    visit(Buffer.from(bytes.buffer), physicalStart)
  }
}
