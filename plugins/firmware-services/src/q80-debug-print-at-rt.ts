import type { Quirk } from '@trapdoor/firmware'
import { SystemTable } from '@trapdoor/uefi'

/** Offset of OutputString in EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL. */
const OUTPUT_STRING = 8n

/** A debug build prints to the console, which the system table has no pointer to any more. */
export const debugPrintAtRt: Quirk = {
  id: 'Q80',
  name: 'debug-print-at-rt',
  title: 'Variable services look for the console through a null pointer',
  sources: [
    'edk2 MdePkg/Library/UefiDebugLibConOut at run time',
    'UEFI 2.10, 7.4.6: ExitBootServices() clears the console pointers of the system table',
  ],
  hooks: {
    beforeService: (call) => {
      if (call.image !== 'VariableRuntimeDxe') return undefined
      const console = call.read64(call.pointer('gST') + BigInt(SystemTable.ConOut))
      const outputString = call.read64(console + OUTPUT_STRING)
      if (outputString !== 0n) call.call(outputString, console)
      return undefined
    },
  },
}
