export { type MemoryAttributesPlace } from './tables/memory-attributes.ts'
export {
  FirmwareDeadLoop,
  FirmwareError,
  type FirmwareErrorCode,
  type FirmwareErrorDetail,
} from './error.ts'
export {
  createFirmware,
  Firmware,
  type FirmwareOptions,
  type ModelledFirmwareOptions,
  type PoweredMachine,
  type RealFirmwareOptions,
} from './firmware.ts'
export { type ImagePlacement } from './layout/image.ts'
export { type AddressChange, type VirtualAddressMapArgument } from './quirk/address-change.ts'
export { FirmwareCall, type FirmwareService } from './quirk/firmware-call.ts'
export { type FirmwareSetup, type LoadedDriver } from './quirk/firmware-setup.ts'
export { type FirmwareHooks, QUIRK_HOOK_NAMES, type QuirkHookName } from './quirk/hooks.ts'
export { type Quirk, type QuirkTaps } from './quirk/quirk.ts'
export { loadMachine, type RealMachineOptions } from './real/load-machine.ts'
