import {
  BootServicesTable,
  checkTable,
  decodeMemoryMap,
  EfiStatus,
  MemoryType,
  SYSTEM_TABLE_SIZE,
  SystemTable,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, bootToRuntime, type Caller, SMALL_MAP, smallFirmware } from '@trapdoor/plugin-kit'

const firmware = smallFirmware()
const AllocateType = { AnyPages: 0n, MaxAddress: 1n, Address: 2n } as const

function allocate(caller: Caller, kind: bigint, pages: bigint, address = 0n): [bigint, bigint] {
  const memory = caller.number(address)
  const type = BigInt(MemoryType.LoaderData)
  const status = caller.bootService('AllocatePages', kind, type, pages, memory)
  return [status, caller.cpu.read64(memory)]
}

describe('GetMemoryMap', () => {
  test('reports the map in its own order with a stride of 48', () => {
    const { status, stride, version, map } = boot(firmware).getMemoryMap()
    expect([status, stride, version]).toEqual([EfiStatus.SUCCESS, 48n, 1])
    expect(decodeMemoryMap(map, 48)).toEqual(SMALL_MAP)
  })

  test('says how large a buffer has to be', () => {
    const { status, size } = boot(firmware).getMemoryMap(48)
    expect([status, size]).toEqual([EfiStatus.BUFFER_TOO_SMALL, BigInt(SMALL_MAP.length * 48)])
  })

  test('refuses a null size and a null buffer', () => {
    const caller = boot(firmware)
    const size = caller.number(0x4000n)
    expect(caller.bootService('GetMemoryMap', 0n, 0n, 0n, 0n, 0n)).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.bootService('GetMemoryMap', size, 0n, 0n, 0n, 0n)).toBe(
      EfiStatus.INVALID_PARAMETER,
    )
  })
})

describe('AllocatePages', () => {
  test('takes the highest free pages and gives the map another key', () => {
    const caller = boot(firmware)
    const before = caller.getMemoryMap()
    const [status, address] = allocate(caller, AllocateType.AnyPages, 16n)
    const after = caller.getMemoryMap()
    expect([status, address]).toEqual([EfiStatus.SUCCESS, 0x3fff_0000n])
    expect(after.key).not.toBe(before.key)
    const added = decodeMemoryMap(after.map, 48)[13]
    expect(added).toEqual({
      ...SMALL_MAP[12],
      type: 2,
      physicalStart: 0x3fff_0000,
      numberOfPages: 16,
    })
  })

  test('stays below the address that it was given', () => {
    expect(allocate(boot(firmware), AllocateType.MaxAddress, 4n, 0x9_ffffn)).toEqual([
      EfiStatus.SUCCESS,
      0x9_c000n,
    ])
  })

  test('takes the very pages that it was asked for, once', () => {
    const caller = boot(firmware)
    const ask = (): bigint => allocate(caller, AllocateType.Address, 2n, 0x100_0000n)[0]
    expect([ask(), ask()]).toEqual([EfiStatus.SUCCESS, EfiStatus.NOT_FOUND])
  })

  test('has no pages where nothing is free', () => {
    const caller = boot(firmware)
    expect(allocate(caller, AllocateType.AnyPages, 0x10_0000n)[0]).toBe(EfiStatus.OUT_OF_RESOURCES)
    expect(allocate(caller, AllocateType.Address, 1n, 0x3450_0000n)[0]).toBe(EfiStatus.NOT_FOUND)
  })

  test('is undone by FreePages', () => {
    const caller = boot(firmware)
    const [, address] = allocate(caller, AllocateType.AnyPages, 16n)
    expect(caller.bootService('FreePages', address, 16n)).toBe(EfiStatus.SUCCESS)
    expect(decodeMemoryMap(caller.getMemoryMap().map, 48)).toEqual(SMALL_MAP)
    expect(caller.bootService('FreePages', address, 16n)).toBe(EfiStatus.NOT_FOUND)
  })
})

describe('ExitBootServices', () => {
  test('refuses a key that the map has no more', () => {
    const caller = boot(firmware)
    const { key } = caller.getMemoryMap()
    allocate(caller, AllocateType.AnyPages, 1n)
    const exit = (): bigint => caller.bootService('ExitBootServices', caller.imageHandle, key)
    expect(exit()).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
  })

  test('clears what the system table says of consoles and boot services, and turns interrupts off', () => {
    const { cpu, systemTable } = bootToRuntime(firmware)
    const table = cpu.readBytes(systemTable, SYSTEM_TABLE_SIZE)
    const cleared = table.subarray(SystemTable.ConsoleInHandle, SystemTable.RuntimeServices)
    expect(cleared.every((byte) => byte === 0)).toBe(true)
    expect(cpu.read64(systemTable + BigInt(SystemTable.BootServices))).toBe(0n)
    expect(checkTable(table)).toBe(true)
    expect(cpu.interruptFlag).toBe(false)
  })

  test('is unsupported for who kept its address', () => {
    const caller = boot(firmware)
    const { key } = caller.getMemoryMap()
    const table = caller.cpu.read64(caller.systemTable + BigInt(SystemTable.BootServices))
    const kept = caller.cpu.read64(table + BigInt(BootServicesTable.ExitBootServices))
    caller.exitBootServices()
    expect(caller.cpu.call(kept, caller.imageHandle, key)).toBe(EfiStatus.UNSUPPORTED)
  })
})
