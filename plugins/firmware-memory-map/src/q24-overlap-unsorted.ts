import type { Quirk } from '@trapdoor/firmware'
import { isRuntime, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** The first page of some runtime data once more, as a device's. */
function asDevice(region: MemoryDescriptor): MemoryDescriptor {
  return {
    ...region,
    type: MemoryType.MemoryMappedIO,
    numberOfPages: 1,
    attribute: MemoryAttribute.RUNTIME | MemoryAttribute.UC,
  }
}

/** The map descends, and has one page twice with cacheabilities that exclude each other. */
export const overlapUnsorted: Quirk = {
  id: 'Q24',
  name: 'overlap-unsorted',
  title: 'The memory map is in descending order, and lists a page of runtime data as a device too',
  sources: [
    'Linux a5caa209ba9c: what the order of the map decides',
    'Apple and Insyde memory maps with overlapping or unsorted entries',
  ],
  hooks: {
    memoryMap: (descriptors) => {
      const data = descriptors.find(
        (each) => each.type === MemoryType.RuntimeServicesData && isRuntime(each),
      )
      const twice = data === undefined ? [] : [asDevice(data)]
      return [...descriptors.toReversed(), ...twice]
    },
  },
}
