import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q02 boot-time cache'

/** The variable driver goes on using a buffer that it allocated from boot-services pool. */
export const bsTouchRuntime: Quirk = {
  id: 'Q02',
  name: 'bs-touch-runtime',
  title: 'Variable services read and write boot-services data at runtime',
  sources: ['systemd#22865', 'arch/x86/platform/efi/quirks.c (efi_free_boot_services)'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: SLOT })
      plantWorkArea(setup, data)
      setup.pointer('VariableRuntimeDxe', SLOT, data)
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      return useWorkArea(call, call.pointer(SLOT))
    },
  },
}
