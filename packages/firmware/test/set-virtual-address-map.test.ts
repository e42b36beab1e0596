import { PageFault } from '@trapdoor/core'
import {
  checkTable,
  EfiStatus,
  RUNTIME_SERVICES_TABLE_SIZE,
  type RuntimeServiceName,
  RuntimeServicesTable,
  SYSTEM_TABLE_SIZE,
  SystemTable,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  boot,
  bootToRuntime,
  Caller,
  SMALL_MAP,
  smallFirmware,
  VIRTUAL_BASE,
} from '@trapdoor/plugin-kit'

const firmware = smallFirmware()
const VIRTUAL_MAP = Caller.runtimeMap(SMALL_MAP)
const GLOBAL = '8be4df61-93ca-11d2-aa0d-00e098032b8c'

/** Physical address of a service. */
function gateOf(service: RuntimeServiceName): number {
  const all = firmware.images.flatMap(({ gates }) => gates)
  return all.find(({ name }) => name === service)?.address ?? 0
}

function functionPointer(caller: Caller, service: RuntimeServiceName): bigint {
  return caller.cpu.read64(caller.runtimeTable + BigInt(RuntimeServicesTable[service]))
}

function getTimeout(caller: Caller): bigint {
  const size = caller.number(2n)
  const data = caller.room(8)
  return caller.service('GetVariable', caller.text('Timeout'), caller.guid(GLOBAL), 0n, size, data)
}

describe('SetVirtualAddressMap', () => {
  test('is unsupported before ExitBootServices', () => {
    expect(boot(firmware).setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.UNSUPPORTED)
  })

  test('is unsupported a second time', () => {
    const caller = bootToRuntime(firmware)
    const kept = BigInt(gateOf('SetVirtualAddressMap'))
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.call(kept, 48n, 48n, 1n, caller.room(48))).toBe(EfiStatus.UNSUPPORTED)
  })

  test('refuses a short descriptor and another version, and may then be called again', () => {
    const caller = bootToRuntime(firmware)
    const map = caller.room(48)
    const invalid = EfiStatus.INVALID_PARAMETER
    expect(caller.service('SetVirtualAddressMap', 39n, 39n, 1n, map)).toBe(invalid)
    expect(caller.service('SetVirtualAddressMap', 48n, 48n, 2n, map)).toBe(invalid)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
  })

  test('is virtual for good once a fault has ended it half-way', () => {
    const caller = bootToRuntime(firmware)
    const unmapped = 0xffff_c900_0000_0000n
    const call = (): bigint => caller.service('SetVirtualAddressMap', 48n, 48n, 1n, unmapped)
    expect(call).toThrow(PageFault)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.UNSUPPORTED)
  })

  test('moves twelve pointers of the runtime table and leaves its own and that of ConvertPointer', () => {
    const caller = bootToRuntime(firmware)
    const runtimeTable = caller.runtimeTable
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    const moved = Object.entries(RuntimeServicesTable)
      .filter(([name, offset]) => {
        const physical = BigInt(gateOf(name as RuntimeServiceName))
        return caller.cpu.read64(runtimeTable + BigInt(offset)) === physical + VIRTUAL_BASE
      })
      .map(([name]) => name)
    const stay = new Set(['SetVirtualAddressMap', 'ConvertPointer'])
    expect(moved).toEqual(Object.keys(RuntimeServicesTable).filter((name) => !stay.has(name)))
    const svam = caller.cpu.read64(runtimeTable + BigInt(RuntimeServicesTable.SetVirtualAddressMap))
    expect(svam).toBe(BigInt(gateOf('SetVirtualAddressMap')))
    expect(checkTable(caller.cpu.readBytes(runtimeTable, RUNTIME_SERVICES_TABLE_SIZE))).toBe(true)
  })

  test('moves three pointers of the system table and no vendor table', () => {
    const caller = bootToRuntime(firmware)
    const read = (): bigint[] =>
      [SystemTable.FirmwareVendor, SystemTable.RuntimeServices, SystemTable.ConfigurationTable].map(
        (offset) => caller.cpu.read64(caller.systemTable + BigInt(offset)),
      )
    const before = read()
    const vendorTables = caller.cpu.readBytes(before[2]!, 72)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    expect(read()).toEqual(before.map((each) => each + VIRTUAL_BASE))
    expect(caller.cpu.readBytes(before[2]!, 72)).toEqual(vendorTables)
    expect(checkTable(caller.cpu.readBytes(caller.systemTable, SYSTEM_TABLE_SIZE))).toBe(true)
  })

  test('relocates every image but RuntimeDxe, and has their events convert the rest', () => {
    const caller = bootToRuntime(firmware)
    const slots = firmware.images.flatMap((image) =>
      image.slots.map((slot) => ({ ...slot, image: image.name })),
    )
    const read = (): bigint[] => slots.map(({ address }) => caller.machine.memory.read64(address))
    const before = read()
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    const expected = slots.map(({ image, conversion }, index) => {
      const stays = conversion === 'none' || (image === 'RuntimeDxe' && conversion === 'fixup')
      return stays ? before[index] : before[index]! + VIRTUAL_BASE
    })
    expect(read()).toEqual(expected)
  })

  test('skips a fixup whose word has changed since the image was loaded', () => {
    const caller = bootToRuntime(firmware)
    const image = firmware.images.find(({ name }) => name === 'PcRtc')!
    const slot = image.slots.find(({ conversion }) => conversion === 'fixup')!
    const changed = caller.machine.memory.read64(slot.address) + 8n
    caller.machine.memory.write64(slot.address, changed)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    expect(caller.machine.memory.read64(slot.address)).toBe(changed)
  })

  test('runs the address-change events before it relocates an image', () => {
    const caller = bootToRuntime(firmware)
    const before = caller.machine.log.events.length
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    const events = caller.machine.log.events
      .slice(before)
      .filter((event) => event.kind === 'call' && event.name === 'VirtualAddressChangeEvent')
    expect(events.map((event) => (event.kind === 'call' ? event.image : ''))).toEqual(
      firmware.images.map(({ name }) => name),
    )
    expect(events.every((event) => event.kind === 'call' && event.rip < 2n ** 32n)).toBe(true)
  })

  test('converts nothing that only descriptors without RUNTIME cover', () => {
    const caller = bootToRuntime(firmware)
    const before = functionPointer(caller, 'GetTime')
    const map = VIRTUAL_MAP.map((each) => Object.assign({}, each, { attribute: 0xfn }))
    expect(caller.setVirtualAddressMap(map)).toBe(EfiStatus.SUCCESS)
    expect(functionPointer(caller, 'GetTime')).toBe(before)
  })

  test('takes the first of two descriptors that cover an address', () => {
    const caller = bootToRuntime(firmware)
    const elsewhere = Caller.runtimeMap(SMALL_MAP, 0xffff_a000_0000_0000n)
    const table = caller.runtimeTable
    caller.setVirtualAddressMap([...elsewhere, ...VIRTUAL_MAP])
    expect(caller.cpu.read64(table + 0x18n)).toBe(
      BigInt(gateOf('GetTime')) + 0xffff_a000_0000_0000n,
    )
  })
})

