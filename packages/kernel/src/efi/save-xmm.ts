import type { RuntimeCall } from './runtime-call.ts'

/** XMM0 to XMM5, of four 32-bit words each: those that a callee of the Microsoft ABI need not keep. */
const VOLATILE_WORDS = 6 * 4

/**
 * RESTORE_XMM of efi_stub_64.S, up to Linux 5.5: efi_call() keeps a process's XMM0 to XMM5 on the stack. What else of the floating-point state firmware changes is the process's loss; since 3.16
 * kernel_fpu_begin() keeps all of it besides.
 */
export function restoreXmm({ before, cpu }: RuntimeCall): void {
  cpu.floatingPoint.xmm.set(before.floatingPoint.xmm.subarray(0, VOLATILE_WORDS))
}
