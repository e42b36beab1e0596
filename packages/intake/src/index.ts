export { selectFirmwareMap, toMemoryDescriptors } from './descriptors.ts'
export { IntakeError, type IntakeErrorCode } from './error.ts'
export { type JsonNumber, type MapInspection, toInspection } from './inspection.ts'
export type {
  IntakeWarning,
  MapEntry,
  MapFormat,
  MapKind,
  MemoryMapText,
} from './memory-map-text.ts'
export { type E820TypeName, type ObservedE820Entry } from './observed/e820.ts'
export { type ObservedIomem, type ObservedRange } from './observed/iomem.ts'
export { type ObservedLoader } from './observed/kexec-loader.ts'
export {
  type BootMilestone,
  type KernelEnding,
  type KernelLog,
  readKernelLogs,
} from './observed/kernel-log.ts'
export {
  isObservedBoot,
  linesOf,
  type ObservedBoot,
  type ObservedFirmware,
  type ObservedKernel,
  readObservedBoot,
} from './observed/observed-boot.ts'
export { type ObservedLeaf } from './observed/page-tables.ts'
export { readMemoryMaps, type ReadMaps } from './read-memory-maps.ts'
export type { Source } from './source-text.ts'
