import type { Kernel } from '../kernel.ts'

/** What happens to a kernel while it boots. */
export interface Injections {
  /** The allocation that fails, of those that setting up the runtime services makes: 1 for the first. */
  readonly failedAllocation?: number
  /** Runs when memory is up and the runtime services are not: where kernels that have not called SetVirtualAddressMap yet call firmware. */
  readonly beforeRuntimeServices?: (kernel: Kernel) => void
}
