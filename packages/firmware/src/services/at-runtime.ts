import { EfiStatus } from '@trapdoor/uefi'
import type { RuntimeImage } from '../layout/image.ts'
import { DATA_OFFSET } from '../layout/image-layout.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** Name of the function that {@link addExitBootServicesEvent} adds. */
export const EXIT_BOOT_SERVICES_EVENT = 'ExitBootServicesEvent'
/** Slot with the absolute address of an image's own data words: a PE fixup. */
export const GLOBALS_SLOT = 'globals'

/** Gives an image the event that sets its first data word at ExitBootServices, as edk2's UefiRuntimeLib sets mEfiAtRuntime. */
export function addExitBootServicesEvent(image: RuntimeImage): void {
  image.pointer(GLOBALS_SLOT, image.base + DATA_OFFSET, 'fixup')
  image.code(EXIT_BOOT_SERVICES_EVENT, 'ExitBootServices', (call) => {
    call.write64(call.pointer(GLOBALS_SLOT), 1n)
    return EfiStatus.SUCCESS
  })
}

/** EfiAtRuntime(). */
export function afterExitBootServices(call: FirmwareCall): boolean {
  return call.read64(call.pointer(GLOBALS_SLOT)) !== 0n
}
