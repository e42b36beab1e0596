import type { Quirk } from '@trapdoor/firmware'
import { MemoryAttribute, MemoryType } from '@trapdoor/uefi'

/** The map forgets what the operating system has to go by. */
export const rtNoAttr: Quirk = {
  id: 'Q20',
  name: 'rt-no-attr',
  title: 'Runtime code and data are reported without the RUNTIME attribute',
  sources: ['Xen: force EFI_MEMORY_RUNTIME on runtime code and data (2022)'],
  hooks: {
    memoryMap: (descriptors) =>
      descriptors.map((each) =>
        each.type === MemoryType.RuntimeServicesCode || each.type === MemoryType.RuntimeServicesData
          ? { ...each, attribute: each.attribute & ~MemoryAttribute.RUNTIME }
          : each,
      ),
  },
}
