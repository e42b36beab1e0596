import { boot, bootToRuntime, Caller, VIRTUAL_BASE } from '@trapdoor/plugin-kit'
import { decodeMemoryMap, EfiStatus, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import type { Quirk } from '../../src/index.ts'
import { ovmf, RECORDED } from './recorded.ts'

const GET_TIME = 0x1fa6_0b29

function quirk(hooks: Quirk['hooks']): Quirk {
  return { id: 'Q99', name: 'made-up', title: 'made up', sources: [], hooks }
}

const getTime = (caller: Caller): bigint => caller.service('GetTime', caller.room(16), 0n)

/** What GetNextHighMonotonicCount gives. */
function highCount(caller: Caller): number {
  const place = caller.room(4)
  expect(caller.service('GetNextHighMonotonicCount', place)).toBe(EfiStatus.SUCCESS)
  return caller.cpu.read32(place)
}

describe.skipIf(!RECORDED)('quirks on OVMF (skipped where the shared data is absent)', () => {
  test('stand before and after the machine code of a service, and change what it returns', () => {
    const seen: unknown[] = []
    const firmware = ovmf([
      quirk({
        beforeService: ({ service }) => {
          seen.push(service)
          return undefined
        },
        afterService: (status) => {
          seen.push(status)
          return status | 4n
        },
      }),
    ])
    const caller = bootToRuntime(firmware)
    expect(getTime(caller)).toBe(4n)
    expect(seen).toEqual(['GetTime', EfiStatus.SUCCESS])
  })

  test('stay in place after a call, and after one that faults', () => {
    let times = 0
    const firmware = ovmf([
      quirk({
        beforeService: ({ service }) => {
          if (service === 'GetTime') times++
          return undefined
        },
      }),
    ])
    const caller = bootToRuntime(firmware)
    expect(getTime(caller)).toBe(EfiStatus.SUCCESS)
    // It writes the time to wherever it is told to.
    const unmapped = 0x0000_4000_0000_0000n
    expect(() => caller.service('GetTime', unmapped, 0n)).toThrow('not present')
    caller.cpu.abandonCalls()
    expect(times).toBe(2)
    expect(getTime(caller)).toBe(EfiStatus.SUCCESS)
    expect(times).toBe(3)
  })

  test('patch a byte of its code', () => {
    // XOR EAX, EAX; RET.
    const firmware = ovmf([
      quirk({
        powerOn: ({ write }) => {
          write(GET_TIME, Uint8Array.of(0x31, 0xc0, 0xc3))
        },
      }),
    ])
    const caller = bootToRuntime(firmware)
    const time = caller.room(16)
    caller.cpu.write64(time, 0x1234n)
    expect(caller.service('GetTime', time, 0n)).toBe(EfiStatus.SUCCESS)
    expect(caller.cpu.read64(time)).toBe(0x1234n)
  })

  test('bring an image of their own, which SetVirtualAddressMap tells of the new addresses', () => {
    let base = 0
    const firmware = ovmf([
      quirk({
        powerOn: ({ loadDriver, write64 }) => {
          const driver = loadDriver('AcmeDxe')
          base = driver.base
          write64(base + 0x1000, 7n)
          driver.pointer('mAcme', base + 0x1008)
        },
      }),
    ])
    const { machine } = firmware.powerOn()
    expect(machine.memory.owners.get(base / 4096)).toEqual({ kind: 'firmware', name: 'AcmeDxe' })
    const page = firmware.describePhysical(base)
    expect(page).toContain('RuntimeServicesCode')
    expect(page).toContain('image AcmeDxe')

    const caller = boot(firmware)
    const { map, stride } = caller.getMemoryMap()
    const memoryMap = decodeMemoryMap(map, Number(stride))
    expect(caller.exitBootServices()).toBe(EfiStatus.SUCCESS)
    const moved = Caller.runtimeMap(memoryMap)
    // Machine code uses more of the stack than the one page that is mapped for callers.
    caller.cpu.rsp = (caller.room(0x4000) + 0x3f00n) & ~0xffn
    caller.useOwnTables(memoryMap, { identity: true })
    expect(caller.setVirtualAddressMap(moved)).toBe(EfiStatus.SUCCESS)
    const slots = [...new BigUint64Array(caller.machine.memory.read(base, 0x2000).buffer)]
    expect(slots).toContain(VIRTUAL_BASE + BigInt(base + 0x1008))
    // So does the pointer to its globals, which an image with PE headers would have relocated.
    expect(slots).toContain(VIRTUAL_BASE + BigInt(base + 0x1000))
    expect(slots).not.toContain(BigInt(base + 0x1000))
  })

  test('give another function to the runtime services table', () => {
    let replaced = 0
    const firmware = ovmf([
      quirk({
        powerOn: ({ allocate, code, replaceService }) => {
          const address = code({
            address: allocate({ type: MemoryType.RuntimeServicesCode, pages: 1, name: 'Acme' }),
            image: 'Acme',
            service: 'GetTime',
            name: 'LyingGetTime',
            run: () => EfiStatus.DEVICE_ERROR,
          })
          replaced = replaceService('GetTime', address)
        },
      }),
    ])
    expect(getTime(bootToRuntime(firmware))).toBe(EfiStatus.DEVICE_ERROR)
    expect(replaced).toBe(GET_TIME)
  })

  test('or none: a variable is there again after a reset, from the flash', () => {
    const firmware = ovmf()
    const caller = bootToRuntime(firmware)
    const guid = 'cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0'
    const data = caller.put(Uint8Array.of(1, 2, 3, 4))
    const [name, vendor] = [caller.text('TrapdoorKept'), caller.guid(guid)]
    expect(caller.service('SetVariable', name, vendor, 7n, 4n, data)).toBe(EfiStatus.SUCCESS)
    const powered = firmware.afterReset(caller.machine)
    const again = new Caller(powered)
    expect(again.exitBootServices()).toBe(EfiStatus.SUCCESS)
    const [size, room] = [again.number(4n), again.room(4)]
    const [same, ofSame] = [again.text('TrapdoorKept'), again.guid(guid)]
    expect(again.service('GetVariable', same, ofSame, 0n, size, room)).toBe(EfiStatus.SUCCESS)
    expect([...again.cpu.readBytes(room, 4)]).toEqual([1, 2, 3, 4])
  })

  test('or none: each boot counts, by the variable that was written last', () => {
    const firmware = ovmf()
    const caller = bootToRuntime(firmware)
    const first = highCount(caller)
    let { machine } = caller
    // The boot takes one, and so does the call, whether the boot before has called or not.
    for (const expected of [first + 2, first + 4]) {
      const again = new Caller(firmware.afterReset(machine))
      expect(again.exitBootServices()).toBe(EfiStatus.SUCCESS)
      expect(highCount(again)).toBe(expected)
      machine = again.machine
    }
    const unused = firmware.afterReset(machine).machine
    const last = new Caller(firmware.afterReset(unused))
    expect(last.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect(highCount(last)).toBe(first + 7)
  })
})
