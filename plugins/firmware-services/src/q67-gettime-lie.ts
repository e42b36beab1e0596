import type { Quirk } from '@trapdoor/firmware'
import { EFI_TIME_SIZE, EfiStatus } from '@trapdoor/uefi'

/** The clock's registers are read wrong, and nobody looks whether that is a time. */
export const gettimeLie: Quirk = {
  id: 'Q67',
  name: 'gettime-lie',
  title: 'GetTime succeeds with a time of zeros',
  sources: [
    'Linux arch/x86/platform/efi: rtc-efi is not used on x86, as GetTime cannot be relied on',
    'UEFI 2.10, 8.3.1 GetTime()',
  ],
  hooks: {
    afterService: (status, call) => {
      if (call.service !== 'GetTime' || status !== EfiStatus.SUCCESS) return status
      call.writeBytes(call.arg(0), new Uint8Array(EFI_TIME_SIZE))
      return status
    },
  },
}
