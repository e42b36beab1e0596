import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q08 pointer with a mark'
/** The driver's mark of a pointer that it has converted: the sign, which kernels' addresses have anyway. */
const CONVERTED = 2n ** 63n

/** The variable driver marks pointers as converted by their sign, and uses them with the mark. */
export const lowHalfCrash: Quirk = {
  id: 'Q08',
  name: 'low-half-crash',
  title: 'Variable services use virtual addresses as if all had bit 63 set',
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
      call.writeNatural(call.slot(SLOT), call.pointer(SLOT) | CONVERTED)
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      return useWorkArea(call, call.pointer(SLOT))
    },
  },
}
