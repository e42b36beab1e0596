import type { Machine } from '@trapdoor/core'
import { RUNTIME_SERVICES, type RuntimeServiceName } from '@trapdoor/uefi'
import type { FirmwareCall } from '../quirk/firmware-call.ts'
import { type FirmwareHooks, isTapped } from '../quirk/hooks.ts'
import { virtualMapArgument } from '../services/virtual-map.ts'
import { hookFunction } from './hooked-function.ts'
import type { RealImage } from './real-image.ts'
import type { RuntimeEvent } from './runtime-lists.ts'

/** EFI_OPTIONAL_PTR: ConvertPointer lets a null pointer through. */
const OPTIONAL_PTR = 1n
/** EFI_EVENT_NOTIFY takes the event and its context. */
const NOTIFY_ARGUMENTS = 2

/** Puts the hooks that quirks have tapped around the services of a real firmware, and around the events by which its drivers convert their pointers; services of others are left alone. */
export function hookServices(
  machine: Machine,
  hooks: FirmwareHooks,
  firmware: {
    readonly images: readonly RealImage[]
    readonly services: ReadonlyMap<RuntimeServiceName, number>
    readonly events: readonly RuntimeEvent[]
  },
): void {
  const { images, services, events } = firmware
  const isAroundAll = isTapped(hooks.beforeService) || isTapped(hooks.afterService)
  for (const service of RUNTIME_SERVICES) {
    const address = services.get(service) ?? 0
    const image = images.find((each) => each.holds(address))
    const isAroundThis = service === 'SetVirtualAddressMap' && isTapped(hooks.setVirtualAddressMap)
    if (image === undefined || !(isAroundAll || isAroundThis)) continue
    hookFunction(machine, image, {
      address,
      name: service,
      service,
      around: (call, original) => {
        const status =
          hooks.beforeService.call(call) ??
          (isAroundThis
            ? hooks.setVirtualAddressMap.call(call, virtualMapArgument(call))
            : undefined) ??
          original()
        return hooks.afterService.call(status, call)
      },
    })
  }
  const converting = images.filter((image) => image.slotsOf('event').length > 0)
  if (converting.length === 0 && !isTapped(hooks.virtualAddressChange)) return
  for (const [index, { notify, image }] of events.entries()) {
    if (image === undefined || events.findIndex((each) => each.notify === notify) !== index)
      continue
    const isLast = index === events.length - 1
    // Images without an event of their own have their pointers converted by the last one.
    const orphans = isLast
      ? converting.filter((each) => events.every((event) => event.image !== each))
      : []
    hookFunction(machine, image, {
      address: notify,
      name: 'VirtualAddressChangeEvent',
      service: 'SetVirtualAddressMap',
      argumentCount: NOTIFY_ARGUMENTS,
      around: (call, original) => {
        const status = original()
        changeAddresses(call, hooks, [image, ...orphans])
        return status
      },
    })
  }
}

/** Converts the pointers that quirks have given to images, at the physical addresses that the code still has. */
function changeAddresses(
  call: FirmwareCall,
  hooks: FirmwareHooks,
  images: readonly RealImage[],
): void {
  const table = call.pointer('gRT')
  const { runtimeServicesTable } = call.architecture.tables
  const convertPointer = call.readNatural(table + BigInt(runtimeServicesTable.ConvertPointer))
  const convert = (address: bigint): bigint => call.call(convertPointer, OPTIONAL_PTR, address)
  for (const image of images) {
    for (const offset of image.slotsOf('event')) convert(BigInt(image.base + offset))
  }
  hooks.virtualAddressChange.call(call, { convert })
}
