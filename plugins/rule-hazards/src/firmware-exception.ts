import { CpuException, PageFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** An exception inside a call that is no page fault, and that no narrower rule explains. */
export const firmwareException: Rule = {
  id: 'EXC',
  title: 'Firmware raises an exception for which no page table is to blame',
  severity: 'error',
  advice:
    'look at the bytes at the instruction: where they are the firmware’s own code, the fault is its own under every strategy; where they are not, somebody has written over it, or the call went to an address that an earlier boot handed on (kexec, hibernation)',
  sources: [
    'Intel SDM Vol. 3, 6.15 "Exception and Interrupt Reference"',
    'UEFI 2.10, 2.3.4: what state a runtime service may expect',
  ],
  rewindable: true,
  watch: ({ diagnose }) => {
    diagnose(({ error, call, image }) => {
      if (!(error instanceof CpuException) || error instanceof PageFault || call === undefined) {
        return undefined
      }
      return {
        message: `${image ?? 'the kernel'} raises ${error.mnemonic} inside ${call.service}: ${error.message}`,
        explanation:
          'This is no page fault: all that the call needs is mapped. What lies at the address is not what was to be executed or used.',
      }
    })
  },
}
