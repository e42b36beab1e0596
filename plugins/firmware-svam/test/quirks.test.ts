import { GeneralProtection, InvalidOpcode, PageFault } from '@trapdoor/core'
import { FirmwareDeadLoop, type Quirk } from '@trapdoor/firmware'
import {
  CONFIG_TABLE_ENTRY_SIZE,
  decodeConfigTable,
  EfiStatus,
  Guid,
  type MemoryDescriptor,
  MemoryType,
  SystemTable,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { bootToRuntime, Caller, SMALL_MAP, smallFirmware, VIRTUAL_BASE } from '@trapdoor/plugin-kit'
import { GLOBAL, Variables } from '@trapdoor/plugin-kit'
import {
  bsTouchRuntime,
  bsTouchSvam,
  physPointerStale,
  relativeOffset,
  svamIdentityCrash,
  svamRequired,
  svamTwice,
  tablePtrConverted,
} from '../src/index.ts'

const VIRTUAL_MAP = Caller.runtimeMap(SMALL_MAP)

/** A machine with one quirk, after ExitBootServices. */
const start = (quirk: Quirk): Caller => bootToRuntime(smallFirmware([quirk]))
const getTimeout = (caller: Caller): bigint => new Variables(caller).get('Timeout', GLOBAL).status

/** Gives all memory of a type other contents, as a kernel does that uses it for something else. */
function overwrite(caller: Caller, type: number, word: number): void {
  for (const { physicalStart, numberOfPages, type: each } of SMALL_MAP) {
    const end = physicalStart + numberOfPages * 4096
    if (each === type && physicalStart > 0) caller.machine.memory.fill(physicalStart, end, word)
  }
}

describe('Q01 bs-touch-svam', () => {
  test('runs its hook as long as nobody has touched boot-services memory', () => {
    const caller = start(bsTouchSvam)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    const hooks = caller.machine.log.events.filter(
      (event) => event.kind === 'return' && event.image === 'OemHookDxe',
    )
    expect(hooks).toMatchObject([{ name: 'OnAddressChange', rax: EfiStatus.SUCCESS }])
  })

  test('runs into whatever has taken the place of its code', () => {
    const caller = start(bsTouchSvam)
    overwrite(caller, MemoryType.BootServicesCode, 0)
    expect(() => caller.setVirtualAddressMap(VIRTUAL_MAP)).toThrow(InvalidOpcode)
  })

  test('jumps through whatever has taken the place of its data', () => {
    const caller = start(bsTouchSvam)
    // Up to the tables that the machine runs on.
    caller.machine.memory.fill(0x3010_0000, caller.cpu.cr3, 0x6b6b_6b6b)
    expect(() => caller.setVirtualAddressMap(VIRTUAL_MAP)).toThrow(GeneralProtection)
  })
})

describe('Q02 bs-touch-runtime', () => {
  test('serves variables as long as nobody has touched boot-services memory', () => {
    expect(getTimeout(start(bsTouchRuntime))).toBe(EfiStatus.SUCCESS)
  })

  test('counts in memory that has become somebody else’s, and reports a device error', () => {
    const caller = start(bsTouchRuntime)
    const slot = smallFirmware([bsTouchRuntime])
      .images.flatMap(({ slots }) => slots)
      .find(({ name }) => name.startsWith('Q02'))!
    const page = Number(caller.machine.memory.read64(slot.address))
    caller.machine.memory.fill(page, page + 4096, 0x6b6b_6b6b)
    expect(getTimeout(caller)).toBe(EfiStatus.DEVICE_ERROR)
    const changed = caller.machine.memory.read(page, 4096).filter((byte) => byte !== 0x6b)
    expect(Array.from(changed)).toEqual([0x6c])
  })

  test('faults on tables without boot-services memory, before and after SetVirtualAddressMap', () => {
    const physical = start(bsTouchRuntime)
    physical.useOwnTables(SMALL_MAP, { identity: true })
    expect(() => getTimeout(physical)).toThrow(PageFault)
    const virtual = start(bsTouchRuntime)
    virtual.setVirtualAddressMap(VIRTUAL_MAP)
    virtual.useOwnTables(SMALL_MAP)
    expect(() => getTimeout(virtual)).toThrow(PageFault)
  })
})

describe('Q03 phys-pointer-stale', () => {
  test('needs the physical addresses after SetVirtualAddressMap too', () => {
    const caller = start(physPointerStale)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    const without = start(physPointerStale)
    without.setVirtualAddressMap(VIRTUAL_MAP)
    without.useOwnTables(SMALL_MAP)
    expect(() => getTimeout(without)).toThrow(PageFault)
  })
})

describe('Q05 svam-identity-crash', () => {
  test('hangs on an address that stays, and on no other', () => {
    const flat = Caller.runtimeMap(SMALL_MAP, 0n)
    expect(() => start(svamIdentityCrash).setVirtualAddressMap(flat)).toThrow(FirmwareDeadLoop)
    expect(start(svamIdentityCrash).setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
  })
})

describe('Q06 svam-required', () => {
  test('has no variables before SetVirtualAddressMap, and all of them after', () => {
    const caller = start(svamRequired)
    expect(() => getTimeout(caller)).toThrow(GeneralProtection)
    caller.cpu.abandonCalls()
    expect(caller.service('GetTime', caller.room(16), 0n)).toBe(EfiStatus.SUCCESS)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    caller.useOwnTables(SMALL_MAP)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
  })
})

describe('Q09 relative-offset', () => {
  /** The map with each region moved further away from its neighbours. */
  const spread: readonly MemoryDescriptor[] = VIRTUAL_MAP.map((each, index) =>
    Object.assign({}, each, { virtualStart: each.virtualStart + BigInt(index) * 0x4000_0000n }),
  )

  test('works without SetVirtualAddressMap, and with all regions moved alike', () => {
    expect(getTimeout(start(relativeOffset))).toBe(EfiStatus.SUCCESS)
    const caller = start(relativeOffset)
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    caller.useOwnTables(SMALL_MAP)
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
  })

  test('misses its data where regions were moved apart', () => {
    const caller = start(relativeOffset)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(caller.setVirtualAddressMap(spread)).toBe(EfiStatus.SUCCESS)
    caller.mapRuntime(spread)
    expect(() => getTimeout(caller)).toThrow(PageFault)
  })
})

describe('Q12 svam-twice', () => {
  test('calls a null pointer the second time', () => {
    const caller = start(svamTwice)
    const table = caller.runtimeTable
    const svam = caller.cpu.read64(table + 0x38n)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    // Page 0 is mapped by the firmware's own tables, and holds no code.
    expect(() => caller.cpu.call(svam, 0n, 48n, 1n, 0n)).toThrow(
      'no instruction at 0x0000000000000000',
    )
  })
})

describe('Q17 table-ptr-converted', () => {
  test('moves the SMBIOS pointer and no other', () => {
    const caller = start(tablePtrConverted)
    const { cpu, systemTable } = caller
    const at = cpu.read64(systemTable + BigInt(SystemTable.ConfigurationTable))
    const read = (): Record<string, bigint> =>
      Object.fromEntries(
        decodeConfigTable(cpu.readBytes(at, 3 * CONFIG_TABLE_ENTRY_SIZE)).map((each) => [
          each.guid,
          each.table,
        ]),
      )
    const before = read()
    caller.setVirtualAddressMap(VIRTUAL_MAP)
    expect(read()).toEqual({
      ...before,
      [Guid.SMBIOS]: before[Guid.SMBIOS]! + VIRTUAL_BASE,
    })
  })
})
