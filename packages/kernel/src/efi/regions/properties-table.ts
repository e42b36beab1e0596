import { Guid, MemoryAttribute, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import type { Kernel } from '../../kernel.ts'

/** EFI_PROPERTIES_TABLE (UEFI 2.5, 4.6): version, length, and 64 bits of attributes behind them. */
const BYTES = 16
const ATTRIBUTES = 8
/** EFI_PROPERTIES_RUNTIME_MEMORY_PROTECTION_NON_EXECUTABLE_PE_DATA. */
const NON_EXECUTABLE_PE_DATA = 1n

/**
 * EFI_NX_PE_DATA: whether the properties table says that code and data of images are regions of their own, so that neither has to be both writable and executable
 * (efi_config_parse_tables(), drivers/firmware/efi/efi.c, EFI_NX_PE_DATA is set from Linux 4.4 on and looked at from 4.6 to 6.12).
 */
export function marksPeData({ bootCpu: cpu, requireEfi: efi, tables }: Kernel): boolean {
  const table = efi.configurationTable.find(({ guid }) => guid === Guid.PROPERTIES_TABLE)?.table
  if (table === undefined) return false
  const attributes = tables.withEarlyIoremap(cpu, table, BYTES, (at) =>
    cpu.read64(at + BigInt(ATTRIBUTES)),
  )
  return (attributes & NON_EXECUTABLE_PE_DATA) !== 0n
}

/** What efi_runtime_update_mappings() (arch/x86/platform/efi/efi_64.c) leaves a runtime region of firmware of which {@link marksPeData} is true. */
export function rightsOfSplitRegion({ attribute, type }: MemoryDescriptor): {
  writable: boolean
  executable: boolean
} {
  const isProtected = (attribute & MemoryAttribute.XP) !== 0n
  const isReadOnly = (attribute & MemoryAttribute.RO) !== 0n
  return {
    writable: !isReadOnly && type !== MemoryType.RuntimeServicesCode,
    executable: !isProtected && type !== MemoryType.RuntimeServicesData,
  }
}
