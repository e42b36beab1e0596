import type { Quirk } from '@trapdoor/firmware'
import { ResetType } from '@trapdoor/uefi'

/** The BIOS data area's word that tells the POST to skip its memory test, and the value that does. */
const WARM_BOOT_FLAG = 0x472n
const SKIP_MEMORY_TEST = 0x1234

/** Page 0 is written at its physical address, where kernels keep it unmapped. */
export const page0Write: Quirk = {
  id: 'Q26',
  name: 'page0-write',
  title: 'SetVirtualAddressMap and a warm ResetSystem write physical address 0x472',
  sources: ['arch/x86/platform/efi/efi_64.c (efi_setup_page_tables)', 'RHEL dell_efi_quirk'],
  hooks: {
    setVirtualAddressMap: (call) => {
      call.write16(WARM_BOOT_FLAG, 0)
      return undefined
    },
    beforeService: (call) => {
      const warm = call.service === 'ResetSystem' && call.arg(0) === BigInt(ResetType.Warm)
      if (warm) call.write16(WARM_BOOT_FLAG, SKIP_MEMORY_TEST)
      return undefined
    },
  },
}
