import { SyncHook } from 'tapable'
import type { RuntimeCall } from './efi/runtime-call.ts'
import type { Kernel } from './kernel.ts'

/** Where a kernel is in its boot, in order. */
export const BOOT_PHASES = [
  'head_64',
  'setup_arch',
  'efi_init',
  'init_memory_mapping',
  'mm_init',
  'efi',
  'running',
] as const
/** One of {@link BOOT_PHASES}: the function of the kernel that has been entered. */
export type BootPhase = (typeof BOOT_PHASES)[number]

/** What a kernel tells whoever watches it. One object may serve any number of kernels, one after the other. */
export interface KernelHooks {
  /**
   * Kind: sync, sequential. When: a boot phase begins. Arguments: the kernel, whose `phase` is the new one. Return: nothing.
   */
  readonly phase: SyncHook<[Kernel]>
  /** Kind: sync, sequential. When: the strategy has switched to what the firmware is called under, just before its first instruction. Return: nothing. */
  readonly callEntered: SyncHook<[RuntimeCall]>
  /** Kind: sync, sequential. When: the firmware has returned, and nothing is switched back yet. Return: nothing. */
  readonly callReturned: SyncHook<[RuntimeCall]>
  /** Kind: sync, sequential. When: the strategy has switched back. Return: nothing. */
  readonly callLeft: SyncHook<[RuntimeCall]>
  /** Kind: sync, sequential. When: an interrupt was taken inside a call although the kernel had switched interrupts off. Return: nothing. */
  readonly interruptedInside: SyncHook<[RuntimeCall]>
  /** Kind: sync, sequential. When: kernel code read address 0 inside a call. Arguments: the call; whether a page fault caught it. Return: nothing. */
  readonly nullRead: SyncHook<[RuntimeCall, boolean]>
  /** Kind: sync, sequential. When: firmware raised a system-management interrupt that nobody handles, and the call was answered with an error. Arguments: the call; the byte that was written to the command port. Return: nothing. */
  readonly managementInterrupt: SyncHook<[RuntimeCall, number]>
  /** Kind: sync, sequential. When: the kernel boots on without EFI runtime services, as it decided. Arguments: the kernel; why. Return: nothing. */
  readonly refused: SyncHook<[Kernel, string]>
}

/** Fresh hooks, frozen. */
export function createKernelHooks(): KernelHooks {
  return Object.freeze({
    phase: new SyncHook<[Kernel]>(['kernel']),
    callEntered: new SyncHook<[RuntimeCall]>(['call']),
    callReturned: new SyncHook<[RuntimeCall]>(['call']),
    callLeft: new SyncHook<[RuntimeCall]>(['call']),
    interruptedInside: new SyncHook<[RuntimeCall]>(['call']),
    nullRead: new SyncHook<[RuntimeCall, boolean]>(['call', 'caught']),
    managementInterrupt: new SyncHook<[RuntimeCall, number]>(['call', 'command']),
    refused: new SyncHook<[Kernel, string]>(['kernel', 'reason']),
  })
}
