import {
  type FrameOwner,
  type Machine,
  MemoryKind,
  type MtrrRanges,
  PAGE_SIZE,
  PAGE_SIZE_1G,
  PAGE_SIZE_2M,
  PageTableBuilder,
  phys,
  virt,
} from '@trapdoor/core'
import { descriptorEnd, type MemoryDescriptor, MemoryType, memoryTypeName } from '@trapdoor/uefi'

const FOUR_GIBIBYTES = 2 ** 32

interface Range {
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

/**
 * Builds the identity tables that firmware boots with, of pages as large as the CPU has: all of the first 4 GiB, and every descriptor that
 * the CPU can address. `allocate` gives the frame of a table. Returns the root's physical address.
 */
export function buildIdentityMap(
  machine: Machine,
  descriptors: readonly MemoryDescriptor[],
  allocate: () => number,
): number {
  const { pages1G, maxPhysicalAddressBits } = machine.features
  const page = pages1G ? PAGE_SIZE_1G : PAGE_SIZE_2M
  const limit = 2 ** Math.min(maxPhysicalAddressBits, 47)
  const wanted = [{ start: 0, end: FOUR_GIBIBYTES }, ...descriptors.map(rangeOf)]
    .map(({ start, end }) => ({
      start: Math.floor(start / page) * page,
      end: Math.min(Math.ceil(end / page) * page, limit),
    }))
    .filter(({ start, end }) => start < end)
  const root = phys(allocate() * PAGE_SIZE)
  const builder = new PageTableBuilder(machine.memory, root, allocate)
  for (const { start, end } of mergeRanges(wanted)) {
    builder.mapRange(virt(start), phys(start), end - start, { executable: true, largestPage: page })
  }
  return root
}

function isDevice(type: number): boolean {
  return type === MemoryType.MemoryMappedIO || type === MemoryType.MemoryMappedIOPortSpace
}

function rangeOf(descriptor: MemoryDescriptor): Range {
  return { start: descriptor.physicalStart, end: descriptorEnd(descriptor) }
}

/** The same bytes as ranges that ascend and do not touch. */
function mergeRanges(ranges: readonly Range[]): Range[] {
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
