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
export { readMemoryMaps, type ReadMaps } from './read-memory-maps.ts'
export type { Source } from './source-text.ts'
