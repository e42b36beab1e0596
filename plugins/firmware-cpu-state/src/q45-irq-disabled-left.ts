import type { Quirk } from '@trapdoor/firmware'

/** A service protects itself with CLI, and forgets that somebody will want interrupts again. */
export const irqDisabledLeft: Quirk = {
  id: 'Q45',
  name: 'irq-disabled-left',
  title: 'Runtime services return with interrupts disabled',
  sources: ['Linux 4.7 drivers/firmware/efi/runtime-wrappers.c: efi_call_virt_check_flags()'],
  hooks: {
    afterService: (status, call) => {
      call.cpu.interruptFlag = false
      return status
    },
  },
}
