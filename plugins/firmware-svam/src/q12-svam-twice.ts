import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q12 one-time hook'

/** SetVirtualAddressMap has a hook that it forgets once it ran; nothing looks whether there still is one. */
export const svamTwice: Quirk = {
  id: 'Q12',
  name: 'svam-twice',
  title: 'A second SetVirtualAddressMap calls a null pointer',
  sources: ['Linux kexec setup_data (efi_reuse_config)', 'UEFI 2.10, 8.4.1'],
  hooks: {
    powerOn: (setup) => {
      const address = setup.allocate({ type: MemoryType.RuntimeServicesCode, pages: 1, name: SLOT })
      const hook = setup.code({
        address,
        image: 'RuntimeDxe',
        name: 'OneTimeHook',
        service: 'SetVirtualAddressMap',
        run: () => EfiStatus.SUCCESS,
      })
      setup.pointer('RuntimeDxe', SLOT, hook, { convert: false })
    },
    setVirtualAddressMap: (call) => {
      const hook = call.pointer(SLOT)
      call.writeNatural(call.slot(SLOT), 0n)
      call.call(hook)
      return undefined
    },
  },
}
