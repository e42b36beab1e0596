import { CpuException } from '@trapdoor/core'
import { decodeMemoryMap, decodeUcs2, EfiStatus, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { createFirmware, FirmwareDeadLoop, FirmwareError, type Quirk } from '../src/index.ts'
import {
  boot,
  bootToRuntime,
  Caller,
  SMALL_MAP,
  smallFirmware,
  VIRTUAL_BASE,
} from '@trapdoor/plugin-kit'

function quirk(hooks: Quirk['hooks'], id = 'Q99'): Quirk {
  return { id, name: 'made-up', title: 'made up', sources: [], hooks }
}

const getTime = (caller: Caller): bigint => caller.service('GetTime', caller.room(16), 0n)

/** What `run` throws, in the fields that a person reads. */
function complaint(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    if (!(error instanceof FirmwareError)) throw error
    return { code: error.code, expected: error.expected, found: error.found, hint: error.hint }
  }
  return undefined
}

/** What createFirmware says to a quirk that does this at power-on. */
function atPowerOn(powerOn: NonNullable<Quirk['hooks']['powerOn']>): unknown {
  return complaint(() => smallFirmware([quirk({ powerOn })]))
}

describe('a broken quirk', () => {
  test('with an unknown hook is refused with the nearest name', () => {
    const misspelt = quirk({ ...({ beforeServise: () => undefined } as object) })
    expect(complaint(() => smallFirmware([misspelt]))).toEqual({
      code: 'FIRMWARE_BAD_QUIRK',
      expected: 'a hook of the firmware',
      found: '"beforeServise" in quirk Q99 (made-up)',
      hint: 'did you mean "beforeService"?',
    })
  })

  test('listed twice is refused', () => {
    expect(complaint(() => smallFirmware([quirk({}), quirk({})]))).toMatchObject({
      code: 'FIRMWARE_BAD_QUIRK',
      found: 'Q99 (made-up) twice',
    })
  })

  test('that returns a promise is named, with the hook', () => {
    const caller = bootToRuntime(
      smallFirmware([
        quirk({ beforeService: () => Promise.reject(new Error('later')) as unknown as undefined }),
      ]),
    )
    expect(complaint(() => getTime(caller))).toMatchObject({
      code: 'FIRMWARE_BAD_QUIRK',
      expected: 'a hook that returns at once',
      found: 'a promise, in hook "beforeService" of quirk Q99 (made-up)',
    })
  })

  test('that throws is named, with the hook and the cause', () => {
    const caller = bootToRuntime(
      smallFirmware([
        quirk({
          beforeService: () => {
            throw new TypeError('no such property')
          },
        }),
      ]),
    )
    expect(complaint(() => getTime(caller))).toEqual({
      code: 'FIRMWARE_QUIRK_FAILED',
      expected: 'hook "beforeService" of quirk Q99 (made-up) to run',
      found: 'TypeError: no such property',
      hint: undefined,
    })
  })

  test('is not blamed for what a kernel throws whose interrupt handler ran inside the firmware', () => {
    class Panic extends Error {}
    const reads = quirk({ beforeService: (call) => BigInt(call.read8(0n)) })
    const caller = bootToRuntime(smallFirmware([reads]))
    const time = caller.room(16)
    caller.cpu.touchRecorder = (frame) => {
      if (frame === 0) throw new Panic('Fatal exception in interrupt')
    }
    expect(() => caller.service('GetTime', time, 0n)).toThrow(Panic)
  })

  test('that uses a slot nobody made is told which there are', () => {
    const caller = bootToRuntime(
      smallFirmware([quirk({ beforeService: (call) => call.pointer('mine') })]),
    )
    expect(complaint(() => getTime(caller))).toMatchObject({
      code: 'FIRMWARE_BAD_SETUP',
      expected: 'a pointer slot of PcRtc',
      hint: 'it has gRT, gST, globals, mModuleGlobal; setup.pointer() makes one at power-on',
    })
  })

  test('that sets up what cannot be is refused at power-on', () => {
    expect(atPowerOn((setup) => setup.pointer('PcRtx', 'mine', 0))).toMatchObject({
      found: '"PcRtx", in hook "powerOn" of quirk Q99 (made-up)',
    })
    expect(atPowerOn((setup) => setup.pointer('PcRtc', 'gRT', 0))).toMatchObject({
      found: expect.stringMatching(/^"gRT", in hook/),
    })
    expect(
      atPowerOn((setup) => {
        setup.allocateOutsideMap({ address: 0xffc0_0000, pages: 1, name: 'flash' })
      }),
    ).toMatchObject({ found: expect.stringMatching(/^MemoryMappedIO from 0x00000000ffc00000, in/) })
    expect(
      atPowerOn((setup) => setup.identify({ vendor: 'a vendor whose name has no end in sight' })),
    ).toMatchObject({ expected: 'a vendor of at most 31 characters' })
    expect(
      atPowerOn((setup) => {
        setup.allocate({ type: MemoryType.RuntimeServicesData, pages: 0x1000, name: 'too much' })
      }),
    ).toMatchObject({ code: 'FIRMWARE_NO_ROOM' })
  })
})

