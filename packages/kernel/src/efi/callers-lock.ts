import type { RuntimeServiceName } from '@trapdoor/uefi'

const CLOCK_SERVICES: ReadonlySet<RuntimeServiceName> = new Set([
  'GetTime',
  'SetTime',
  'GetWakeupTime',
  'SetWakeupTime',
])
const VARIABLE_SERVICES: ReadonlySet<RuntimeServiceName> = new Set([
  'GetVariable',
  'GetNextVariableName',
  'SetVariable',
  'QueryVariableInfo',
])

/**
 * What callers hold where the kernel has no lock for all calls, up to Linux 3.17: `variables` in drivers/firmware/efivars.c, which is efivars_lock in 2.6.35 and __efivars->lock later, and rtc_lock for
 * the clock, in arch/x86/kernel/rtc.c of 2.6.35 (read_persistent_clock()) and in virt_efi_get_time() itself of 3.4. ResetSystem and the monotonic count have none.
 */
export function callersLock(
  service: RuntimeServiceName,
  variables: 'efivars_lock' | '__efivars->lock' = '__efivars->lock',
): string | undefined {
  if (CLOCK_SERVICES.has(service)) return 'rtc_lock'
  return VARIABLE_SERVICES.has(service) ? variables : undefined
}
