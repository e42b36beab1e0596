import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'

/** Something fails when all pointers have been converted, and the caller is told so. */
export const svamFailsAfterCommit: Quirk = {
  id: 'Q18',
  name: 'svam-fails-after-commit',
  title: 'SetVirtualAddressMap reports an error, and firmware is at virtual addresses all the same',
  sources: [
    'edk2 MdeModulePkg/Core/RuntimeDxe/Runtime.c: VirtualMode is set before what can fail',
    'Linux 5.x __efi_enter_virtual_mode(): "Unable to switch EFI into virtual mode"',
  ],
  hooks: {
    afterService: (status, call) =>
      call.service === 'SetVirtualAddressMap' && status === EfiStatus.SUCCESS
        ? EfiStatus.DEVICE_ERROR
        : status,
  },
}
