import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q08 pointer with a mark'
/** The mark: the sign, which kernels' addresses have. */
const CONVERTED = 2n ** 63n

/** The variable driver takes the sign for the mark of a pointer that was converted, and looks for its data there at once: where firmware is given an address without it, SetVirtualAddressMap ends here. */
export const lowHalfCrash: Quirk = {
  id: 'Q08',
  name: 'low-half-crash',
  title: 'SetVirtualAddressMap crashes with virtual addresses whose bit 63 is clear',
  architectures: ['x64'],
  sources: ['H. Peter Anvin, linux-efi, November 2025: some firmware dies of low-half addresses'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      plantWorkArea(setup, data)
      setup.pointer('VariableRuntimeDxe', SLOT, data)
    },
    virtualAddressChange: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return
      const converted = call.pointer(SLOT)
      if ((converted & CONVERTED) === 0n) useWorkArea(call, converted | CONVERTED)
    },
  },
}
