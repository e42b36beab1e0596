import { checkTable, decodeMemoryMap, EfiStatus, memoryTypeName, SystemTable } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { createFirmware, FirmwareError } from '../src/index.ts'
import { boot, bootToRuntime, SMALL_MAP, smallFirmware } from './caller.ts'

const firmware = smallFirmware()

describe('hand-off', () => {
  test('all three tables have the right checksum', () => {
    const caller = boot(firmware)
    const bootTable = caller.cpu.read64(caller.systemTable + BigInt(SystemTable.BootServices))
    const sizes = [
      [caller.systemTable, 0x78],
      [caller.runtimeTable, 0x88],
      [bootTable, 0x178],
    ] as const
    expect(sizes.map(([at, size]) => checkTable(caller.cpu.readBytes(at, size)))).toEqual([
      true,
      true,
      true,
    ])
  })

  test('GetMemoryMap reports the map in its own order with a stride of 48', () => {
    const { status, stride, version, map } = boot(firmware).getMemoryMap()
    expect({ status, stride, version }).toEqual({
      status: EfiStatus.SUCCESS,
      stride: 48n,
      version: 1,
    })
    expect(decodeMemoryMap(map, 48)).toEqual(SMALL_MAP)
  })

  test('GetMemoryMap says how large a buffer has to be', () => {
    const { status, size } = boot(firmware).getMemoryMap(48)
    expect([status, size]).toEqual([EfiStatus.BUFFER_TOO_SMALL, BigInt(SMALL_MAP.length * 48)])
  })
})
