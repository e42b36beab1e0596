import type { RuntimeServiceName } from '@trapdoor/uefi'

/** EFI_2_00_SYSTEM_TABLE_REVISION: major << 16 | minor. */
const EFI_2_00 = 0x2_0000

const ADDED_IN_2_00: ReadonlySet<RuntimeServiceName> = new Set([
  'QueryVariableInfo',
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
])

/**
 * Whether firmware that says it keeps to this revision of EFI (major << 16 | minor) has a service at all: the check in virt_efi_query_variable_info() and its like (Linux 3.2
 * and later, drivers/firmware/efi/runtime-wrappers.c), without which a kernel calls whatever is behind the end of the table.
 */
export function isServiceOfRevision(revision: number, service: RuntimeServiceName): boolean {
  return revision >= EFI_2_00 || !ADDED_IN_2_00.has(service)
}

/**
 * Whether 2.6.35 calls a service (struct efi, include/linux/efi.h): those of UEFI 2.0 got their wrappers later, and are in 3.4.
 */
export function isServiceOf2635(service: RuntimeServiceName): boolean {
  return !ADDED_IN_2_00.has(service)
}
