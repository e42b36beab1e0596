import { PAGE_SIZE } from '@trapdoor/core'
import { descriptorEnd, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { type E820Entry, E820Type, updateE820 } from '../../memory/e820.ts'

/** A range of `efi_fake_mem=`: physical bytes, `end` exclusive, and the attributes that it gets beside its own. */
export interface FakeRange {
  readonly start: number
  readonly end: number
  readonly attribute: bigint
}

/** efi_fake_memmap() (drivers/firmware/efi/fake_mem.c, Linux 4.4 and later): descriptors are split where a range begins and ends, and get its attributes. */
export function fakeMemmap(
  map: readonly MemoryDescriptor[],
  ranges: readonly FakeRange[],
): readonly MemoryDescriptor[] {
  let faked = map
  for (const range of ranges) faked = faked.flatMap((each) => split(each, range))
  return faked
}

function split(descriptor: MemoryDescriptor, range: FakeRange): MemoryDescriptor[] {
  const end = descriptorEnd(descriptor)
  const first = Math.max(descriptor.physicalStart, range.start)
  const last = Math.min(end, range.end)
  if (first >= last) return [descriptor]
  return [
    piece(descriptor, descriptor.physicalStart, first, 0n),
    piece(descriptor, first, last, range.attribute),
    piece(descriptor, last, end, 0n),
  ].filter(({ numberOfPages }) => numberOfPages > 0)
}

function piece(
  descriptor: MemoryDescriptor,
  start: number,
  end: number,
  attribute: bigint,
): MemoryDescriptor {
  return {
    ...descriptor,
    physicalStart: start,
    numberOfPages: (end - start) / PAGE_SIZE,
    attribute: descriptor.attribute | attribute,
  }
}

/**
 * Conventional memory with EFI_MEMORY_SP is not the page allocator's (E820_TYPE_SOFT_RESERVED of do_add_efi_memmap(), Linux 5.5 and later, but for
 * `efi=nosoftreserve`); here it is reserved like the rest.
 */
export function softReserve(
  e820: readonly E820Entry[],
  map: readonly MemoryDescriptor[],
): readonly E820Entry[] {
  const special = map.filter(
    ({ type, attribute }) =>
      type === MemoryType.ConventionalMemory && (attribute & MemoryAttribute.SP) !== 0n,
  )
  return special.reduce<readonly E820Entry[]>(
    (entries, each) =>
      updateE820(entries, each.physicalStart, descriptorEnd(each), E820Type.RAM, E820Type.RESERVED),
    e820,
  )
}
