import { descriptorEnd, MemoryType, type MemoryDescriptor } from '@trapdoor/uefi'

/**
 * efi_merge_regions() (Linux 3.0 and later, arch/x86/platform/efi/efi.c): a descriptor that goes on where the one before it in the map's order ends, with the same type and
 * attribute, is added to that one and left behind as a reserved descriptor without attributes.
 */
export function mergeRegions(map: readonly MemoryDescriptor[]): MemoryDescriptor[] {
  const merged: MemoryDescriptor[] = []
  let survivor: number | undefined
  for (const descriptor of map) {
    const previous = survivor === undefined ? undefined : merged[survivor]
    const continues =
      previous !== undefined &&
      previous.type === descriptor.type &&
      previous.attribute === descriptor.attribute &&
      descriptorEnd(previous) === descriptor.physicalStart
    if (continues) {
      merged[survivor!] = {
        ...previous,
        numberOfPages: previous.numberOfPages + descriptor.numberOfPages,
      }
      merged.push({ ...descriptor, type: MemoryType.ReservedMemoryType, attribute: 0n })
    } else {
      survivor = merged.length
      merged.push(descriptor)
    }
  }
  return merged
}
