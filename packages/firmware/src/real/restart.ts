import type { Machine, PhysicalMemory } from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import { ARCHITECTURES, descriptorEnd, MemoryType, parseGuid } from '@trapdoor/uefi'
import { keepCmos } from '../reset.ts'
import { MONOTONIC_COUNT_VARIABLE } from '../services/monotonic-count-variable.ts'

/** EFI_FIRMWARE_VOLUME_HEADER.HeaderLength (PI 1.7, volume 3, 3.2.1). */
const VOLUME_HEADER_LENGTH = 48
/** VARIABLE_STORE_HEADER (MdeModulePkg/Include/Guid/VariableFormat.h): signature, size, and others. */
const StoreHeader = { Size: 16, Bytes: 28 } as const
/** gEfiAuthenticatedVariableGuid and gEfiVariableGuid. */
const STORE_SIGNATURES = [
  'aaf32c78-947b-439a-a180-2e144ec37792',
  'ddcf3616-3275-4164-98b6-fe85707ffe7d',
] as const
/** What AUTHENTICATED_VARIABLE_HEADER and VARIABLE_HEADER differ in: where the sizes of name and data are, which the vendor follows, and how long the header is. */
interface VariableHeader {
  readonly sizes: number
  readonly bytes: number
}
const VARIABLE_HEADERS: Readonly<Record<string, VariableHeader>> = {
  [STORE_SIGNATURES[0]]: { sizes: 36, bytes: 60 },
  [STORE_SIGNATURES[1]]: { sizes: 8, bytes: 32 },
}
const VARIABLE_START = 0x55aa
/** Offset of the state, and what it is for a variable that is there: VAR_ADDED. */
const STATE = 2
const ADDED = 0x3f
/** HEADER_ALIGNMENT. What follows a header is not aligned on x86: ALIGNMENT is 1 (VariableFormat.h). */
const HEADER_ALIGNMENT = 4
/** Words of VARIABLE_MODULE_GLOBAL behind NonVolatileVariableBase that are looked through. */
const GLOBAL_WORDS = 20

/** A store of variables in a flash. */
interface VariableStore {
  /** Offset in the flash. */
  readonly offset: number
  readonly bytes: Uint8Array
  /** Offset in the store of the first byte behind the last variable. */
  readonly end: number
  /** Offset in the store of the data of the variable that keeps the monotonic count; undefined where there is none. */
  readonly count: number | undefined
}

/**
 * Carries flash and clock of a machine that was reset into one that was just powered on with the same firmware. What a firmware does between the two is not in a snapshot of its end; of that two things are
 * done here that show in runtime services: VariableRuntimeDxe has a copy of the store in memory, and knows where it ends (edk2, VariableCommonInitialize()
 * and InitNonVolatileVariableStore()), and MonotonicCounterRuntimeDxe counts the boot. Firmware that keeps variables in system-management mode has them there.
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
  countBoot(snapshot, after.memory, old, now)
  after.memory.write(flash.address, contents)
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
  return { offset, bytes, ...variablesOf(bytes, VARIABLE_HEADERS[signature]!) }
}

function variablesOf(
  bytes: Uint8Array,
  header: VariableHeader,
): Pick<VariableStore, 'end' | 'count'> {
  const store = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const { name: countName, vendor: countVendor } = MONOTONIC_COUNT_VARIABLE
  let count: number | undefined
  let at: number = StoreHeader.Bytes
  while (at + header.bytes <= store.length && store.readUInt16LE(at) === VARIABLE_START) {
    const sizes = at + header.sizes
    const name = at + header.bytes
    const data = name + store.readUInt32LE(sizes)
    const isCount =
      store[at + STATE] === ADDED &&
      store.subarray(sizes + 8, sizes + 24).equals(countVendor) &&
      store.subarray(name, name + countName.length).equals(countName)
    if (isCount) count = data
    at = aligned(data + store.readUInt32LE(sizes + 4))
  }
  return { end: at, count }
}

function aligned(offset: number): number {
  return Math.ceil(offset / HEADER_ALIGNMENT) * HEADER_ALIGNMENT
}

/**
 * MonotonicCounterDriverInitialize(): the high half of the count is that of the variable and one more, and is written back. The firmware has the count in the data of its image, at whose
 * end they are; the low half is how often boot services have asked for it. It writes a variable anew, behind the others; here the one that is there gets the new value.
 */
function countBoot(
  { images }: FirmwareSnapshot,
  memory: PhysicalMemory,
  old: VariableStore,
  now: VariableStore,
): void {
  const image = images.find(({ name }) => name === 'MonotonicCounterRuntimeDxe')
  if (image === undefined || old.count === undefined || now.count === undefined) return
  const atHandOver = bufferOf(old).readUInt32LE(old.count)
  const high = (bufferOf(now).readUInt32LE(now.count) + 1) >>> 0
  bufferOf(now).writeUInt32LE(high, now.count)
  for (let count = image.base + image.bytes - 8; count >= image.base; count -= 8) {
    if (memory.read32(count + 4) !== atHandOver || memory.read32(count) >= MOST_ASKED) continue
    memory.write32(count + 4, high)
    return
  }
}

/** Boot services do not ask for the count so often. */
const MOST_ASKED = 0x1_0000

function bufferOf({ bytes }: VariableStore): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
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
