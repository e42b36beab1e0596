export { cachedSnapshot, snapshotCache } from './cache.ts'
export { captureFirmware } from './capture.ts'
export { CaptureError, type CaptureErrorCode } from './error.ts'
export type { Firmware, ImageFile } from './firmware/firmware.ts'
export {
  type CallPlan,
  type CaptureOptions,
  type CapturePlan,
  planCapture,
  planKey,
} from './plan.ts'
export type { MachineChoice, MachineNeeds } from './qemu/command.ts'
export { type Patience, qemuVersion } from './qemu/machine.ts'
export { parseAccesses } from './vectors/device-log.ts'
export type { HandOverApplication, ServiceCaller } from './application/hand-over.ts'
