import type { Quirk } from '@trapdoor/firmware'
import { MemoryType } from '@trapdoor/uefi'

const SLOT = 'Q69 state of a boot-time driver'

/** On its way to the reset, the firmware tells a driver that is gone. */
export const resetBroken: Quirk = {
  id: 'Q69',
  name: 'reset-broken',
  title: 'ResetSystem writes to memory of boot services before it resets',
  sources: [
    'QubesOS/qubes-issues#6258: page fault in ResetSystem (NovaCustom, MSI)',
    'Xen: reboot by ACPI on Dell OptiPlex 9020, PowerEdge R740',
    'Linux 5.0 efi_recover_from_page_fault(): "efi_reset_system() buggy! Reboot through BIOS"',
  ],
  hooks: {
    powerOn: (setup) => {
      const state = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: SLOT })
      setup.pointer('ResetSystemRuntimeDxe', SLOT, state, { convert: false })
    },
    beforeService: (call) => {
      if (call.service === 'ResetSystem') call.write32(call.pointer(SLOT) + 4n, 1)
      return undefined
    },
  },
}
