import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** The converter takes a descriptor that was given no address for a mistake of the caller. */
export const fullMapChoke: Quirk = {
  id: 'Q11',
  name: 'full-map-choke',
  title: 'SetVirtualAddressMap refuses a map with descriptors that have no virtual address',
  sources: ['Linux 3.0.x "x86, efi: Pass a minimal map to SetVirtualAddressMap()" (early Macs)'],
  hooks: {
    setVirtualAddressMap: (_call, map) => {
      const isHomeless = map
        .read()
        .some((each) => each.virtualStart === 0n && each.physicalStart !== 0)
      return isHomeless ? EfiStatus.INVALID_PARAMETER : undefined
    },
  },
}
