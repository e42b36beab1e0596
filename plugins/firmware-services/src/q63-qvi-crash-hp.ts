import type { Quirk } from '@trapdoor/firmware'

const SLOT = 'Q63 protocol'
/** Offset of a function in a protocol of boot services. */
const FUNCTION = 0x230n

/** QueryVariableInfo calls a protocol that was there until ExitBootServices: a null pointer and an offset. */
export const qviCrashHp: Quirk = {
  id: 'Q63',
  name: 'qvi-crash-hp',
  title: 'QueryVariableInfo jumps to address 0x230',
  sources: ['HP ProBook x360 11 G1: kernel.org bugzilla 217898', 'rhboot/efibootmgr#92'],
  hooks: {
    powerOn: (setup) => {
      setup.pointer('VariableRuntimeDxe', SLOT, 0, { convert: false })
    },
    beforeService: (call) => {
      if (call.service === 'QueryVariableInfo') call.call(call.pointer(SLOT) + FUNCTION)
      return undefined
    },
  },
}
