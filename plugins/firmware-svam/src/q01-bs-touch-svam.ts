import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'
import { callWorkArea, plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q01 OEM hook'

/** An OEM hook of the Windows 8 era was never moved to runtime memory, and its event calls it all the same. */
export const bsTouchSvam: Quirk = {
  id: 'Q01',
  name: 'bs-touch-svam',
  title: 'SetVirtualAddressMap calls into boot-services code with boot-services data',
  sources: ['Linux 916f676f8dc0', 'arch/x86/platform/efi/quirks.c', 'FreeBSD PR 287422'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: SLOT })
      const address = setup.allocate({ type: MemoryType.BootServicesCode, pages: 1, name: SLOT })
      const code = setup.code({
        address,
        image: 'OemHookDxe',
        name: 'OnAddressChange',
        service: 'SetVirtualAddressMap',
        run: (call) => useWorkArea(call, call.arg(0)) ?? EfiStatus.SUCCESS,
      })
      plantWorkArea(setup, data, code)
      setup.pointer('VariableRuntimeDxe', SLOT, data, { convert: false })
    },
    virtualAddressChange: (call) => {
      if (call.image === 'VariableRuntimeDxe') callWorkArea(call, call.pointer(SLOT))
    },
  },
}
