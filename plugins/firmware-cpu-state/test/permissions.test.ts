import { PageFault, PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { Firmware, Quirk } from '@trapdoor/firmware'
import {
  boot,
  bootToRuntime,
  BS,
  type Caller,
  NV,
  RT,
  smallFirmware,
  Variables,
} from '@trapdoor/plugin-kit'
import {
  decodeMemoryAttributesTable,
  decodeMemoryMap,
  EfiStatus,
  Guid,
  isRuntime,
  MemoryAttribute,
  type MemoryAttributesTable,
  MemoryType,
  parseGuid,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  irqDisabledLeft,
  matCorruptSize,
  matWrong,
  mxcsrClobber,
  rtcodeWrite,
  rtdataExec,
} from '../src/index.ts'

const { RO, XP } = MemoryAttribute
const setOwn = (caller: Caller): bigint => new Variables(caller).set('Own', NV | BS | RT, [1])
const getTime = (caller: Caller): bigint => caller.service('GetTime', caller.room(16), 0n)

/** Where the configuration table has the memory attributes table; undefined where it has none. */
function addressOfTable({ cpu, systemTable }: Caller): bigint | undefined {
  const count = Number(cpu.read64(systemTable + 0x68n))
  const table = cpu.read64(systemTable + 0x70n)
  const wanted = parseGuid(Guid.MEMORY_ATTRIBUTES_TABLE).join()
  const entry = Array.from({ length: count }, (_, index) => table + BigInt(index * 24)).find(
    (at) => cpu.readBytes(at, 16).join() === wanted,
  )
  return entry === undefined ? undefined : cpu.read64(entry + 16n)
}

function readTable(caller: Caller): MemoryAttributesTable {
  return decodeMemoryAttributesTable(caller.cpu.readBytes(addressOfTable(caller)!, 4096), 20)
}

/** A machine at run time on 1:1 tables that keep to the memory attributes table, or to the types where there is none. */
function tightened(firmware: Firmware): Caller {
  const before = boot(firmware)
  const entries =
    addressOfTable(before) === undefined
      ? decodeMemoryMap(before.getMemoryMap().map, 48)
          .filter(isRuntime)
          .map((each) =>
            Object.assign({}, each, {
              attribute: each.type === MemoryType.RuntimeServicesCode ? 0n : XP,
            }),
          )
      : readTable(before).entries
  const caller = bootToRuntime(firmware)
  caller.useOwnTables(firmware.memoryMap, { identity: true })
  const builder = new PageTableBuilder(caller.machine.memory, phys(caller.cpu.root), () => {
    throw new Error('everything is mapped by pages of 4 KiB')
  })
  for (const { physicalStart, numberOfPages, attribute } of entries) {
    builder.protectRange(virt(BigInt(physicalStart)), numberOfPages * 4096, {
      writable: (attribute & RO) === 0n,
      executable: (attribute & XP) === 0n,
    })
  }
  caller.cpu.writeEfer(caller.cpu.efer | 0x800)
  caller.cpu.writeCr3(caller.cpu.cr3)
  return caller
}

/** What SetVariable says on tables that keep to the table. */
const underTable = (quirks: readonly Quirk[]): (() => bigint) => {
  const caller = tightened(smallFirmware(quirks))
  return () => setOwn(caller)
}

test('firmware without quirks lives with its memory attributes table', () => {
  expect(underTable([])()).toBe(EfiStatus.SUCCESS)
})

describe('Q40 mat-wrong', () => {
  test('calls all of its memory read-only, and cannot live with that', () => {
    const { entries } = readTable(boot(smallFirmware([matWrong])))
    expect(entries.every(({ attribute }) => (attribute & RO) !== 0n)).toBe(true)
    expect(underTable([matWrong])).toThrow(PageFault)
  })
})

describe('Q41 mat-corrupt-size', () => {
  test('has a good table until ExitBootServices, and one of 4 GiB after it', () => {
    const caller = boot(smallFirmware([matCorruptSize]))
    const table = addressOfTable(caller)!
    const before = caller.cpu.read32(table + 4n)
    expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect([before, caller.cpu.read32(table + 4n)]).toEqual([expect.any(Number), 0x0555_0000])
    expect(before).toBeLessThan(100)
  })
})

describe('Q42 rtdata-exec', () => {
  test('has no memory attributes table, and a function where data is', () => {
    expect(addressOfTable(boot(smallFirmware([rtdataExec])))).toBeUndefined()
    expect(setOwn(bootToRuntime(smallFirmware([rtdataExec])))).toBe(EfiStatus.SUCCESS)
    expect(underTable([rtdataExec])).toThrow(/instruction fetch/)
  })
})

describe('Q43 rtcode-write', () => {
  test('counts where its table says that there is code', () => {
    expect(setOwn(bootToRuntime(smallFirmware([rtcodeWrite])))).toBe(EfiStatus.SUCCESS)
    expect(underTable([rtcodeWrite])).toThrow(/supervisor write/)
  })
})

describe('Q45 irq-disabled-left', () => {
  test('returns with interrupts off, as firmware without it does not', () => {
    const interrupts = [[irqDisabledLeft], []].map((quirks) => {
      const caller = bootToRuntime(smallFirmware(quirks))
      caller.cpu.interruptFlag = true
      expect(getTime(caller)).toBe(EfiStatus.SUCCESS)
      return caller.cpu.interruptFlag
    })
    expect(interrupts).toEqual([false, true])
  })
})

describe('Q46 mxcsr-clobber', () => {
  test('returns with another rounding mode, as firmware without it does not', () => {
    const states = [[mxcsrClobber], []].map((quirks) => {
      const caller = bootToRuntime(smallFirmware(quirks))
      expect(getTime(caller)).toBe(EfiStatus.SUCCESS)
      return caller.cpu.mxcsr
    })
    expect(states).toEqual([0x7f80, 0x1f80])
  })
})
