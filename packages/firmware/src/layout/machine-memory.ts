import {
  type FrameOwner,
  type Machine,
  MemoryKind,
  type MtrrRanges,
  PAGE_SIZE,
} from '@trapdoor/core'
import { descriptorEnd, type MemoryDescriptor, MemoryType, memoryTypeName } from '@trapdoor/uefi'

/** Bytes; `end` is exclusive. */
export interface Range {
  readonly start: number
  readonly end: number
}

/** MTRRs that make what the map calls memory write-back, and the rest uncached. */
export function mtrrsOf(descriptors: readonly MemoryDescriptor[]): MtrrRanges {
  const memory = descriptors.filter((each) => !isDevice(each.type))
  const devices = descriptors.filter((each) => isDevice(each.type))
  return [
    ...mergeRanges(memory.map(rangeOf)).map(({ start, end }) => ({
      start,
      end,
      kind: MemoryKind.WB,
    })),
    ...mergeRanges(devices.map(rangeOf)).map(({ start, end }) => ({
      start,
      end,
      kind: MemoryKind.UC,
    })),
  ]
}

/** Tags the frames of firmware and devices with their owners. */
export function ownFrames(machine: Machine, descriptors: readonly MemoryDescriptor[]): void {
  for (const descriptor of descriptors) {
    const owner = frameOwner(descriptor.type)
    if (owner === undefined) continue
    const { start, end } = rangeOf(descriptor)
    machine.memory.owners.set(start / PAGE_SIZE, end / PAGE_SIZE, owner)
  }
}

/** Who owns a descriptor's frames; undefined where the operating system may use them. */
export function frameOwner(type: number): FrameOwner | undefined {
  switch (type) {
    case MemoryType.LoaderCode:
    case MemoryType.LoaderData:
    case MemoryType.ConventionalMemory:
    case MemoryType.PersistentMemory:
    case MemoryType.UnacceptedMemoryType:
      return undefined
    case MemoryType.BootServicesCode:
    case MemoryType.BootServicesData:
      return BOOT_SERVICES
    case MemoryType.MemoryMappedIO:
    case MemoryType.MemoryMappedIOPortSpace:
      return { kind: 'device', name: 'MMIO' }
    default:
      return { kind: 'firmware', name: memoryTypeName(type) }
  }
}

const BOOT_SERVICES: FrameOwner = { kind: 'firmware', name: 'boot services' }

function isDevice(type: number): boolean {
  return type === MemoryType.MemoryMappedIO || type === MemoryType.MemoryMappedIOPortSpace
}

/** The bytes of a descriptor. */
export function rangeOf(descriptor: MemoryDescriptor): Range {
  return { start: descriptor.physicalStart, end: descriptorEnd(descriptor) }
}

/** The same bytes as ranges that ascend and do not touch. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const merged: { start: number; end: number }[] = []
  const ascending = ranges
    .filter(({ start, end }) => start < end)
    .toSorted((a, b) => a.start - b.start)
  for (const { start, end } of ascending) {
    const last = merged.at(-1)
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end)
    else merged.push({ start, end })
  }
  return merged
}
