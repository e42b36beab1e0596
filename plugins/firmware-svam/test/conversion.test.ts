import { PageFault } from '@trapdoor/core'
import { FirmwareDeadLoop, type Quirk } from '@trapdoor/firmware'
import {
  boot,
  bootToRuntime,
  Caller,
  GLOBAL,
  NV,
  BS,
  RT,
  SMALL_MAP,
  smallFirmware,
  VIRTUAL_BASE,
  Variables,
} from '@trapdoor/plugin-kit'
import { decodeMemoryMap, EfiStatus, isRuntime, type MemoryDescriptor } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  contiguity,
  fullMapChoke,
  lockList,
  lowHalfCrash,
  noFixup,
  svamFailsAfterCommit,
  svamNeedsBoth,
  svamSelfStale,
  unlistedAtOffset,
} from '../src/index.ts'

const VIRTUAL_MAP = Caller.runtimeMap(SMALL_MAP)
const LOW_BASE = 0x20_0000_0000n

const start = (quirk: Quirk): Caller => bootToRuntime(smallFirmware([quirk]))
const getTimeout = (caller: Caller): bigint => new Variables(caller).get('Timeout', GLOBAL).status
const setOwn = (caller: Caller): bigint => new Variables(caller).set('Own', NV | BS | RT, [1])

/** A machine after SetVirtualAddressMap to `base`, on tables with runtime memory there, and 1:1 where `identity` says so. */
function converted(quirk: Quirk, options: { base?: bigint; identity?: boolean } = {}): Caller {
  const { base = VIRTUAL_BASE } = options
  const caller = start(quirk)
  expect(caller.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP, base))).toBe(EfiStatus.SUCCESS)
  caller.useOwnTables(SMALL_MAP, { base, ...options })
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

describe('Q07 svam-needs-both', () => {
  test('needs the old and the new address while it converts', () => {
    const both = start(svamNeedsBoth)
    both.useOwnTables(SMALL_MAP, { identity: true })
    expect(both.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    const old = start(svamNeedsBoth)
    expect(faultAddress(() => old.setVirtualAddressMap(VIRTUAL_MAP))).toBeGreaterThan(VIRTUAL_BASE)
  })
})

describe('Q07b unlisted-at-offset', () => {
  test('reads its registers as far away as its pool has moved', () => {
    const caller = start(unlistedAtOffset)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(faultAddress(() => caller.setVirtualAddressMap(VIRTUAL_MAP))).toBe(
      VIRTUAL_BASE + 0xfec1_0000n,
    )
    const flat = start(unlistedAtOffset)
    expect(flat.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP, 0n))).toBe(EfiStatus.SUCCESS)
  })
})

describe('Q08 low-half-crash', () => {
  test('dies inside SetVirtualAddressMap of addresses in the lower half', () => {
    expect(getTimeout(converted(lowHalfCrash))).toBe(EfiStatus.SUCCESS)
    expect(getTimeout(start(lowHalfCrash))).toBe(EfiStatus.SUCCESS)
    const low = start(lowHalfCrash)
    low.useOwnTables(SMALL_MAP, { base: LOW_BASE, identity: true })
    expect(() => low.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP, LOW_BASE))).toThrow(
      /not canonical: 0x8000002034/,
    )
  })
})

describe('Q10 contiguity', () => {
  test('reports the region of its object as two', () => {
    const { map } = boot(smallFirmware([contiguity])).getMemoryMap()
    const reported = decodeMemoryMap(map, 48)
    expect(reported).toHaveLength(SMALL_MAP.length + 1)
    const index = reported.findIndex(
      (each, at) => each.physicalStart !== SMALL_MAP[at]?.physicalStart,
    )
    const [low, high] = [reported[index - 1]!, reported[index]!]
    expect(low.physicalStart + low.numberOfPages * 4096).toBe(high.physicalStart)
    expect([low.type, low.attribute]).toEqual([high.type, high.attribute])
  })

  test('misses the second half of its object where the two were moved apart', () => {
    const firmware = smallFirmware([contiguity])
    const spread: readonly MemoryDescriptor[] = Caller.runtimeMap(firmware.memoryMap).map(
      (each, index) =>
        Object.assign({}, each, { virtualStart: each.virtualStart + BigInt(index) * 0x4000_0000n }),
    )
    const apart = bootToRuntime(firmware)
    apart.setVirtualAddressMap(spread)
    apart.mapRuntime(spread)
    expect(() => getTimeout(apart)).toThrow(PageFault)
    expect(getTimeout(converted(contiguity))).toBe(EfiStatus.SUCCESS)
  })
})

describe('Q11 full-map-choke', () => {
  test('takes the runtime regions, and not a map with regions that were given no address', () => {
    expect(start(fullMapChoke).setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    const all = SMALL_MAP.map((each) =>
      isRuntime(each) ? VIRTUAL_MAP.find((given) => given.type === each.type)! : each,
    )
    expect(start(fullMapChoke).setVirtualAddressMap(all)).toBe(EfiStatus.INVALID_PARAMETER)
  })
})

describe('Q13 svam-self-stale', () => {
  test('jumps to the physical address of ConvertPointer', () => {
    const caller = converted(svamSelfStale)
    const convert = caller.cpu.read64(caller.systemTable + 0x58n) + 0x40n
    const address = caller.cpu.read64(convert)
    expect(address).toBeLessThan(VIRTUAL_BASE)
    expect(faultAddress(() => getTimeout(caller))).toBe(address)
    expect(getTimeout(start(svamSelfStale))).toBe(EfiStatus.SUCCESS)
  })

  test('reads a map at address 0 where that is reached', () => {
    const caller = converted(svamSelfStale, { identity: true })
    expect(faultAddress(() => getTimeout(caller))).toBeLessThan(0x1000n)
  })
})

describe('Q15 no-fixup', () => {
  test('leaves every pointer physical and says that all is well', () => {
    const caller = start(noFixup)
    const before = caller.runtimeTable
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.SUCCESS)
    expect(caller.runtimeTable).toBe(before)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(faultAddress(() => getTimeout(converted(noFixup)))).toBeLessThan(VIRTUAL_BASE)
  })
})

describe('Q16 edk2-lock-list', () => {
  test('ends its walk as long as addresses are what they were', () => {
    expect(setOwn(start(lockList))).toBe(EfiStatus.SUCCESS)
  })

  test('faults at the old address of the head, or walks for ever where that is mapped', () => {
    expect(faultAddress(() => setOwn(converted(lockList)))).toBeLessThan(VIRTUAL_BASE)
    const identity = converted(lockList, { identity: true })
    expect(getTimeout(identity)).toBe(EfiStatus.SUCCESS)
    expect(() => setOwn(identity)).toThrow(FirmwareDeadLoop)
  })
})

describe('Q18 svam-fails-after-commit', () => {
  test('is at virtual addresses although it says that it failed, and takes no second try', () => {
    const caller = start(svamFailsAfterCommit)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.DEVICE_ERROR)
    expect(caller.runtimeTable).toBeGreaterThan(VIRTUAL_BASE)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(caller.setVirtualAddressMap(VIRTUAL_MAP)).toBe(EfiStatus.UNSUPPORTED)
  })
})