describe('hooks', () => {
  test('end a service early, or change what it returns, in the order of the quirks', () => {
    const seen: string[] = []
    const first = quirk({
      beforeService: (call) => {
        seen.push(`first ${call.service} of ${call.image}`)
        return call.service === 'GetTime' ? EfiStatus.DEVICE_ERROR : undefined
      },
      afterService: (status) => status + 1n,
    })
    const second = quirk({ beforeService: () => void seen.push('second') }, 'Q98')
    const caller = bootToRuntime(smallFirmware([first, second]))
    expect(getTime(caller)).toBe(EfiStatus.DEVICE_ERROR + 1n)
    expect(seen).toEqual(['first GetTime of PcRtc'])
  })

  test('change the reported map and leave the images where they are', () => {
    const firmware = smallFirmware([quirk({ memoryMap: (map) => map.toReversed() })])
    expect(decodeMemoryMap(boot(firmware).getMemoryMap().map, 48)).toEqual(SMALL_MAP.toReversed())
    expect(firmware.images).toEqual(smallFirmware().images)
  })

  test('see the map that SetVirtualAddressMap was given, and may refuse it', () => {
    const counts: number[] = []
    const refuse = quirk({
      setVirtualAddressMap: (_, map) => {
        counts.push(map.read().length)
        return EfiStatus.UNSUPPORTED
      },
    })
    const caller = bootToRuntime(smallFirmware([refuse]))
    expect(caller.setVirtualAddressMap(SMALL_MAP)).toBe(EfiStatus.UNSUPPORTED)
    expect(counts).toEqual([SMALL_MAP.length])
  })

  test('run once at ExitBootServices, and not when that fails', () => {
    const notes = quirk({ exitBootServices: (call) => call.note(`bye from ${call.image}`) })
    const caller = boot(smallFirmware([notes]))
    const said = (): string[] =>
      caller.machine.log.events.flatMap((event) => (event.kind === 'message' ? [event.text] : []))
    caller.bootService('ExitBootServices', caller.imageHandle, 0n)
    expect(said()).toEqual([])
    caller.exitBootServices()
    expect(said()).toEqual(['bye from DxeCore'])
  })

  test('run at each ExitBootServices before its map key is looked at, with boot services at hand', () => {
    const grows = quirk({
      beforeExitBootServices: (call) => {
        const room = call.cpu.rsp - 0x100n
        const allocatePages = call.read64(call.pointer('gBS') + 0x28n)
        call.call(allocatePages, 0n, BigInt(MemoryType.BootServicesData), 1n, room)
      },
    })
    const caller = boot(smallFirmware([grows]))
    const { key } = caller.getMemoryMap()
    expect(caller.exitBootServices()).toBe(EfiStatus.INVALID_PARAMETER)
    expect(caller.getMemoryMap().key).toBe(key + 1n)
  })

  test('run in the event of each image at physical addresses, with its slots converted', () => {
    const pool = quirk({
      powerOn: (setup) => {
        const data = setup.allocate({
          type: MemoryType.RuntimeServicesData,
          pages: 1,
          name: 'pool',
        })
        setup.pointer('PcRtc', 'converted', data)
        setup.pointer('PcRtc', 'kept', data, { convert: false })
      },
      virtualAddressChange: (call) => {
        if (call.image !== 'PcRtc') return
        const delta = call.pointer('converted') - call.pointer('kept')
        call.note(`delta 0x${delta.toString(16)}, running below 4 GiB: ${call.rip < 2n ** 32n}`)
      },
    })
    const caller = bootToRuntime(smallFirmware([pool]))
    caller.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP))
    const last = caller.machine.log.events.findLast((event) => event.kind === 'message')
    expect(last).toMatchObject({
      text: `delta 0x${VIRTUAL_BASE.toString(16)}, running below 4 GiB: true`,
    })
  })

  test('hang the machine, or fault on it, without being blamed for it', () => {
    const hang = quirk({ beforeService: (call) => call.deadLoop('ASSERT (FALSE)') })
    const fault = quirk({ beforeService: (call) => call.read64(0xdead_0000_0000_0000n) })
    expect(() => getTime(bootToRuntime(smallFirmware([hang])))).toThrow(FirmwareDeadLoop)
    expect(() => getTime(bootToRuntime(smallFirmware([fault])))).toThrow(CpuException)
  })

  test('may place code in boot-services memory, which is #UD once that is overwritten', () => {
    const hook = quirk({
      powerOn: (setup) => {
        const address = setup.allocate({
          type: MemoryType.BootServicesCode,
          pages: 1,
          name: 'hook',
        })
        const code = { address, image: 'Oem', name: 'Hook', service: 'GetTime' } as const
        setup.code({ ...code, run: () => EfiStatus.NOT_FOUND })
        setup.pointer('PcRtc', 'hook', address, { convert: false })
      },
      beforeService: (call) =>
        call.image === 'PcRtc' ? call.call(call.pointer('hook')) : undefined,
    })
    const caller = bootToRuntime(smallFirmware([hook]))
    expect(getTime(caller)).toBe(EfiStatus.NOT_FOUND)
    const { machine } = caller
    machine.memory.fill(0x3410_0000, 0x3450_0000, 0)
    expect(() => getTime(caller)).toThrow('no instruction at')
  })
})

