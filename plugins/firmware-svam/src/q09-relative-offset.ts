import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'
import { plantWorkArea, useWorkArea } from './work-area.ts'

const SLOT = 'Q09 displacement'

/** Code and data of one image lie in two descriptors, and the code finds the data relative to itself. */
export const relativeOffset: Quirk = {
  id: 'Q09',
  name: 'relative-offset',
  title: 'Variable services reach data in another descriptor at a fixed distance from their code',
  architectures: ['x64'],
  sources: ['Linux a5caa209ba9c', 'UEFI 2.5 properties table'],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      plantWorkArea(setup, data)
      // The operand of a RIP-relative instruction, which no relocation touches.
      const displacement = data - setup.imageBase('VariableRuntimeDxe')
      setup.pointer('VariableRuntimeDxe', SLOT, displacement, { convert: false })
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      const address = BigInt.asUintN(64, call.imageBase + call.pointer(SLOT))
      return useWorkArea(call, address)
    },
  },
}
