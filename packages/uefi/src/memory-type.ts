/** EFI_MEMORY_TYPE (UEFI 2.10, 7.2.1). An open enumeration: firmware and loaders use values beyond these. */
export const MemoryType = {
  ReservedMemoryType: 0,
  LoaderCode: 1,
  LoaderData: 2,
  BootServicesCode: 3,
  BootServicesData: 4,
  RuntimeServicesCode: 5,
  RuntimeServicesData: 6,
  ConventionalMemory: 7,
  UnusableMemory: 8,
  ACPIReclaimMemory: 9,
  ACPIMemoryNVS: 10,
  MemoryMappedIO: 11,
  MemoryMappedIOPortSpace: 12,
  PalCode: 13,
  PersistentMemory: 14,
  UnacceptedMemoryType: 15,
} as const

const NAMES: readonly string[] = Object.keys(MemoryType)

/** The name of a memory type, such as "RuntimeServicesCode"; "type 0x70000001" for one without a name. */
export function memoryTypeName(type: number): string {
  return NAMES[type] ?? `type 0x${type.toString(16)}`
}
