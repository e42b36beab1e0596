export { GuestError, type GuestErrorCode, type GuestErrorDetail } from './error.ts'
export { MULTIBOOT_MAGIC } from './multiboot/header.ts'
export { type LoadSegment, type MultibootImage, readMultibootImage } from './multiboot/image.ts'
export {
  type BootInformation,
  encodeBootInformation,
  type LoadedModule,
  type MemoryRange,
  MULTIBOOT_BOOTLOADER_MAGIC,
} from './multiboot/information.ts'
export { DEBUG_EXIT_PORT } from './devices/debug-exit.ts'
export {
  DEFAULT_MEMORY_BYTES,
  type GuestMachine,
  type GuestModule,
  type GuestOptions,
  loadGuest,
} from './machine.ts'
export { type GuestOutcome, runGuest } from './run.ts'
