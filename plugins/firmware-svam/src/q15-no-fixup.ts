import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** SetVirtualAddressMap is a stub. */
export const noFixup: Quirk = {
  id: 'Q15',
  name: 'no-fixup',
  title: 'SetVirtualAddressMap succeeds and converts nothing',
  sources: ['rust-hypervisor-firmware: SetVirtualAddressMap without relocation of pointers'],
  hooks: { setVirtualAddressMap: () => EfiStatus.SUCCESS },
}