describe('services after SetVirtualAddressMap', () => {
  test('work where only the new addresses are mapped', () => {
    const caller = bootToRuntime(firmware)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.useOwnTables(SMALL_MAP)
    const count = caller.room(8)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(caller.service('GetTime', caller.room(16), 0n)).toBe(EfiStatus.SUCCESS)
    expect(caller.service('GetNextHighMonotonicCount', count)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read32(count)).toBe(1)
  })

  test('fault where only the physical addresses are mapped', () => {
    const caller = bootToRuntime(firmware)
    const kept = functionPointer(caller, 'GetVariable')
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.cpu.writeCr3(caller.cpu.cr3)
    const call = (): bigint =>
      caller.cpu.call(kept, caller.text('Timeout'), caller.guid(GLOBAL), 0n, caller.number(2n), 0n)
    expect(call).toThrow(PageFault)
  })

  test('do not take their own pointers on: the runtime table still leads to the physical SetVirtualAddressMap', () => {
    const caller = bootToRuntime(firmware)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.useOwnTables(SMALL_MAP)
    expect(() => caller.setVirtualAddressMap(VIRTUAL_MAP)).toThrow(PageFault)
  })
})

describe('ConvertPointer', () => {
  test('tells null pointers, optional ones and addresses without a map apart', () => {
    const caller = bootToRuntime(firmware)
    const [nothing, something] = [caller.number(0n), caller.number(0x3450_0000n)]
    expect(caller.service('ConvertPointer', 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.service('ConvertPointer', 0n, nothing)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.service('ConvertPointer', 1n, nothing)).toBe(EfiStatus.SUCCESS)
    expect(caller.service('ConvertPointer', 0n, something)).toBe(EfiStatus.NOT_FOUND)
  })

  test('reads its map at address 0 once SetVirtualAddressMap is done', () => {
    const caller = bootToRuntime(firmware)
    const kept = functionPointer(caller, 'ConvertPointer')
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    const pointer = caller.number(0x3450_0000n)
    expect(() => caller.cpu.call(kept, 0n, pointer)).toThrow(
      'read at 0x0000000000000000: supervisor read, page not present',
    )
  })
})
