import {
  decodeMemoryMap,
  EDK2_DESCRIPTOR_STRIDE,
  encodeMemoryMap,
  type MemoryDescriptor,
  MemoryType,
} from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** The map that GetMemoryMap reports, in boot-services memory: its key, the number of descriptors, and these with edk2's stride. */
const MapState = { Key: 0, Count: 8, Descriptors: 16 } as const
/** Descriptors that AllocatePages may add before its pool is full. */
const SPARE_DESCRIPTORS = 128

/** The key of the map at power-on. */
export const FIRST_MAP_KEY = 0x1ddn

/** Bytes that a map takes, with room to grow. */
export function reportedMapBytes(descriptors: readonly MemoryDescriptor[]): number {
  return MapState.Descriptors + (descriptors.length + SPARE_DESCRIPTORS) * EDK2_DESCRIPTOR_STRIDE
}

/** A map as bytes. */
export function encodeReportedMap(
  descriptors: readonly MemoryDescriptor[],
  key: bigint,
): Uint8Array {
  const map = encodeMemoryMap(descriptors, EDK2_DESCRIPTOR_STRIDE)
  const bytes = new Uint8Array(MapState.Descriptors + map.length)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(MapState.Key, key, true)
  view.setBigUint64(MapState.Count, BigInt(descriptors.length), true)
  bytes.set(map, MapState.Descriptors)
  return bytes
}

/** The map as it is now, as bytes, and the key that belongs to it. */
export function readReportedMap(
  call: FirmwareCall,
  address: bigint,
): { key: bigint; bytes: Uint8Array } {
  const header = new DataView(call.readBytes(address, MapState.Descriptors).buffer)
  const count = Number(header.getBigUint64(MapState.Count, true))
  return {
    key: header.getBigUint64(MapState.Key, true),
    bytes: call.readBytes(address + BigInt(MapState.Descriptors), count * EDK2_DESCRIPTOR_STRIDE),
  }
}

/** Gives `pages` pages from `start` another type, if all of them lie in one descriptor of a type that `from` allows. Returns whether they do. */
export function retype(
  call: FirmwareCall,
  address: bigint,
  request: { start: number; pages: number; from: (type: number) => boolean; to: number },
): boolean {
  const { key, bytes } = readReportedMap(call, address)
  const descriptors = decodeMemoryMap(bytes, EDK2_DESCRIPTOR_STRIDE)
  const end = request.start + request.pages * 4096
  const index = descriptors.findIndex(
    (each) => each.physicalStart <= request.start && end <= endOf(each) && request.from(each.type),
  )
  const whole = descriptors[index]
  if (whole === undefined) return false
  const part = (start: number, stop: number, type: number): MemoryDescriptor => ({
    ...whole,
    type,
    physicalStart: start,
    numberOfPages: (stop - start) / 4096,
  })
  const parts = [
    part(whole.physicalStart, request.start, whole.type),
    part(request.start, end, request.to),
    part(end, endOf(whole), whole.type),
  ].filter(({ numberOfPages }) => numberOfPages > 0)
  descriptors.splice(index, 1, ...parts)
  joinNeighbours(
    descriptors,
    descriptors.findIndex((each) => each.physicalStart === request.start),
  )
  call.writeBytes(address, encodeReportedMap(descriptors, key + 1n))
  return true
}

/** The highest `pages` free pages that end at `limit` (exclusive) or below, as edk2 chooses them; undefined where there are none. */
export function findFreePages(
  call: FirmwareCall,
  address: bigint,
  pages: number,
  limit: number,
): number | undefined {
  const { bytes } = readReportedMap(call, address)
  const starts = decodeMemoryMap(bytes, EDK2_DESCRIPTOR_STRIDE)
    .filter(({ type }) => type === MemoryType.ConventionalMemory)
    .map((each) => ({
      low: each.physicalStart,
      start: pageFloor(Math.min(endOf(each), limit)) - pages * 4096,
    }))
    .filter(({ low, start }) => start >= low && start > 0)
    .map(({ start }) => start)
  return starts.length === 0 ? undefined : Math.max(...starts)
}

function joinNeighbours(descriptors: MemoryDescriptor[], index: number): void {
  for (const first of [index, index - 1]) {
    const low = descriptors[first]
    const high = descriptors[first + 1]
    if (low === undefined || high === undefined) continue
    const alike = low.type === high.type && low.attribute === high.attribute
    if (!alike || endOf(low) !== high.physicalStart) continue
    const numberOfPages = low.numberOfPages + high.numberOfPages
    descriptors.splice(first, 2, { ...low, numberOfPages })
  }
}

function endOf(descriptor: MemoryDescriptor): number {
  return descriptor.physicalStart + descriptor.numberOfPages * 4096
}

function pageFloor(address: number): number {
  return Math.floor(address / 4096) * 4096
}
