import { InvalidOpcode, MachineReset, PageFault } from '@trapdoor/core'
import type { Quirk } from '@trapdoor/firmware'
import {
  bootToRuntime,
  type Caller,
  GLOBAL,
  NV,
  BS,
  RT,
  SMALL_MAP,
  smallFirmware,
  Variables,
} from '@trapdoor/plugin-kit'
import { decodeUcs2, EfiStatus, MemoryType, ResetType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  debugPrintAtRt,
  gettimeLie,
  gnvnLoop,
  qviCrashApple,
  qviCrashHp,
  resetBroken,
  systabRev,
} from '../src/index.ts'

const KEPT = NV | BS | RT

const start = (quirk: Quirk): Caller => bootToRuntime(smallFirmware([quirk]))
const getTimeout = (caller: Caller): bigint => new Variables(caller).get('Timeout', GLOBAL).status
const reset = (caller: Caller): bigint =>
  caller.service('ResetSystem', BigInt(ResetType.Cold), 0n, 0n, 0n)

/** A machine on 1:1 tables that keep to the map, without page 0. */
function onOwnTables(quirk: Quirk): Caller {
  const caller = start(quirk)
  caller.useOwnTables(SMALL_MAP, { identity: true })
  return caller
}

/** The address of the page fault that `run` ends with. */
function faultAddress(run: () => unknown): bigint {
  try {
    run()
  } catch (error) {
    if (error instanceof PageFault) return error.address
    throw error
  }
  throw new Error('no page fault')
}

/** What a system table's pointer to the vendor leads to. */
function vendorOf({ cpu, systemTable }: Caller): string {
  return decodeUcs2(cpu.readBytes(cpu.read64(systemTable + 0x18n), 64))
}

describe('Q62 qvi-crash-apple', () => {
  test('says whose it is, and ends QueryVariableInfo with an invalid opcode', () => {
    const caller = start(qviCrashApple)
    expect([vendorOf(caller), caller.cpu.read32(caller.systemTable + 8n)]).toEqual([
      'Apple',
      0x2_0028,
    ])
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(() => new Variables(caller).info(KEPT)).toThrow(InvalidOpcode)
  })
})

describe('Q63 qvi-crash-hp', () => {
  test('jumps to 0x230, whatever is there', () => {
    const caller = onOwnTables(qviCrashHp)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(() => new Variables(caller).info(KEPT)).toThrow(/execute at 0x0000000000000230/)
  })
})

describe('Q64 gnvn-loop', () => {
  test('finds its last variable behind its last variable', () => {
    const caller = start(gnvnLoop)
    const [size, name, vendor] = [caller.room(8), caller.room(256), caller.room(16)]
    const names = Array.from({ length: 8 }, () => {
      caller.cpu.write64(size, 256n)
      expect(caller.service('GetNextVariableName', size, name, vendor)).toBe(EfiStatus.SUCCESS)
      return decodeUcs2(caller.cpu.readBytes(name, 256))
    })
    expect(names.slice(0, 6)).toEqual([...new Set(names)])
    expect(names.slice(6)).toEqual([names[5], names[5]])
  })
})

describe('Q67 gettime-lie', () => {
  test('succeeds with zeros', () => {
    const caller = start(gettimeLie)
    const time = caller.put(new Uint8Array(16).fill(0x6b))
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.SUCCESS)
    expect(Array.from(caller.cpu.readBytes(time, 16))).toEqual(Array.from(new Uint8Array(16)))
  })
})

describe('Q69 reset-broken', () => {
  test('resets where boot-services memory is mapped, and dies where it is not', () => {
    expect(() => reset(start(resetBroken))).toThrow(MachineReset)
    const data = SMALL_MAP.find(({ type }) => type === MemoryType.BootServicesData)!
    const caller = onOwnTables(resetBroken)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    const address = Number(faultAddress(() => reset(caller)))
    expect(address).toBeGreaterThanOrEqual(data.physicalStart)
    expect(address).toBeLessThan(data.physicalStart + data.numberOfPages * 4096)
  })
})

describe('Q78 systab-rev', () => {
  test('has null pointers where EFI 2.0 has services', () => {
    const caller = onOwnTables(systabRev)
    const table = caller.runtimeTable
    expect(caller.cpu.read64(table + 0x80n)).toBe(0n)
    expect(caller.cpu.read64(table + 0x68n)).not.toBe(0n)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(() => new Variables(caller).info(KEPT)).toThrow(/execute at 0x0000000000000000/)
  })
})

describe('Q80 debug-print-at-rt', () => {
  test('reads through a null pointer, which page 0 hides', () => {
    expect(getTimeout(start(debugPrintAtRt))).toBe(EfiStatus.SUCCESS)
    expect(() => getTimeout(onOwnTables(debugPrintAtRt))).toThrow(/read at 0x0000000000000008/)
  })
})
