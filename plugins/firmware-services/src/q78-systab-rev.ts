import type { Quirk } from '@trapdoor/firmware'

/** EFI 1.10. */
const REVISION = 0x1_000a

/** Firmware of 2002: its runtime table ends behind ResetSystem. */
export const systabRev: Quirk = {
  id: 'Q78',
  name: 'systab-rev',
  title: 'Firmware of EFI 1.10 has no QueryVariableInfo and no capsules',
  sources: [
    'EFI 1.10, 4.5 EFI_RUNTIME_SERVICES',
    'Linux drivers/firmware/efi/runtime-wrappers.c: virt_efi_query_variable_info()',
  ],
  hooks: { powerOn: (setup) => setup.identify({ revision: REVISION }) },
}
