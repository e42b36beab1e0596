import type { Quirk } from '@trapdoor/firmware'
import { allocateLate } from './late-allocation.ts'

const SLOT = 'Q28 devices that still run'

/** A driver stops its device when it hears of ExitBootServices, and takes memory to do so. */
export const mapChangesDuringEbs: Quirk = {
  id: 'Q28',
  name: 'map-changes-during-ebs',
  title: 'The first ExitBootServices changes the memory map before it looks at the key',
  sources: [
    'Linux drivers/firmware/efi/libstub/efi-stub-helper.c: efi_exit_boot_services()',
    'Matthew Garrett, linux-efi: drivers that allocate in their ExitBootServices event',
  ],
  hooks: {
    powerOn: (setup) => setup.pointer('DxeCore', SLOT, 1n, { convert: false }),
    beforeExitBootServices: (call) => {
      const running = call.pointer(SLOT)
      if (running === 0n) return
      call.writeNatural(call.slot(SLOT), running - 1n)
      allocateLate(call)
    },
  },
}
