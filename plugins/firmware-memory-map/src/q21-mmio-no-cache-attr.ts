import type { Quirk } from '@trapdoor/firmware'
import { descriptorEnd, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'

/** DMIBAR: the registers of the link between processor and chipset. */
const DMIBAR = { address: 0xfed1_8000, pages: 1, name: 'DMIBAR' } as const
const DMIBAR_END = DMIBAR.address + DMIBAR.pages * 4096
/** The link's status. */
const LINK_STATUS = 0x8an
const SLOT = 'Q21 DMIBAR'

const WITHOUT_CACHEABILITY: MemoryDescriptor = {
  type: MemoryType.MemoryMappedIO,
  physicalStart: DMIBAR.address,
  virtualStart: 0n,
  numberOfPages: DMIBAR.pages,
  attribute: MemoryAttribute.RUNTIME,
}

/** A device of the firmware's that the map lists without a word about caches. */
export const mmioNoCacheAttr: Quirk = {
  id: 'Q21',
  name: 'mmio-no-cache-attr',
  title: 'SetVariable reads registers whose descriptor has RUNTIME and no cacheability',
  sources: ['Xen efi=attr=uc (Dell, MMIO at 0xfed18000 with attribute 0x8000000000000000)'],
  hooks: {
    memoryMap: (descriptors) =>
      descriptors.filter(
        (each) => each.physicalStart >= DMIBAR_END || descriptorEnd(each) <= DMIBAR.address,
      ),
    powerOn: (setup) => {
      setup.pointer('VariableRuntimeDxe', SLOT, setup.allocateOutsideMap(DMIBAR))
      setup.reportMap((descriptors) =>
        [...descriptors, WITHOUT_CACHEABILITY].toSorted(
          (a, b) => a.physicalStart - b.physicalStart,
        ),
      )
    },
    beforeService: (call) => {
      if (call.service === 'SetVariable') call.read16(call.pointer(SLOT) + LINK_STATUS)
      return undefined
    },
  },
}
