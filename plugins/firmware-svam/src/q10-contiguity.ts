import type { Quirk } from '@trapdoor/firmware'
import { descriptorEnd, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const PAGE = 4096
const SLOT = 'Q10 object of two pages'

/** The descriptor that has `boundary` inside as two, of one type and attribute. */
function split(
  descriptors: readonly MemoryDescriptor[],
  boundary: number,
): readonly MemoryDescriptor[] {
  return descriptors.flatMap((each) => {
    const { physicalStart } = each
    if (physicalStart >= boundary || descriptorEnd(each) <= boundary) return [each]
    const pages = (boundary - physicalStart) / PAGE
    return [
      Object.assign({}, each, { numberOfPages: pages }),
      Object.assign({}, each, {
        physicalStart: boundary,
        numberOfPages: each.numberOfPages - pages,
      }),
    ]
  })
}

/** The map cuts an object of the variable driver in two, and the driver takes it for one piece. */
export const contiguity: Quirk = {
  id: 'Q10',
  name: 'contiguity',
  title: 'Variable services use one object across two adjacent descriptors',
  sources: [
    'Linux 3.0 arch/x86/platform/efi/efi.c: efi_merge_regions() "Merge contiguous memory regions of the same type and attribute" (MacBook Air)',
  ],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 2, name: SLOT })
      plantWorkArea(setup, data + PAGE)
      setup.pointer('VariableRuntimeDxe', SLOT, data)
      setup.reportMap((descriptors) => split(descriptors, data + PAGE))
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      return useWorkArea(call, call.pointer(SLOT) + BigInt(PAGE))
    },
  },
}
