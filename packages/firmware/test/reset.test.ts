import { MachineReset } from '@trapdoor/core'
import { EfiStatus, ResetType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, bootToRuntime, Caller, smallFirmware } from '@trapdoor/plugin-kit'
import { BS, GLOBAL, NV, RT, Variables } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()

function highCount(caller: Caller): number {
  const at = caller.room(8)
  expect(caller.service('GetNextHighMonotonicCount', at)).toBe(EfiStatus.SUCCESS)
  return caller.cpu.read32(at)
}

describe('ResetSystem', () => {
  test.for([
    [ResetType.Cold, 'cold'],
    [ResetType.Warm, 'warm'],
    [ResetType.Shutdown, 'shutdown'],
    [ResetType.PlatformSpecific, 'cold'],
  ] as const)('of type %i is a %s reset of the machine', ([type, reset]) => {
    const call = (): bigint =>
      bootToRuntime(firmware).service('ResetSystem', BigInt(type), 0n, 0n, 0n)
    expect(call).toThrow(MachineReset)
    expect(call).toThrow(`machine reset (${reset})`)
  })

  test('of a type that does not exist returns', () => {
    expect(bootToRuntime(firmware).service('ResetSystem', 9n)).toBe(EfiStatus.INVALID_PARAMETER)
  })
})

describe('a power cycle', () => {
  test('keeps non-volatile variables and nothing else of them', () => {
    const before = new Variables(boot(firmware))
    before.set('Kept', NV | BS | RT, [1])
    before.set('Lost', BS | RT, [2])
    const after = new Variables(new Caller(firmware.afterReset(before.caller.machine)))
    expect(after.get('Kept').data).toEqual([1])
    expect(after.get('Lost').status).toBe(EfiStatus.NOT_FOUND)
    expect(after.get('SecureBoot', GLOBAL).data).toEqual([0])
  })

  test('brings boot services back after SetVirtualAddressMap', () => {
    const caller = bootToRuntime(firmware)
    caller.setVirtualAddressMap([])
    const again = new Caller(firmware.afterReset(caller.machine))
    expect(again.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect(again.setVirtualAddressMap([])).toBe(EfiStatus.SUCCESS)
  })

  test('keeps the clock', () => {
    const { machine } = bootToRuntime(firmware)
    machine.ports.out8(0x70, 0x04)
    machine.ports.out8(0x71, 7)
    const caller = new Caller(firmware.afterReset(machine))
    const time = caller.room(16)
    caller.service('GetTime', time, 0n)
    expect(caller.cpu.read8(time + 4n)).toBe(7)
  })
})

describe('GetNextHighMonotonicCount', () => {
  test('counts up, and once more with each boot', () => {
    const caller = bootToRuntime(firmware)
    expect([highCount(caller), highCount(caller)]).toEqual([1, 2])
    const again = new Caller(firmware.afterReset(caller.machine))
    expect(highCount(again)).toBe(4)
    expect(new Variables(again).get('MTC', 'eb704011-1402-11d3-8e77-00a0c969723b').data).toEqual([
      4, 0, 0, 0,
    ])
  })

  test('refuses a null pointer', () => {
    const caller = bootToRuntime(firmware)
    expect(caller.service('GetNextHighMonotonicCount', 0n)).toBe(EfiStatus.INVALID_PARAMETER)
  })
})
