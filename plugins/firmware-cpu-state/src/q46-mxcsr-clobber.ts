import type { Quirk } from '@trapdoor/firmware'

/** MXCSR with rounding towards zero. */
const TRUNCATE = 0x7f80

/** A service computes with SSE, rounds as it needs to, and leaves it at that. */
export const mxcsrClobber: Quirk = {
  id: 'Q46',
  name: 'mxcsr-clobber',
  title: 'Runtime services return with SSE rounding towards zero',
  sources: [
    'Linux 3.16 arch/x86/include/asm/efi.h: efi_call_virt() between kernel_fpu_begin() and kernel_fpu_end()',
    'UEFI 2.10, 2.3.4.2: MXCSR is preserved across calls',
  ],
  hooks: {
    afterService: (status, call) => {
      call.cpu.mxcsr = TRUNCATE
      return status
    },
  },
}
