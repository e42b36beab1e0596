import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ARCHITECTURES,
  argumentCount,
  argumentSlot,
  argumentWords,
  BOOT_SERVICES_TABLE_SIZE,
  decodeConfigTable,
  decodeStatus,
  EfiStatus,
  encodeConfigTable,
  encodeStatus,
  getNatural,
  Guid,
  IA32,
  isEfiError,
  naturalBits,
  pointerArguments,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_TABLE_SIZE,
  setNatural,
  SYSTEM_TABLE_SIZE,
  X64,
} from '../src/index.ts'

const BOTH = Object.values(ARCHITECTURES)

describe('the tables', () => {
  test('have their fields at every fourth byte on ia32 (UEFI 2.10, 4.3 to 4.6)', () => {
    const { tables } = IA32
    expect(tables.systemTable).toEqual({
      FirmwareVendor: 0x18,
      FirmwareRevision: 0x1c,
      ConsoleInHandle: 0x20,
      ConIn: 0x24,
      ConsoleOutHandle: 0x28,
      ConOut: 0x2c,
      StandardErrorHandle: 0x30,
      StdErr: 0x34,
      RuntimeServices: 0x38,
      BootServices: 0x3c,
      NumberOfTableEntries: 0x40,
      ConfigurationTable: 0x44,
    })
    const { runtimeServicesTable: services } = tables
    expect([services.GetTime, services.SetVirtualAddressMap]).toEqual([0x18, 0x28])
    expect([services.ResetSystem, services.QueryVariableInfo]).toEqual([0x40, 0x4c])
    expect(tables.bootServicesTable).toMatchObject({ GetMemoryMap: 0x28, ExitBootServices: 0x80 })
    expect([tables.systemTableSize, tables.runtimeServicesTableSize]).toEqual([0x48, 0x50])
    expect(tables.configTableEntrySize).toBe(20)
  })

  test('are those of x86-64 where nothing is said', () => {
    const { tables } = X64
    expect([tables.systemTableSize, SYSTEM_TABLE_SIZE]).toEqual([0x78, 0x78])
    expect([tables.runtimeServicesTableSize, RUNTIME_SERVICES_TABLE_SIZE]).toEqual([0x88, 0x88])
    expect([tables.bootServicesTableSize, BOOT_SERVICES_TABLE_SIZE]).toEqual([0x178, 0x178])
    expect(tables.runtimeServicesTable.QueryVariableInfo).toBe(0x80)
  })

  test.each(BOTH)('have a configuration table that is read as it was written ($name)', (each) => {
    const entries = [{ guid: Guid.SMBIOS, table: 0x7f52_0000n }]
    expect(decodeConfigTable(encodeConfigTable(entries, each), each)).toEqual(entries)
  })
})

describe('a status', () => {
  test('has its error bit at the top of the register', () => {
    expect(encodeStatus(IA32, EfiStatus.NOT_FOUND)).toBe(0x8000_000en)
    expect(encodeStatus(X64, EfiStatus.NOT_FOUND)).toBe(EfiStatus.NOT_FOUND)
    expect(encodeStatus(IA32, EfiStatus.WARN_STALE_DATA)).toBe(5n)
  })

  test.each(BOTH)('comes back from a register ($name)', (each) => {
    for (const status of Object.values(EfiStatus)) {
      const register = encodeStatus(each, status)
      expect(BigInt.asUintN(naturalBits(each), register)).toBe(register)
      expect(decodeStatus(each, register)).toBe(status)
      expect(isEfiError(decodeStatus(each, register))).toBe(isEfiError(status))
    }
  })
})

test.each(BOTH)('a natural integer is read as it was written, modulo its size ($name)', (each) => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
      const view = new DataView(new ArrayBuffer(16))
      view.setBigUint64(8, 2n ** 64n - 1n)
      setNatural(each, view, 4, value)
      expect(getNatural(each, view, 4)).toBe(BigInt.asUintN(naturalBits(each), value))
    }),
  )
})

describe('arguments', () => {
  test('are as many as the services have, and all of them words', () => {
    for (const service of RUNTIME_SERVICES) {
      const count = argumentCount(service)
      const args = Array.from({ length: count }, (_, index) => BigInt(index + 1))
      expect(argumentWords(X64, service, args)).toEqual(args)
      const words = argumentWords(IA32, service, args)
      expect(words).toHaveLength(service === 'UpdateCapsule' ? count + 1 : count)
      for (const [index, value] of args.entries()) {
        expect(words[argumentSlot(IA32, service, index).first]).toBe(value)
      }
    }
  })

  test('of 64 bits are two words on ia32, the low half first', () => {
    const address = 0x1_2345_6000n
    expect(argumentWords(IA32, 'FreePages', [address, 2n])).toEqual([0x2345_6000n, 1n, 2n])
    expect(argumentSlot(IA32, 'FreePages', 0)).toEqual({ first: 0, words: 2 })
    expect(argumentSlot(IA32, 'FreePages', 1)).toEqual({ first: 2, words: 1 })
    expect(argumentSlot(X64, 'FreePages', 1)).toEqual({ first: 1, words: 1 })
  })

  test('that are pointers are known', () => {
    expect(pointerArguments('SetVariable')).toEqual([0, 1, 4])
    expect(pointerArguments('UpdateCapsule')).toEqual([0])
    expect(pointerArguments('ExitBootServices')).toEqual([0])
  })
})
