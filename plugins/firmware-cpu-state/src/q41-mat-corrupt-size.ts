import type { Quirk } from '@trapdoor/firmware'

const SLOT = 'Q41 memory attributes table'
/** Offset of NumberOfEntries (UEFI 2.10, 4.6.4). */
const NUMBER_OF_ENTRIES = 4n
/** Of 48 bytes each they are just below 4 GiB. */
const TOO_MANY = 0x0555_0000

/** A driver writes past the end of its own on the way out, into the header of the memory attributes table. */
export const matCorruptSize: Quirk = {
  id: 'Q41',
  name: 'mat-corrupt-size',
  title: 'The memory attributes table claims to have 4 GiB of entries',
  sources: [
    'Linux 8fbe4c49c0cc: "Ignore table if the size is clearly bogus" (SUSE bug 1231465)',
    'linux-efi, January 2025: corrupted tables after kexec',
  ],
  hooks: {
    powerOn: (setup) => {
      setup.pointer('DxeCore', SLOT, setup.memoryAttributesTable ?? 0, { convert: false })
    },
    exitBootServices: (call) => {
      const table = call.pointer(SLOT)
      if (table !== 0n) call.write32(table + NUMBER_OF_ENTRIES, TOO_MANY)
    },
  },
}
