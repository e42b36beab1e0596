import type { Rule } from '@trapdoor/harness'

/** Firmware that switches interrupts on makes kernel handlers run on its page tables. */
export const h15InterruptInside: Rule = {
  id: 'H15',
  title: 'An interrupt was taken on the firmware’s page tables',
  severity: 'warning',
  advice: 'compare RFLAGS.IF after the call and complain, as efi_call_virt_check_flags() does',
  sources: ['Linux 4.7 drivers/firmware/efi/runtime-wrappers.c: efi_call_virt_check_flags()'],
  rewindable: true,
  watch: ({ hooks, report }) => {
    hooks.interruptedInside.tap('H15', (call) => {
      report(call.kernel, {
        message: `${call.service} returned with interrupts on, and one was taken before the kernel had switched back`,
        explanation:
          'The kernel had switched interrupts off for the call and the firmware switched them on. The handler ran on the firmware’s page tables, inside a critical section of the kernel. It found its memory this time.',
        call,
      })
    })
  },
}
