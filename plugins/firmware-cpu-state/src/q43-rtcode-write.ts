import type { Quirk } from '@trapdoor/firmware'
import { EfiStatus, MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q43 image in one section'
/** A global variable in the page of the code. */
const COUNTER = 0x800n

/** An image whose code and globals share a section, and a table that calls the section code. */
export const rtcodeWrite: Quirk = {
  id: 'Q43',
  name: 'rtcode-write',
  title: 'Variable services write to a global in the page of their code',
  sources: [
    'UEFI 2.10, 4.6.4: what is both writable and executable must have neither RO nor XP',
    'Linux drivers/firmware/efi/memattr.c: efi_memattr_apply_permissions()',
  ],
  hooks: {
    powerOn: (setup) => {
      const address = setup.allocate({ type: MemoryType.RuntimeServicesCode, pages: 1, name: SLOT })
      setup.code({
        address,
        image: 'OneSectionDxe',
        name: 'Count',
        service: 'SetVariable',
        run: (call) => {
          const counter = call.imageBase + COUNTER
          call.write64(counter, call.read64(counter) + 1n)
          return EfiStatus.SUCCESS
        },
      })
      setup.pointer('VariableRuntimeDxe', SLOT, address)
    },
    beforeService: (call) => {
      if (call.service === 'SetVariable') call.call(call.pointer(SLOT))
      return undefined
    },
  },
}
