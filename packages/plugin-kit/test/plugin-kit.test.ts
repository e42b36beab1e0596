import { FirmwareError, type Quirk } from '@trapdoor/firmware'
import { EfiStatus } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  boot,
  bootToRuntime,
  BS,
  Caller,
  GLOBAL,
  NV,
  RT,
  SMALL_MAP,
  smallFirmware,
  Variables,
  VIRTUAL_BASE,
} from '../src/index.ts'

/** The quirk of the README. */
const timeStopsAfterSvam: Quirk = {
  id: 'ACME1',
  name: 'acme-time-stops',
  title: 'GetTime fails once SetVirtualAddressMap has been called',
  sources: ['ACME Model 1, firmware 0.9'],
  hooks: {
    powerOn: (setup) => {
      setup.pointer('PcRtc', 'here', setup.imageBase('PcRtc'))
    },
    beforeService: (call) => {
      if (call.service !== 'GetTime') return undefined
      return call.pointer('here') >= 2n ** 47n ? EfiStatus.DEVICE_ERROR : undefined
    },
  },
}

describe('the plugin kit', () => {
  test('shows a quirk before and after SetVirtualAddressMap, as the README has it', () => {
    const caller = bootToRuntime(smallFirmware([timeStopsAfterSvam]))
    const time = caller.room(16)
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.SUCCESS)
    expect(caller.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP))).toBe(EfiStatus.SUCCESS)
    caller.useOwnTables(SMALL_MAP)
    expect(caller.runtimeTable).toBeGreaterThan(VIRTUAL_BASE)
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.DEVICE_ERROR)
  })

  test('says so where a quirk keeps it from leaving boot services', () => {
    const neverSettles: Quirk = {
      id: 'ACME2',
      name: 'acme-map-never-settles',
      title: 'every ExitBootServices finds the map changed',
      sources: ['ACME Model 2, firmware 0.1'],
      hooks: {
        beforeExitBootServices: (call) => {
          const allocatePages = call.read64(call.pointer('gBS') + 0x28n)
          call.call(allocatePages, 0n, 4n, 1n, call.cpu.rsp - 256n)
        },
      },
    }
    let refusal: unknown
    try {
      bootToRuntime(smallFirmware([neverSettles]))
    } catch (error) {
      refusal = error
    }
    expect(refusal).toBeInstanceOf(FirmwareError)
    expect(refusal).toMatchObject({ code: 'FIRMWARE_BAD_SETUP', found: 'EFI_INVALID_PARAMETER' })
  })

  test('hands scratch memory out once, zeroed and aligned', () => {
    const caller = boot(smallFirmware())
    const first = caller.put(Uint8Array.of(1, 2, 3))
    const second = caller.room(5)
    expect(second - first).toBe(8n)
    expect(caller.cpu.readBytes(second, 5)).toEqual(new Uint8Array(5))
    expect(caller.cpu.read64(caller.number(42n))).toBe(42n)
  })

  test('reads back a variable that it wrote', () => {
    const variables = new Variables(bootToRuntime(smallFirmware()))
    expect(variables.set('Kit', NV | BS | RT, [7, 8, 9], GLOBAL)).toBe(EfiStatus.SUCCESS)
    expect(variables.get('Kit', GLOBAL)).toMatchObject({ status: 0n, data: [7, 8, 9] })
    expect(variables.names()).toContain(`${GLOBAL}:Kit`)
  })
})
