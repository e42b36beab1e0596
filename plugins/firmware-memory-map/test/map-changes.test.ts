import { PageFault } from '@trapdoor/core'
import { createFirmware, type Quirk } from '@trapdoor/firmware'
import {
  boot,
  bootToRuntime,
  BS,
  type Caller,
  GLOBAL,
  NV,
  RT,
  SMALL_MAP,
  smallFirmware,
  Variables,
} from '@trapdoor/plugin-kit'
import { decodeMemoryMap, EfiStatus, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  convUsed,
  mapChangesDuringEbs,
  mapNeverSettles,
  mmioNoCacheAttr,
  overlapUnsorted,
  zeroOrWrapMd,
} from '../src/index.ts'

const start = (quirk: Quirk): Caller => bootToRuntime(smallFirmware([quirk]))
const setOwn = (caller: Caller): bigint => new Variables(caller).set('Own', NV | BS | RT, [1])
const getTimeout = (caller: Caller): bigint => new Variables(caller).get('Timeout', GLOBAL).status

/** What GetMemoryMap reports at power-on. */
function reported(quirk: Quirk): ReturnType<typeof decodeMemoryMap> {
  return decodeMemoryMap(boot(smallFirmware([quirk])).getMemoryMap().map, 48)
}

describe('Q21 mmio-no-cache-attr', () => {
  test('reports its device in the order of addresses, with nothing but RUNTIME', () => {
    const map = reported(mmioNoCacheAttr)
    const index = map.findIndex(({ physicalStart }) => physicalStart === 0xfed1_8000)
    expect(map[index]).toMatchObject({
      type: MemoryType.MemoryMappedIO,
      numberOfPages: 1,
      attribute: 2n ** 63n,
    })
    expect(map.map(({ physicalStart }) => physicalStart)).toEqual(
      map.map(({ physicalStart }) => physicalStart).toSorted((a, b) => a - b),
    )
  })

  test('reads it in SetVariable: a fault where it is not mapped', () => {
    expect(setOwn(start(mmioNoCacheAttr))).toBe(EfiStatus.SUCCESS)
    const caller = start(mmioNoCacheAttr)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(() => setOwn(caller)).toThrow(PageFault)
  })
})

describe('Q23 zero-or-wrap-md', () => {
  test('reports two entries more, which hold no byte', () => {
    const map = reported(zeroOrWrapMd)
    expect(map.slice(0, -2)).toEqual(SMALL_MAP)
    expect(map.slice(-2).map(({ numberOfPages }) => numberOfPages)).toEqual([0, 2 ** 52])
  })
})

describe('Q24 overlap-unsorted', () => {
  test('reports the map backwards, and a page of runtime data once more as a device', () => {
    const map = reported(overlapUnsorted)
    expect(map.slice(0, -1)).toEqual(SMALL_MAP.toReversed())
    const data = SMALL_MAP.find(({ type }) => type === MemoryType.RuntimeServicesData)!
    expect(map.at(-1)).toEqual({
      ...data,
      type: MemoryType.MemoryMappedIO,
      numberOfPages: 1,
      attribute: (2n ** 63n) | 1n,
    })
  })

  test('has nothing to list twice where there is no runtime data', () => {
    const conventional = SMALL_MAP.filter(({ type }) => type === MemoryType.ConventionalMemory)
    expect(overlapUnsorted.hooks.memoryMap!(conventional)).toEqual(conventional.toReversed())
  })
})

describe('Q28 map-changes-during-ebs', () => {
  test('makes the first key stale by a page of boot-services data, and no other', () => {
    const firmware = smallFirmware([mapChangesDuringEbs])
    for (const caller of [boot(firmware), boot(firmware)]) {
      const pages = (): number =>
        decodeMemoryMap(caller.getMemoryMap().map, 48)
          .filter(({ type }) => type === MemoryType.BootServicesData)
          .reduce((sum, { numberOfPages }) => sum + numberOfPages, 0)
      const before = pages()
      expect(caller.exitBootServices()).toBe(EfiStatus.INVALID_PARAMETER)
      expect(pages()).toBe(before + 1)
      expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
    }
  })
})

describe('Q28b map-never-settles', () => {
  test('makes every key stale', () => {
    const caller = boot(smallFirmware([mapNeverSettles]))
    const statuses = [1, 2, 3].map(() => caller.exitBootServices())
    expect(statuses).toEqual([1, 2, 3].map(() => EfiStatus.INVALID_PARAMETER))
  })
})

describe('Q32 conv-used', () => {
  test('counts in free memory, and reports a device error once that is somebody else’s', () => {
    const firmware = createFirmware({ name: 'small', memoryMap: SMALL_MAP, quirks: [convUsed] })
    const caller = bootToRuntime(firmware)
    const slot = firmware.images
      .flatMap(({ slots }) => slots)
      .find(({ name }) => name.startsWith('Q32'))!
    const page = Number(caller.machine.memory.read64(slot.address))
    expect(firmware.describePhysical(page)).toContain('ConventionalMemory')
    expect(getTimeout(caller)).toBe(EfiStatus.SUCCESS)
    expect(caller.machine.memory.read64(page + 8)).toBe(1n)
    caller.machine.memory.fill(page, page + 4096, 0x6b6b_6b6b)
    expect(getTimeout(caller)).toBe(EfiStatus.DEVICE_ERROR)
  })

  test('faults on tables of runtime memory alone', () => {
    const caller = start(convUsed)
    caller.useOwnTables(SMALL_MAP, { identity: true })
    expect(() => getTimeout(caller)).toThrow(PageFault)
  })
})
