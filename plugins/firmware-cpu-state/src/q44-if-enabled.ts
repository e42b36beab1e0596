import type { Quirk } from '@trapdoor/firmware'

/** A service ends with STI rather than with the flags that it was called with. */
export const ifEnabled: Quirk = {
  id: 'Q44',
  name: 'if-enabled',
  title: 'Runtime services return with interrupts enabled',
  sources: ['edk2 bce776a5b6', 'arch/x86: efi_call_virt_check_flags'],
  hooks: {
    afterService: (status, call) => {
      call.cpu.interruptFlag = true
      return status
    },
  },
}
