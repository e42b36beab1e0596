import { descriptorEnd, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** How far runtime memory moves, in pages: one more allocation of 64 KiB somewhere in the boot. */
const DRIFT_PAGES = 16

const RUNTIME: ReadonlySet<number> = new Set([
  MemoryType.RuntimeServicesCode,
  MemoryType.RuntimeServicesData,
])
const RECLAIMED: ReadonlySet<number> = new Set([
  MemoryType.BootServicesCode,
  MemoryType.BootServicesData,
  MemoryType.LoaderCode,
  MemoryType.LoaderData,
  MemoryType.ConventionalMemory,
])

/**
 * The map of the same machine at another boot, whose firmware allocated a little more before: runtime regions lie lower where there is memory below them to take, and
 * boot-services memory fills the gap. Sizes, types and attributes of the regions stay. The same map where nothing can move.
 */
export function driftMemoryMap(map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  const sorted = map.toSorted((a, b) => a.physicalStart - b.physicalStart)
  const drifted: MemoryDescriptor[] = []
  let index = 0
  while (index < sorted.length) {
    const below = sorted[index]!
    drifted.push(below)
    index++
    const run: MemoryDescriptor[] = []
    let end = descriptorEnd(below)
    while (index < sorted.length && continues(sorted[index]!, end)) {
      run.push(sorted[index]!)
      end = descriptorEnd(sorted[index]!)
      index++
    }
    if (!canGive(below)) drifted.push(...run)
    else if (run.length > 0) {
      drifted[drifted.length - 1] = shrunk(below)
      drifted.push(...run.map(lowered), filler(below, end))
    }
  }
  return drifted
}

function continues({ type, physicalStart }: MemoryDescriptor, end: number): boolean {
  return RUNTIME.has(type) && physicalStart === end
}

function canGive({ type, numberOfPages }: MemoryDescriptor): boolean {
  return RECLAIMED.has(type) && numberOfPages > DRIFT_PAGES
}

function shrunk(descriptor: MemoryDescriptor): MemoryDescriptor {
  return { ...descriptor, numberOfPages: descriptor.numberOfPages - DRIFT_PAGES }
}

function lowered(descriptor: MemoryDescriptor): MemoryDescriptor {
  return { ...descriptor, physicalStart: descriptor.physicalStart - DRIFT_PAGES * 4096 }
}

function filler({ attribute }: MemoryDescriptor, end: number): MemoryDescriptor {
  return {
    type: MemoryType.BootServicesData,
    physicalStart: end - DRIFT_PAGES * 4096,
    virtualStart: 0n,
    numberOfPages: DRIFT_PAGES,
    attribute,
  }
}
