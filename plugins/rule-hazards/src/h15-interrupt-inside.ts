import { Cr0, formatAddress, TripleFault } from '@trapdoor/core'
import type { Rule } from '@trapdoor/harness'

/** Firmware that switches interrupts on makes kernel handlers run on its page tables. */
export const h15InterruptInside: Rule = {
  id: 'H15',
  title: 'An interrupt was taken on the firmware’s page tables',
  severity: 'warning',
  advice: 'compare RFLAGS.IF after the call and complain, as efi_call_virt_check_flags() does',
  sources: ['Linux 4.7 drivers/firmware/efi/runtime-wrappers.c: efi_call_virt_check_flags()'],
  rewindable: true,
  watch: ({ hooks, report, diagnose }) => {
    hooks.interruptedInside.tap('H15', (call) => {
      report(call.kernel, {
        message: `${call.service} returned with interrupts on, and one was taken before the kernel had switched back`,
        explanation:
          'The kernel had switched interrupts off for the call and the firmware switched them on. The handler ran on the firmware’s page tables, inside a critical section of the kernel. It found its memory this time.',
        call,
      })
    })
    diagnose(({ error, call, cpu }) => {
      if (!(error instanceof TripleFault) || call === undefined) return undefined
      const isPaged = (cpu.cr0 & Cr0.PG) !== 0
      const where = isPaged ? 'the tables of the call do not map it' : 'paging is off'
      return {
        message: `an interrupt inside ${call.service} finds no handler, and the machine resets: ${where}`,
        explanation: `Vector ${error.vector} came while firmware was called. The processor looks for the interrupt descriptor table at ${formatAddress(cpu.idtr.base)}, where the kernel has it in its own address space${isPaged ? '' : '; without paging that is a physical address, at which something else lies'}. No gate is found, none for the fault that this is, and none for the double fault.`,
      }
    })
  },
}
