import { EfiStatus } from '@trapdoor/uefi'
import type { RuntimeImage } from '../layout/image.ts'
import type { FirmwareHooks } from '../quirk/hooks.ts'

/** Name of the function that {@link addAddressChangeEvent} adds. */
export const ADDRESS_CHANGE_EVENT = 'VirtualAddressChangeEvent'
/** EFI_OPTIONAL_PTR: ConvertPointer lets a null pointer through. */
const OPTIONAL_PTR = 1n

/**
 * Gives a driver the event that edk2's UefiRuntimeLib and the drivers themselves register for EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE: it calls
 * ConvertPointer for each pointer slot that is not left to PE relocation; with `fixups` for those, too, as for an image that RuntimeDxe does not know of.
 */
export function addAddressChangeEvent(
  image: RuntimeImage,
  hooks: FirmwareHooks,
  { fixups = false }: { readonly fixups?: boolean } = {},
): void {
  image.code(ADDRESS_CHANGE_EVENT, 'SetVirtualAddressMap', (call) => {
    // Read once: the driver's own gRT pointer is among those that are converted.
    const table = call.pointer('gRT')
    const { runtimeServicesTable } = call.architecture.tables
    const convertPointer = call.readNatural(table + BigInt(runtimeServicesTable.ConvertPointer))
    const change = {
      convert: (address: bigint): bigint => call.call(convertPointer, OPTIONAL_PTR, address),
    }
    const slots = [...image.slotsOf('event'), ...(fixups ? image.slotsOf('fixup') : [])]
    for (const [, offset] of slots) {
      change.convert(call.imageBase + BigInt(offset))
    }
    hooks.virtualAddressChange.call(call, change)
    return EfiStatus.SUCCESS
  })
}
