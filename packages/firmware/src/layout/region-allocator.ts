import { formatAddress, PAGE_SIZE } from '@trapdoor/core'
import {
  descriptorEnd,
  isRuntime,
  type MemoryDescriptor,
  MemoryType,
  memoryTypeName,
} from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'

interface Region {
  readonly type: number
  readonly start: number
  readonly end: number
  next: number
}

const ONE_MEBIBYTE = 0x10_0000

/**
 * Hands out pages of a machine's descriptors while it is powered on. Runtime memory comes from all of a type's regions in turn, as real images
 * lie scattered; boot-services memory from the largest.
 */
export class RegionAllocator {
  readonly #regions: Map<number, Region[]> = new Map()
  readonly #turns: Map<number, number> = new Map()

  /** Descriptors that are empty, end above `limit`, overlap others, or are runtime memory without the RUNTIME attribute give nothing. */
  constructor(descriptors: readonly MemoryDescriptor[], limit: number) {
    for (const descriptor of descriptors) {
      const { type } = descriptor
      const start = Math.max(descriptor.physicalStart, PAGE_SIZE)
      const end = descriptorEnd(descriptor)
      if (end <= start || end > limit || overlapsAnother(descriptor, descriptors)) continue
      if (isRuntimeType(type) && !isRuntime(descriptor)) continue
      const regions = this.#regions.get(type) ?? []
      regions.push({ type, start, end, next: start })
      this.#regions.set(type, regions)
    }
    for (const regions of this.#regions.values()) {
      regions.sort((a, b) => rank(a) - rank(b) || a.start - b.start)
    }
  }

  /** The address of `pages` pages of one of `types`, tried in this order. Throws FIRMWARE_NO_ROOM, naming `purpose`. */
  allocate(types: readonly number[], pages: number, purpose: string): number {
    for (const type of types) {
      const region = this.#find(type, pages)
      if (region === undefined) continue
      const address = region.next
      region.next += pages * PAGE_SIZE
      return address
    }
    const names = types.map(memoryTypeName).join(' or ')
    throw new FirmwareError('FIRMWARE_NO_ROOM', {
      expected: `${pages} pages of ${names} for ${purpose}`,
      found: this.#describe(types),
      hint: 'the memory map has to list whole regions of a machine that boots, with their attributes',
    })
  }

  /**
   * As {@link allocate}, but from the smallest region that has room: what is placed last, when little is left, shares its descriptor with as little as possible.
   */
  allocateApart(types: readonly number[], pages: number, purpose: string): number {
    const smallest = types
      .flatMap((type) => this.#regions.get(type) ?? [])
      .filter(({ start, next, end }) => start >= ONE_MEBIBYTE && end - next >= pages * PAGE_SIZE)
      .toSorted((a, b) => a.end - a.start - (b.end - b.start))[0]
    if (smallest === undefined) return this.allocate(types, pages, purpose)
    const address = smallest.next
    smallest.next += pages * PAGE_SIZE
    return address
  }

  #find(type: number, pages: number): Region | undefined {
    const roomy = (this.#regions.get(type) ?? []).filter(
      (region) => region.end - region.next >= pages * PAGE_SIZE,
    )
    if (!isRuntimeType(type)) return roomy[0]
    const turn = this.#turns.get(type) ?? 0
    this.#turns.set(type, turn + 1)
    return roomy[turn % roomy.length]
  }

  #describe(types: readonly number[]): string {
    const left = types
      .flatMap((type) => this.#regions.get(type) ?? [])
      .map(({ next, end }) => `${(end - next) / PAGE_SIZE} at ${formatAddress(next)}`)
    return left.length === 0 ? 'no such region that can be used' : `free pages: ${left.join(', ')}`
  }
}

function isRuntimeType(type: number): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

/** Runtime regions in ascending order, others by size; below 1 MiB comes last, where every boot loader meddles. */
function rank(region: Region): number {
  const size = isRuntimeType(region.type) ? 0 : region.end - region.start
  return region.start < ONE_MEBIBYTE ? 1 : -size
}

function overlapsAnother(
  descriptor: MemoryDescriptor,
  descriptors: readonly MemoryDescriptor[],
): boolean {
  const end = descriptorEnd(descriptor)
  return descriptors.some(
    (other) =>
      other !== descriptor &&
      other.numberOfPages > 0 &&
      other.physicalStart < end &&
      descriptor.physicalStart < descriptorEnd(other),
  )
}
