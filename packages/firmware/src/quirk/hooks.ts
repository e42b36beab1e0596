import type { MemoryDescriptor } from '@trapdoor/uefi'
import { SyncBailHook, SyncHook, SyncWaterfallHook } from 'tapable'
import type { AddressChange, VirtualAddressMapArgument } from './address-change.ts'
import type { FirmwareCall } from './firmware-call.ts'
import type { FirmwareSetup } from './firmware-setup.ts'

/** Where quirks take hold of a firmware. One frozen object per variant; quirks are tapped in the order in which the variant lists them. */
export interface FirmwareHooks {
  /**
   * Changes the memory map that GetMemoryMap reports. What is really where does not change.
   *
   * Kind: sync, waterfall. When: once, before the machine is laid out. Arguments: the descriptors so far. Return: the descriptors to report.
   * Example: `memoryMap: (map) => map.filter((each) => each.type !== MemoryType.MemoryMappedIO)`
   */
  readonly memoryMap: SyncWaterfallHook<[readonly MemoryDescriptor[]]>
  /**
   * Puts a driver's code, data and pointers in place.
   *
   * Kind: sync, in order. When: once, at the end of the power-on, with the images in place and the tables not yet sealed. Arguments: the setup.
   * Return: nothing. Example: `powerOn: (setup) => setup.pointer('PcRtc', 'clock', setup.allocate({ type: 6, pages: 1, name: 'clock' }))`
   */
  readonly powerOn: SyncHook<[FirmwareSetup]>
  /**
   * Changes what the memory attributes table says.
   *
   * Kind: sync, waterfall. When: once, after `powerOn`. Arguments: the entries so far, and the setup. Return: the entries to write;
   * without any the firmware has no such table.
   * Example: `memoryAttributes: (entries) => entries.map((each) => ({ ...each, attribute: each.attribute | MemoryAttribute.XP }))`
   */
  readonly memoryAttributes: SyncWaterfallHook<[readonly MemoryDescriptor[], FirmwareSetup]>
  /**
   * Does what a driver's event of the group EFI_EVENT_GROUP_BEFORE_EXIT_BOOT_SERVICES does: memory can still be had through the boot services table.
   *
   * Kind: sync, in order. When: at the entry of ExitBootServices, before the map key is looked at, at each attempt. Arguments: the call, of image DxeCore.
   * Return: nothing. Example: `beforeExitBootServices: (call) => call.note('USB stopped')`
   */
  readonly beforeExitBootServices: SyncHook<[FirmwareCall]>
  /**
   * Does what a driver's ExitBootServices event does.
   *
   * Kind: sync, in order. When: ExitBootServices has accepted the map key, before the tables change. Arguments: the call, of image DxeCore.
   * Return: nothing. Example: `exitBootServices: (call) => call.note('timer stopped')`
   */
  readonly exitBootServices: SyncHook<[FirmwareCall]>
  /**
   * Runs at the entry of SetVirtualAddressMap.
   *
   * Kind: sync, bail. When: before edk2's own checks. Arguments: the call, of image RuntimeDxe, and the map that was passed.
   * Return: a status that ends the service, or undefined. Example: `setVirtualAddressMap: () => EfiStatus.UNSUPPORTED`
   */
  readonly setVirtualAddressMap: SyncBailHook<
    [FirmwareCall, VirtualAddressMapArgument],
    bigint | undefined
  >
  /**
   * Does what a driver's address-change event does, at the physical addresses that the code still has.
   *
   * Kind: sync, in order. When: in each image's event, after its own pointers were converted and before any image is relocated.
   * Arguments: the call (its `image` says whose event), and the conversion. Return: nothing.
   * Example: `virtualAddressChange: (call, change) => call.image === 'PcRtc' && change.convert(call.slot('clock'))`
   */
  readonly virtualAddressChange: SyncHook<[FirmwareCall, AddressChange]>
  /**
   * Runs before a runtime service.
   *
   * Kind: sync, bail. When: at the service's first instruction. Arguments: the call. Return: a status that ends the call, or undefined.
   * Example: `beforeService: (call) => (call.service === 'GetTime' ? EfiStatus.DEVICE_ERROR : undefined)`
   */
  readonly beforeService: SyncBailHook<[FirmwareCall], bigint | undefined>
  /**
   * Runs after a runtime service, and may change what it returns.
   *
   * Kind: sync, waterfall. When: at the service's last instruction. Arguments: the status so far, the call. Return: the status in RAX.
   * Example: `afterService: (status) => status & 0xffff_ffffn`
   */
  readonly afterService: SyncWaterfallHook<[bigint, FirmwareCall]>
}

/** Name of a hook. */
export type QuirkHookName = keyof FirmwareHooks

/** The legal keys of a quirk's hooks. */
export const QUIRK_HOOK_NAMES: readonly QuirkHookName[] = [
  'memoryMap',
  'powerOn',
  'memoryAttributes',
  'beforeExitBootServices',
  'exitBootServices',
  'setVirtualAddressMap',
  'virtualAddressChange',
  'beforeService',
  'afterService',
]

/** New hooks, for one variant. */
export function createFirmwareHooks(): FirmwareHooks {
  return Object.freeze({
    memoryMap: new SyncWaterfallHook<[readonly MemoryDescriptor[]]>(['descriptors'], 'memoryMap'),
    powerOn: new SyncHook<[FirmwareSetup]>(['setup'], 'powerOn'),
    memoryAttributes: new SyncWaterfallHook<[readonly MemoryDescriptor[], FirmwareSetup]>(
      ['entries', 'setup'],
      'memoryAttributes',
    ),
    beforeExitBootServices: new SyncHook<[FirmwareCall]>(['call'], 'beforeExitBootServices'),
    exitBootServices: new SyncHook<[FirmwareCall]>(['call'], 'exitBootServices'),
    setVirtualAddressMap: new SyncBailHook<
      [FirmwareCall, VirtualAddressMapArgument],
      bigint | undefined
    >(['call', 'map'], 'setVirtualAddressMap'),
    virtualAddressChange: new SyncHook<[FirmwareCall, AddressChange]>(
      ['call', 'change'],
      'virtualAddressChange',
    ),
    beforeService: new SyncBailHook<[FirmwareCall], bigint | undefined>(['call'], 'beforeService'),
    afterService: new SyncWaterfallHook<[bigint, FirmwareCall]>(['status', 'call'], 'afterService'),
  })
}

/** Whether any quirk has tapped a hook; tapable's `isUsed` counts interceptors, too. */
export function isTapped(hook: FirmwareHooks[QuirkHookName]): boolean {
  return hook.taps.length > 0
}
