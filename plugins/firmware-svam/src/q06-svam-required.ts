import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const POOL = 'Q06 runtime context'
const SLOT = 'Q06 pointer set by the event'
/** What edk2 fills fresh memory with (PcdDebugClearMemoryValue): as an address, not canonical. */
const CLEARED_MEMORY = 0xafaf_afaf_afaf_afafn

/** The variable driver sets the pointer that it works with in its address-change event alone. */
export const svamRequired: Quirk = {
  id: 'Q06',
  name: 'svam-required',
  title: 'Variable services fault until SetVirtualAddressMap was called',
  sources: ['Xen CONFIG_EFI_SET_VIRTUAL_ADDRESS_MAP (ThinkPad W540)', 'edk2 466f2f0c5f'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: POOL })
      plantWorkArea(setup, data)
      setup.pointer('VariableRuntimeDxe', POOL, data)
      setup.pointer('VariableRuntimeDxe', SLOT, CLEARED_MEMORY, { convert: false })
    },
    virtualAddressChange: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return
      call.writeNatural(call.slot(SLOT), call.pointer(POOL))
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      return useWorkArea(call, call.pointer(SLOT))
    },
  },
}
