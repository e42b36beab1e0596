import { PAGE_SIZE } from '@trapdoor/core'
import type { FirmwareSnapshot } from '@trapdoor/snapshot'
import {
  descriptorEnd,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  memoryTypeName,
} from '@trapdoor/uefi'
import { FirmwareError } from '../error.ts'
import type { PageSource, ReportedMap } from '../setup.ts'

const ONE_MEBIBYTE = 0x10_0000
const FOUR_GIBIBYTES = 2 ** 32
/** Pages below the stack pointer that are left alone: the loader is going to use them. */
const STACK_PAGES = 32

/**
 * Finds memory beside a real firmware's. Of boot-services memory there are pages that the snapshot has nothing of. Of runtime memory every page may be somebody's, so that more of it is made of
 * conventional memory, below 4 GiB and as high as there is some, and the map says so: as the DXE core does when its pools are full.
 */
export class SpareMemory implements PageSource {
  /** The descriptors that were added. */
  readonly added: MemoryDescriptor[] = []
  readonly #reported: ReportedMap
  readonly #memoryMap: readonly MemoryDescriptor[]
  /** Frames that are in use, or were given away. */
  readonly #taken: Set<number>

  constructor(snapshot: FirmwareSnapshot, reported: ReportedMap) {
    this.#reported = reported
    this.#memoryMap = snapshot.memoryMap
    this.#taken = new Set(
      snapshot.pages.flatMap(({ address, bytes }) => framesOf(address, bytes.length)),
    )
    const { gdt, idt, general } = snapshot.cpu
    for (const { base, limit } of [gdt, idt]) this.#take(framesOf(Number(base), limit + 1))
    const top = Math.ceil(Number(general.rsp) / PAGE_SIZE) * PAGE_SIZE
    this.#take(framesOf(top - STACK_PAGES * PAGE_SIZE, (STACK_PAGES + 1) * PAGE_SIZE))
  }

  allocate(types: readonly number[], pages: number, purpose: string): number {
    for (const type of types) {
      const address = isBootServices(type) ? this.#find(type, pages) : this.#carve(type, pages)
      if (address !== undefined) return address
    }
    throw new FirmwareError('FIRMWARE_NO_ROOM', {
      expected: `${pages} pages of ${types.map(memoryTypeName).join(' or ')} for ${purpose}`,
      found: 'nothing that the snapshot leaves free',
    })
  }

  /** Free pages of regions of a type, of the largest region first. */
  #find(type: number, pages: number): number | undefined {
    const regions = this.#memoryMap
      .filter((each) => each.type === type && each.physicalStart >= ONE_MEBIBYTE)
      .toSorted((a, b) => b.numberOfPages - a.numberOfPages)
    for (const { physicalStart, numberOfPages } of regions) {
      const first = physicalStart / PAGE_SIZE
      let free = 0
      for (let frame = first; frame < first + numberOfPages; frame++) {
        free = this.#taken.has(frame) ? 0 : free + 1
        if (free < pages) continue
        const address = (frame - pages + 1) * PAGE_SIZE
        this.#take(framesOf(address, pages * PAGE_SIZE))
        return address
      }
    }
    return undefined
  }

  /** Gives the last pages of the highest conventional memory another type. */
  #carve(type: number, pages: number): number | undefined {
    const bytes = pages * PAGE_SIZE
    const { descriptors } = this.#reported
    const source = descriptors
      .filter(
        (each) =>
          each.type === MemoryType.ConventionalMemory &&
          descriptorEnd(each) <= FOUR_GIBIBYTES &&
          each.physicalStart >= ONE_MEBIBYTE &&
          each.numberOfPages > pages,
      )
      .toSorted((a, b) => b.physicalStart - a.physicalStart)[0]
    if (source === undefined) return undefined
    const numberOfPages = source.numberOfPages - pages
    const descriptor: MemoryDescriptor = {
      ...source,
      type,
      physicalStart: descriptorEnd(source) - bytes,
      numberOfPages: pages,
      attribute: source.attribute | (isRuntimeType(type) ? MemoryAttribute.RUNTIME : 0n),
    }
    this.added.push(descriptor)
    this.#reported.descriptors = descriptors.flatMap((each) =>
      each === source ? [{ ...source, numberOfPages }, descriptor] : [each],
    )
    return descriptor.physicalStart
  }

  #take(frames: readonly number[]): void {
    for (const frame of frames) this.#taken.add(frame)
  }
}

function isBootServices(type: number): boolean {
  return type === MemoryType.BootServicesCode || type === MemoryType.BootServicesData
}

function isRuntimeType(type: number): boolean {
  return type === MemoryType.RuntimeServicesCode || type === MemoryType.RuntimeServicesData
}

function framesOf(address: number, bytes: number): number[] {
  const first = Math.floor(address / PAGE_SIZE)
  const end = Math.ceil((address + bytes) / PAGE_SIZE)
  return Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index)
}
