import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q32 buffer in free memory'
const SIGNATURE = 0x6576_6f6c_4920n

/** The variable driver goes on using memory that it has given back. */
export const convUsed: Quirk = {
  id: 'Q32',
  name: 'conv-used',
  title: 'Variable services count in memory that the map calls conventional',
  sources: [
    'Linux: page 0 is reserved whatever the map says (Apple)',
    'OpenCore ProtectMemoryRegions',
  ],
  hooks: {
    powerOn: (setup) => {
      const data = setup.allocate({ type: MemoryType.ConventionalMemory, pages: 1, name: SLOT })
      setup.write64(data, SIGNATURE)
      setup.pointer('VariableRuntimeDxe', SLOT, data, { convert: false })
    },
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      const buffer = call.pointer(SLOT)
      const signature = call.read64(buffer)
      call.write64(buffer + 8n, call.read64(buffer + 8n) + 1n)
      return signature === SIGNATURE ? undefined : EfiStatus.DEVICE_ERROR
    },
  },
}
