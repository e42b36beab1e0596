import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q13 pointer converted late'
/** EFI_OPTIONAL_PTR. */
const OPTIONAL = 1n

/**
 * A driver converts a pointer in its services rather than in its event, through a table that SetVirtualAddressMap leaves with the physical address of ConvertPointer. What
 * that finds in its own data is left from the call that is over: how many descriptors there were, and no map.
 */
export const svamSelfStale: Quirk = {
  id: 'Q13',
  name: 'svam-self-stale',
  title: 'Variable services call ConvertPointer, whose address is never converted',
  sources: ['edk2 MdeModulePkg/Core/RuntimeDxe/Runtime.c', 'UEFI 2.10, 8.4.2 ConvertPointer()'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      setup.pointer('VariableRuntimeDxe', SLOT, data, { convert: false })
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      const table = call.pointer('gRT')
      const { runtimeServicesTable } = call.architecture.tables
      const convert = call.readNatural(table + BigInt(runtimeServicesTable.ConvertPointer))
      call.call(convert, OPTIONAL, call.slot(SLOT))
      return undefined
    },
  },
}
