import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q03 unconverted pointer'

/** The variable driver forgot to convert one of its pointers to runtime data. */
export const physPointerStale: Quirk = {
  id: 'Q03',
  name: 'phys-pointer-stale',
  title: 'Variable services use a physical address after SetVirtualAddressMap',
  sources: ['arch/x86/platform/efi/efi_64.c (efi_map_region)', 'esx-boot EFI_RTS_OLD_AND_NEW'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      plantWorkArea(setup, data)
      setup.pointer('VariableRuntimeDxe', SLOT, data, { convert: false })
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      return useWorkArea(call, call.pointer(SLOT))
    },
  },
}
