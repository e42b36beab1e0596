export { SnapshotError, type SnapshotErrorCode } from './error.ts'
export { readObservedSnapshot, snapshotArchitecture } from './observed/read-snapshot.ts'
export {
  type DeviceAccess,
  type PageTouches,
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
  SNAPSHOT_FORMAT_VERSION,
  type SnapshotContents,
  type TablePage,
  type UsedFile,
} from './written/contents.ts'
export { writeSnapshot } from './written/write-snapshot.ts'