describe('the setup', () => {
  test('changes what GetMemoryMap reports, and nothing that is there', () => {
    const last = SMALL_MAP.at(-1)!
    const firmware = smallFirmware([
      quirk({ powerOn: (setup) => setup.reportMap((map) => map.slice(0, -1)) }),
    ])
    const reported = decodeMemoryMap(boot(firmware).getMemoryMap().map, 48)
    expect(reported).toEqual(SMALL_MAP.slice(0, -1))
    expect(firmware.memoryMap).toEqual(reported)
    const { owners } = boot(firmware).machine.memory
    expect(owners.get(last.physicalStart / 4096)).toEqual({ kind: 'device', name: 'MMIO' })
  })

  test('names the vendor and the revision, before 2.0 without the services that came with it', () => {
    const old = boot(
      smallFirmware([
        quirk({ powerOn: (setup) => setup.identify({ vendor: 'Apple', revision: 0x1_000a }) }),
      ]),
    )
    const { cpu, systemTable, runtimeTable } = old
    expect(decodeUcs2(cpu.readBytes(cpu.read64(systemTable + 0x18n), 12))).toBe('Apple')
    expect([cpu.read32(systemTable + 8n), cpu.read32(runtimeTable + 8n)]).toEqual([
      0x1_000a, 0x1_000a,
    ])
    expect(cpu.read32(runtimeTable + 12n)).toBe(0x70)
    const behindResetSystem = [0x70n, 0x78n, 0x80n].map((at) => cpu.read64(runtimeTable + at))
    expect(behindResetSystem).toEqual([0n, 0n, 0n])
  })
})

describe('a machine that was powered on', () => {
  test('shares nothing with another of the same firmware', () => {
    const firmware = createFirmware({ name: 'small', memoryMap: SMALL_MAP })
    const [one, two] = [boot(firmware), boot(firmware)]
    one.exitBootServices()
    one.setVirtualAddressMap(Caller.runtimeMap(SMALL_MAP))
    const three = boot(firmware)
    expect(two.getMemoryMap()).toEqual(three.getMemoryMap())
    expect(getTime(two)).toBe(EfiStatus.SUCCESS)
    expect(two.exitBootServices()).toBe(EfiStatus.SUCCESS)
    expect(two.setVirtualAddressMap([])).toBe(EfiStatus.SUCCESS)
  })

  test('can be forked half-way, and both go on', () => {
    const { machine, systemTable, imageHandle } = bootToRuntime(smallFirmware())
    const fork = new Caller({
      machine: machine.fork(),
      systemTable: Number(systemTable),
      imageHandle,
    })
    expect(fork.setVirtualAddressMap([])).toBe(EfiStatus.SUCCESS)
    expect(fork.setVirtualAddressMap([])).toBe(EfiStatus.UNSUPPORTED)
    const original = new Caller({ machine, systemTable: Number(systemTable), imageHandle })
    expect(original.setVirtualAddressMap([])).toBe(EfiStatus.SUCCESS)
  })
})
