import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q07 buffer that moves'
const SIGNATURE = 0x6874_6f62n

/** While it converts its pointers, a driver copies a word from the old address of a buffer to the new one. */
export const svamNeedsBoth: Quirk = {
  id: 'Q07',
  name: 'svam-needs-both',
  title: 'SetVirtualAddressMap uses runtime data at its old and at its new address',
  sources: [
    'Ard Biesheuvel, linux-efi, 12 November 2025 (c)',
    'Snapdragon laptops, linux-efi, 2022: the new mapping is used inside SetVirtualAddressMap',
  ],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      setup.write64(data, SIGNATURE)
      setup.pointer('VariableRuntimeDxe', SLOT, data, { convert: false })
    },
    virtualAddressChange: (call, change) => {
      if (call.image !== 'VariableRuntimeDxe') return
      const word = call.read64(call.pointer(SLOT))
      change.convert(call.slot(SLOT))
      call.write64(call.pointer(SLOT) + 8n, word)
    },
  },
}
