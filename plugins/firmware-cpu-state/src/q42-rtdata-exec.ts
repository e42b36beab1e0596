import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q42 function among data'

/** A firmware from before memory attributes tables has a function in a region of data. */
export const rtdataExec: Quirk = {
  id: 'Q42',
  name: 'rtdata-exec',
  title: 'Variable services call a function that lies in runtime-services data',
  sources: [
    'Linux 2.6.35 runtime_code_page_mkexec(): only RuntimeServicesCode becomes executable',
    'Linux 5.6 efi_map_region(): data is no longer executable',
  ],
  hooks: {
    powerOn: (setup) => {
      const address = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      setup.code({
        address,
        image: 'VariableRuntimeDxe',
        name: 'FunctionAmongData',
        service: 'GetVariable',
        run: () => EfiStatus.SUCCESS,
      })
      setup.pointer('VariableRuntimeDxe', SLOT, address)
    },
    memoryAttributes: () => [],
    beforeService: (call) => {
      if (call.image === 'VariableRuntimeDxe') call.call(call.pointer(SLOT))
      return undefined
    },
  },
}
