import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q16 list of locked variables'
/** Entries that no list of this driver has. */
const TOO_LONG = 1000

/** The head of a list, whose link to itself says that it is empty, was not converted. */
export const lockList: Quirk = {
  id: 'Q16',
  name: 'edk2-lock-list',
  title: 'SetVariable walks a list whose links still hold physical addresses',
  sources: ['edk2 328e5d8c19 (mLockedVariableList)', 'edk2 bug 3092 (VariablePolicy)'],
  hooks: {
    powerOn: (setup) => {
      const head = setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 1, name: SLOT })
      setup.write64(head, BigInt(head))
      setup.pointer('VariableRuntimeDxe', SLOT, head)
    },
    beforeService: (call) => {
      if (call.service !== 'SetVariable') return undefined
      const head = call.pointer(SLOT)
      let link = call.read64(head)
      for (let entries = 0; link !== head; entries++) {
        if (entries === TOO_LONG) return call.deadLoop('the list does not come back to its head')
        link = call.read64(link)
      }
      return undefined
    },
  },
}
