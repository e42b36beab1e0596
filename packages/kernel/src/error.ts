/** Every code that {@link KernelError} can carry. */
export type KernelErrorCode =
  | 'KERNEL_BAD_COMMAND_LINE'
  | 'KERNEL_NO_STRATEGY'
  | 'KERNEL_NO_ROOM'
  | 'KERNEL_BAD_HAND_OFF'
  | 'KERNEL_WRONG_PHASE'
  | 'KERNEL_WOULD_WAIT'

/** The kernel was used in a way that it cannot be: what a running kernel does wrong is a {@link KernelPanic}. */
export class KernelError extends Error {
  override readonly name = 'KernelError'
  readonly code: KernelErrorCode
  readonly expected: string
  readonly found: string
  readonly hint: string | undefined

  constructor(code: KernelErrorCode, detail: { expected: string; found: string; hint?: string }) {
    super(`expected ${detail.expected}, found ${detail.found}`)
    this.code = code
    this.expected = detail.expected
    this.found = detail.found
    this.hint = detail.hint
  }
}

/** The kernel stopped itself, as panic() and BUG() do. The message is what it printed last. */
export class KernelPanic extends Error {
  override readonly name: string = 'KernelPanic'
}

/** No page is left for what the kernel needs one for. Kernel code that has no answer to that dies of it. */
export class OutOfMemory extends KernelPanic {
  constructor(count: number, use: string) {
    super(`Out of memory: no ${count} contiguous page(s) for ${use}`)
  }
}

/** The kernel goes on for ever without getting anywhere, as the soft-lockup watchdog would tell. The message is what it printed last. */
export class KernelHang extends Error {
  override readonly name = 'KernelHang'
}
