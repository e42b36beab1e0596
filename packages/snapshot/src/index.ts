export { SnapshotError, type SnapshotErrorCode } from './error.ts'
export { readObservedSnapshot, snapshotArchitecture } from './observed/read-snapshot.ts'
export {
  type InstructionCounts,
  type PageTouches,
  parseCounts,
  parsePageTouches,
} from './observed/counted-lines.ts'
export {
  COMPARED_SCRATCH,
  type DeviceAccess,
  readRecordedCalls,
  type RecordedCall,
  type RecordedCalls,
  type WordChange,
} from './observed/recorded-calls.ts'
export {
  type CpuState,
  type FirmwareImage,
  type FirmwareSnapshot,
  type FlashImage,
  GENERAL_REGISTERS,
  type GeneralRegister,
  type PageRun,
  SEGMENT_REGISTERS,
  type SegmentName,
} from './snapshot.ts'
export {
  type Provenance,
  type Recording,
  SNAPSHOT_FORMAT_VERSION,
  type SnapshotContents,
  type TablePage,
  type UsedFile,
  type WrittenCall,
} from './written/contents.ts'
export { checkSnapshotFolder, writeSnapshot } from './written/write-snapshot.ts'
