import { type GateCall, PageFault } from '@trapdoor/core'
import { EfiStatus, type EfiTime, encodeTime, Guid, parseGuid, ResetType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { type ArgumentPlace, EfiServices, type Kernel } from '../src/index.ts'
import { boot, inSwapper } from './booted.ts'
import { readString, type SmallMachineOptions } from './small-machine.ts'

type Services = NonNullable<SmallMachineOptions['services']>

const PLACES: readonly ArgumentPlace[] = ['stack', 'kmalloc', 'module', 'vmalloc']
const VENDOR_GUID = '12345678-9abc-def0-1122-334455667788'
const MOMENT: EfiTime = {
  year: 2010,
  month: 8,
  day: 13,
  hour: 14,
  minute: 39,
  second: 25,
  nanosecond: 7,
  timeZone: -60,
  daylight: 1,
}
const PERSIST = 0x1_0000

function servicesOf(kernel: Kernel, place: ArgumentPlace = 'stack', cpu = 0): EfiServices {
  return new EfiServices(kernel, kernel.machine.cpus[cpu]!, place)
}

/** A kernel on a firmware with these services, and its services with arguments in `place`. */
function withFirmware(services: Services, place: ArgumentPlace = 'stack'): EfiServices {
  return servicesOf(boot({ services }).kernel, place)
}

/** Which part of the address space of 2.6.35 an address is in. */
function regionOf(address: bigint): string {
  if (address >= 0xffff_8800_0000_0000n && address < 0xffff_c800_0000_0000n) return 'direct map'
  if (address >= 0xffff_c900_0000_0000n && address < 0xffff_e900_0000_0000n) return 'vmalloc'
  if (address >= 0xffff_ffff_a000_0000n && address < 0xffff_ffff_ff00_0000n) return 'modules'
  return 'elsewhere'
}

describe.each([
  { place: 'stack', region: 'direct map', owner: 'task stack' },
  { place: 'kmalloc', region: 'direct map', owner: 'kmalloc buffer' },
  { place: 'module', region: 'modules', owner: 'module data' },
  { place: 'vmalloc', region: 'vmalloc', owner: 'vmalloc buffer' },
] as const)('arguments in $place memory', ({ place, region, owner }) => {
  test('are virtual addresses there, all of them', () => {
    const { kernel, calls, machine } = boot()
    servicesOf(kernel, place).getVariable('Boot0000', Guid.GLOBAL_VARIABLE).run()
    const { args } = calls[0]!
    expect(args.map(regionOf)).toEqual([region, region, region, region, region])
    for (const address of args) {
      const found = inSwapper(kernel, address)
      expect(
        found.status === 'mapped' && machine.memory.owners.get(Math.floor(found.physical / 4096)),
      ).toMatchObject({ name: `${owner} of the first kernel` })
    }
  })

  test('reach the firmware as the kernel wrote them, and results come back', () => {
    let asked: unknown
    const services = withFirmware(
      {
        GetVariable: ({ cpu, args }: GateCall) => {
          const [name, guid, attributes, size, data] = args as [
            bigint,
            bigint,
            bigint,
            bigint,
            bigint,
          ]
          asked = {
            name: readString(cpu, name),
            guid: cpu.readBytes(guid, 16),
            size: cpu.read64(size),
          }
          cpu.write32(attributes, 7)
          cpu.write64(size, 3n)
          cpu.writeBytes(data, Uint8Array.of(1, 2, 3))
          return EfiStatus.SUCCESS
        },
      },
      place,
    )
    expect(services.getVariable('Boot0000', VENDOR_GUID, 512).run()).toEqual({
      status: EfiStatus.SUCCESS,
      value: { attributes: 7, data: Uint8Array.of(1, 2, 3) },
    })
    expect(asked).toEqual({
      name: 'Boot0000',
      guid: Uint8Array.from(Buffer.from('78563412bc9af0de1122334455667788', 'hex')),
      size: 512n,
    })
  })

  test('do not overlap', () => {
    const { kernel, calls } = boot()
    const data = new Uint8Array(100).fill(0xee)
    servicesOf(kernel, place).setVariable('A', VENDOR_GUID, 7, data).run()
    const [name, guid, , , at] = calls[0]!.args
    const starts = [name!, guid!, at!].toSorted((a, b) => (a < b ? -1 : 1))
    const { bootCpu: cpu } = kernel
    expect(readString(cpu, name!)).toBe('A')
    expect(cpu.readBytes(guid!, 16)).toEqual(parseGuid(VENDOR_GUID))
    expect(cpu.readBytes(at!, 100)).toEqual(data)
    expect(new Set(starts).size).toBe(3)
  })
})

describe('vmalloc memory', () => {
  test('is taken in pages: no two arguments share one', () => {
    const { kernel, calls } = boot()
    servicesOf(kernel, 'vmalloc').getVariable('Boot0000', Guid.GLOBAL_VARIABLE).run()
    const pages = calls[0]!.args.map((address) => address >> 12n)
    expect(new Set(pages).size).toBe(5)
    expect(calls[0]!.args.map((address) => address & 0xfffn)).toEqual([0n, 0n, 0n, 0n, 0n])
  })

  test('comes round after 64 pages, and then the TLB is flushed', () => {
    const { kernel, machine } = boot()
    const services = servicesOf(kernel, 'vmalloc')
    const addresses: bigint[] = []
    const before = machine.bootCpu.counters.globalFlushes
    const flushes: number[] = []
    // The time, and the capabilities: two pages a call.
    for (let call = 0; call < 33; call++) {
      const prepared = services.getTime()
      addresses.push(...prepared.call!.args)
      flushes.push(machine.bootCpu.counters.globalFlushes - before)
      prepared.finish()
    }
    expect(flushes.slice(0, 32).every((count) => count === 0)).toBe(true)
    // CR4.PGE off and on again.
    expect(flushes[32]).toBe(2)
    expect(new Set(addresses.slice(0, 64)).size).toBe(64)
    expect(addresses.slice(64)).toEqual(addresses.slice(0, 2))
  })

  test('is each CPU’s own', () => {
    const { kernel } = boot({ cpus: 2 })
    const [first, second] = [0, 1].map(
      (cpu) => servicesOf(kernel, 'vmalloc', cpu).getTime().call!.args[0]!,
    )
    expect(first).not.toBe(second)
    expect([first, second].map((address) => regionOf(address!))).toEqual(['vmalloc', 'vmalloc'])
  })
})

test.each(PLACES.filter((place) => place !== 'vmalloc'))(
  '%s memory is given back when a call is over',
  (place) => {
    const { kernel } = boot()
    const addresses = Array.from({ length: 200 }, () => {
      const prepared = servicesOf(kernel, place).getVariable('x', VENDOR_GUID)
      prepared.run()
      return prepared.call!.args[4]
    })
    expect(new Set(addresses).size).toBe(1)
  },
)

test('two calls that are under way at once have arguments of their own', () => {
  const { kernel, calls } = boot()
  const services = servicesOf(kernel, 'kmalloc')
  const [first, second] = [services.getTime(), services.getTime()]
  first.run()
  second.run()
  expect(calls[0]!.args).not.toEqual(calls[1]!.args)
})

test('a failed call has a status and no value', () => {
  const services = withFirmware({ GetVariable: () => EfiStatus.NOT_FOUND })
  expect(services.getVariable('x', VENDOR_GUID).run()).toEqual({
    status: EfiStatus.NOT_FOUND,
    value: undefined,
  })
})

test('a kernel without runtime services answers EFI_UNSUPPORTED and calls nobody', () => {
  const { kernel, calls } = boot({ commandLine: 'noefi' })
  const prepared = servicesOf(kernel).getTime()
  expect(prepared.call).toBeUndefined()
  expect(prepared.run()).toEqual({ status: EfiStatus.UNSUPPORTED, value: undefined })
  expect(calls).toEqual([])
})

test('results are read where the firmware was told to put them, through the caller’s tables', () => {
  const { kernel } = boot()
  const prepared = servicesOf(kernel).getTime()
  prepared.call!.run()
  kernel.bootCpu.writeCr3(kernel.newPageTable('empty').root)
  kernel.bootCpu.tlb.flushAll()
  expect(() => prepared.finish()).toThrow(PageFault)
})

describe('each service has its arguments in the specification’s order', () => {
  const time = encodeTime(MOMENT)

  test('GetTime: time, capabilities', () => {
    const services = withFirmware({
      GetTime: ({ cpu, args }) => {
        cpu.writeBytes(args[0]!, time)
        cpu.write32(args[1]!, 1)
        return EfiStatus.SUCCESS
      },
    })
    expect(services.getTime().run().value).toEqual(MOMENT)
  })

  test('SetTime: time', () => {
    let set: unknown
    withFirmware({
      SetTime: ({ cpu, args }) => {
        set = cpu.readBytes(args[0]!, 16)
        return EfiStatus.SUCCESS
      },
    })
      .setTime(MOMENT)
      .run()
    expect(set).toEqual(time)
  })

  test('GetWakeupTime: enabled, pending, time', () => {
    const services = withFirmware({
      GetWakeupTime: ({ cpu, args }) => {
        cpu.write8(args[0]!, 1)
        cpu.write8(args[1]!, 0)
        cpu.writeBytes(args[2]!, time)
        return EfiStatus.SUCCESS
      },
    })
    expect(services.getWakeupTime().run().value).toEqual({
      enabled: true,
      pending: false,
      time: MOMENT,
    })
  })

  test('SetWakeupTime: enable, time; two zeros to switch it off', () => {
    const seen: unknown[] = []
    const services = withFirmware({
      SetWakeupTime: ({ cpu, args }) => {
        seen.push(args[0], args[1] === 0n ? 0n : cpu.readBytes(args[1]!, 16))
        return EfiStatus.SUCCESS
      },
    })
    services.setWakeupTime(MOMENT).run()
    services.setWakeupTime(undefined).run()
    expect(seen).toEqual([1n, time, 0n, 0n])
  })

  test('SetVariable: name, GUID, attributes, size, data', () => {
    let set: unknown
    withFirmware({
      SetVariable: ({ cpu, args }) => {
        set = [
          readString(cpu, args[0]!),
          cpu.readBytes(args[1]!, 16),
          args[2],
          args[3],
          cpu.readBytes(args[4]!, Number(args[3])),
        ]
        return EfiStatus.SUCCESS
      },
    })
      .setVariable('dump-type0', VENDOR_GUID, 7, Uint8Array.of(5, 6))
      .run()
    expect(set).toEqual(['dump-type0', parseGuid(VENDOR_GUID), 7n, 2n, Uint8Array.of(5, 6)])
  })

  test('GetNextVariableName: size, name, GUID, each of them in and out', () => {
    const asked: unknown[] = []
    const services = withFirmware({
      GetNextVariableName: ({ cpu, args }) => {
        const [size, name, guid] = args as [bigint, bigint, bigint]
        asked.push(cpu.read64(size), readString(cpu, name), cpu.readBytes(guid, 16))
        cpu.writeBytes(name, Uint8Array.of(0x4f, 0, 0x4b, 0, 0, 0))
        cpu.write64(size, 6n)
        cpu.writeBytes(guid, parseGuid(VENDOR_GUID))
        return EfiStatus.SUCCESS
      },
    })
    const first = services.getNextVariableName().run().value
    expect(first).toEqual({ name: 'OK', guid: VENDOR_GUID })
    services.getNextVariableName(first).run()
    expect(asked).toEqual([256n, '', new Uint8Array(16), 256n, 'OK', parseGuid(VENDOR_GUID)])
  })

  test('QueryVariableInfo: attributes, maximum, remaining, largest', () => {
    const services = withFirmware({
      QueryVariableInfo: ({ cpu, args }) => {
        cpu.write64(args[1]!, args[0]! << 8n)
        cpu.write64(args[2]!, 0x8000n)
        cpu.write64(args[3]!, 0x400n)
        return EfiStatus.SUCCESS
      },
    })
    expect(services.queryVariableInfo(7).run().value).toEqual({
      maximumStorage: 0x700n,
      remainingStorage: 0x8000n,
      maximumVariable: 0x400n,
    })
  })

  test('GetNextHighMonotonicCount: count', () => {
    const services = withFirmware({
      GetNextHighMonotonicCount: ({ cpu, args }) => {
        cpu.write32(args[0]!, 42)
        return EfiStatus.SUCCESS
      },
    })
    expect(services.getNextHighMonotonicCount().run().value).toBe(42)
  })

  test('QueryCapsuleCapabilities: an array of one header, its length, maximum size, reset type', () => {
    let header: unknown
    const services = withFirmware({
      QueryCapsuleCapabilities: ({ cpu, args }) => {
        header = [args[1], cpu.readBytes(cpu.read64(args[0]!), 28)]
        cpu.write64(args[2]!, 0x10_0000n)
        cpu.write32(args[3]!, ResetType.Warm)
        return EfiStatus.SUCCESS
      },
    })
    expect(services.queryCapsuleCapabilities(VENDOR_GUID, PERSIST).run().value).toEqual({
      maximumSize: 0x10_0000n,
      resetType: 1,
    })
    const bytes = new Uint8Array(28)
    bytes.set(parseGuid(VENDOR_GUID))
    bytes.set([28, 0, 0, 0, 0, 0, 1, 0, 29, 0, 0, 0], 16)
    expect(header).toEqual([1n, bytes])
  })

  test('UpdateCapsule: the array, its length, and a scatter-gather list at a physical address', () => {
    let seen: unknown
    const { kernel } = boot({
      services: {
        UpdateCapsule: ({ cpu, args }) => {
          seen = [args[1], cpu.readBytes(cpu.read64(args[0]!), 16)]
          return EfiStatus.SUCCESS
        },
      },
    })
    const payload = new Uint8Array([1, 2, 3])
    const prepared = servicesOf(kernel, 'vmalloc').updateCapsule(VENDOR_GUID, PERSIST, payload)
    const list = Number(prepared.call!.args[2])
    prepared.run()
    expect(seen).toEqual([1n, parseGuid(VENDOR_GUID)])
    expect(kernel.machine.memory.owners.get(Math.floor(list / 4096))?.name).toBe(
      'kmalloc buffer of the first kernel',
    )
    const { memory } = kernel.machine
    expect(memory.read64(list)).toBe(32n)
    expect(memory.read(list + 16, 16)).toEqual(new Uint8Array(16))
    const capsule = memory.read(Number(memory.read64(list + 8)), 32)
    expect(capsule.subarray(28, 31)).toEqual(payload)
    expect(capsule.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0)
  })

  test('ResetSystem: type, status, no data', () => {
    const { kernel, calls } = boot()
    servicesOf(kernel).resetSystem(ResetType.Shutdown).run()
    expect(calls[0]).toMatchObject({ service: 'ResetSystem', args: [2n, 0n, 0n, 0n] })
  })
})

describe('arguments that do not fit', () => {
  test.each(['kmalloc', 'module', 'vmalloc'] as const)('are refused in %s memory', (place) => {
    const services = servicesOf(boot().kernel, place)
    expect(() => services.getVariable('Boot0000', Guid.GLOBAL_VARIABLE, 0x10_0000)).toThrow(
      expect.objectContaining({ code: 'KERNEL_NO_ROOM' }),
    )
  })
})
