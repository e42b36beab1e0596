import type { Quirk } from '@trapdoor/firmware'

/** Number of the pointer OutputString in EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL. */
const OUTPUT_STRING = 1

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
      const { tables, naturalBytes } = call.architecture
      const console = call.readNatural(call.pointer('gST') + BigInt(tables.systemTable.ConOut))
      const outputString = call.readNatural(console + BigInt(OUTPUT_STRING * naturalBytes))
      if (outputString !== 0n) call.call(outputString, console)
      return undefined
    },
  },
}
