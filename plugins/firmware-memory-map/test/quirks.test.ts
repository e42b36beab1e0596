import { MachineReset, PageFault } from '@trapdoor/core'
import type { Quirk } from '@trapdoor/firmware'
import { decodeMemoryMap, EfiStatus, isRuntime, MemoryType, ResetType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, bootToRuntime, Caller, SMALL_MAP, smallFirmware } from '@trapdoor/plugin-kit'
import { BS, GLOBAL, NV, RT, Variables } from '@trapdoor/plugin-kit'
import { mmioMissing, page0Write, rtNoAttr } from '../src/index.ts'

const VIRTUAL_MAP = Caller.runtimeMap(SMALL_MAP)
const WARM_BOOT_FLAG = 0x472

const start = (quirk: Quirk): Caller => bootToRuntime(smallFirmware([quirk]))

const setOwn = (caller: Caller): bigint => new Variables(caller).set('Own', NV | BS | RT, [1])

function reset(caller: Caller, type: number): () => bigint {
  return () => caller.service('ResetSystem', BigInt(type), 0n, 0n, 0n)
}

describe('Q20 rt-no-attr', () => {
  test('reports runtime code and data by their types alone', () => {
    const { map } = boot(smallFirmware([rtNoAttr])).getMemoryMap()
    const reported = decodeMemoryMap(map, 48)
    expect(reported.map(({ type }) => type)).toEqual(SMALL_MAP.map(({ type }) => type))
    expect(reported.filter(isRuntime).map(({ type }) => type)).toEqual([MemoryType.MemoryMappedIO])
  })

  test('has nothing converted by a kernel that goes by the attribute', () => {
    const firmware = smallFirmware([rtNoAttr])
    const caller = bootToRuntime(firmware)
    const getTime = caller.cpu.read64(caller.runtimeTable + 0x18n)
    const status = caller.setVirtualAddressMap(Caller.runtimeMap(firmware.memoryMap))
    expect([status, caller.cpu.read64(caller.runtimeTable + 0x18n)]).toEqual([
      EfiStatus.SUCCESS,
      getTime,
    ])
  })
})

describe('Q22 mmio-missing', () => {
  test('lists no descriptor for the registers, even where the machine has one', () => {
    const listed = { ...SMALL_MAP.at(-1)!, physicalStart: 0xfed1_c000, numberOfPages: 4 }
    const map = mmioMissing.hooks.memoryMap!([...SMALL_MAP, listed])
    expect(map).toEqual(SMALL_MAP)
  })

  test('writes variables where everything is mapped, through the device', () => {
    const caller = start(mmioMissing)
    expect(setOwn(caller)).toBe(EfiStatus.SUCCESS)
    expect(caller.machine.memory.read16(0xfed1_f804)).toBe(1)
    expect(caller.machine.memory.owners.get(0xfed1c)).toEqual({ kind: 'device', name: 'RCBA' })
  })

  test('faults in SetVariable on tables that go by the map, and in GetVariable not', () => {
    const caller = start(mmioMissing)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(new Variables(caller).get('Timeout', GLOBAL).status).toBe(EfiStatus.SUCCESS)
    expect(() => setOwn(caller)).toThrow(PageFault)
  })
})

describe('Q26 page0-write', () => {
  test('leaves the flag of a warm boot behind, and none of a cold one', () => {
    const [warm, cold] = [start(page0Write), start(page0Write)]
    expect(reset(warm, ResetType.Warm)).toThrow(MachineReset)
    expect(reset(cold, ResetType.Cold)).toThrow(MachineReset)
    expect(warm.machine.memory.read16(WARM_BOOT_FLAG)).toBe(0x1234)
    expect(cold.machine.memory.read16(WARM_BOOT_FLAG)).toBe(0)
  })

  test('faults without page 0, in SetVirtualAddressMap and in a warm reset', () => {
    const caller = start(page0Write)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(() => caller.setVirtualAddressMap(VIRTUAL_MAP)).toThrow(PageFault)
    caller.cpu.abandonCalls()
    expect(reset(caller, ResetType.Warm)).toThrow(PageFault)
    caller.cpu.abandonCalls()
    expect(reset(caller, ResetType.Cold)).toThrow(MachineReset)
  })

  test('clears the flag in SetVirtualAddressMap, whoever owns page 0 by then', () => {
    const caller = start(page0Write)
    caller.machine.memory.write16(WARM_BOOT_FLAG, 0x6b6b)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    expect(caller.machine.memory.read16(WARM_BOOT_FLAG)).toBe(0)
  })
})
