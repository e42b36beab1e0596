import type { Architecture, RuntimeServiceName } from '@trapdoor/uefi'
import type { Kernel } from '../kernel.ts'
import { PagingOff, SwapperAlias } from './early/paging-off.ts'
import { PgdSwap } from './early/pgd-swap.ts'
import { physicalFunction } from './efi-init.ts'
import { type CallPath, RuntimeCall } from './runtime-call.ts'

/** efi_call_phys_prelog() and _epilog() of 2.6.35, by what the kernel is built for. */
const EARLY_PATHS: Readonly<Record<Architecture['name'], (kernel: Kernel) => CallPath>> = {
  x64: (kernel) => new PgdSwap(kernel),
  ia32: (kernel) => new PagingOff(kernel, new SwapperAlias(kernel)),
}

/** A call in the early physical mode, before any process runs, that is not made yet: the function is called where it was at boot. */
export function physicalCall(
  kernel: Kernel,
  service: RuntimeServiceName,
  args: readonly bigint[],
): RuntimeCall {
  return new RuntimeCall(kernel, kernel.bootCpu, service, args, {
    path:
      kernel.strategy?.instance.earlyPath?.(kernel) ??
      EARLY_PATHS[kernel.architecture.name](kernel),
    functionAddress: ({ cpu }) => physicalFunction(kernel.requireEfi, cpu, service),
  })
}

/** As {@link physicalCall}, made: returns the call, which is over. */
export function callPhysical(
  kernel: Kernel,
  service: RuntimeServiceName,
  args: readonly bigint[],
): RuntimeCall {
  const call = physicalCall(kernel, service, args)
  call.run()
  return call
}
