export {
  type Architecture,
  ARCHITECTURES,
  argumentCount,
  argumentSlot,
  argumentWords,
  decodeStatus,
  encodeStatus,
  getNatural,
  IA32,
  naturalBits,
  pointerArguments,
  setNatural,
  X64,
} from './architecture.ts'
export {
  CONFIG_TABLE_ENTRY_SIZE,
  type ConfigTableEntry,
  decodeConfigTable,
  encodeConfigTable,
} from './config-table.ts'
export { crc32 } from './crc32.ts'
export { mergeE820 } from './e820.ts'
export { UefiError, type UefiErrorCode } from './error.ts'
export { formatGuid, Guid, parseGuid } from './guid.ts'
export { formatMemoryAttribute, MemoryAttribute } from './memory-attribute.ts'
export {
  decodeMemoryAttributesTable,
  encodeMemoryAttributesTable,
  type MemoryAttributesTable,
} from './memory-attributes-table.ts'
export {
  decodeMemoryMap,
  descriptorEnd,
  EDK2_DESCRIPTOR_STRIDE,
  encodeMemoryMap,
  isRuntime,
  MEMORY_DESCRIPTOR_SIZE,
  MEMORY_DESCRIPTOR_VERSION,
  type MemoryDescriptor,
} from './memory-descriptor.ts'
export { MemoryType, memoryTypeName } from './memory-type.ts'
export { debugFileName, decodePeHeaders, type PeHeaders, type PeSection } from './pe-headers.ts'
export {
  encodePeApplication,
  PE_MACHINES,
  PE_SECTION_ALIGNMENT,
  type PeApplication,
  type PeApplicationSection,
} from './pe-encode.ts'
export { ResetType } from './reset.ts'
export { EfiStatus, efiStatusName, isEfiError } from './status.ts'
export {
  BOOT_SERVICES_TABLE_SIGNATURE,
  BOOT_SERVICES_TABLE_SIZE,
  type BootServiceName,
  BootServicesTable,
  checkTable,
  encodeTableHeader,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIGNATURE,
  RUNTIME_SERVICES_TABLE_SIZE,
  type RuntimeServiceName,
  RuntimeServicesTable,
  sealTable,
  SYSTEM_TABLE_SIGNATURE,
  SYSTEM_TABLE_SIZE,
  SystemTable,
  TABLE_HEADER_SIZE,
  type TableLayout,
  TableHeader,
} from './table.ts'
export {
  decodeTime,
  EFI_TIME_SIZE,
  type EfiTime,
  encodeTime,
  UNSPECIFIED_TIMEZONE,
} from './time.ts'
export { decodeUcs2, encodeUcs2 } from './ucs2.ts'
export { VariableAttribute } from './variable.ts'
