import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspectAddress, type Inspection } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import {
  EfiStatus,
  Guid,
  isRuntime,
  MemoryAttribute,
  type MemoryDescriptor,
  MemoryType,
  ResetType,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

const MACHINE = join(import.meta.dirname, '../../../configs/demo/ovmf-q35-4m.txt')
const MAPPED_ROOTS = new Set(['swapper_pg_dir', 'boot loader', 'boot.efi', 'boot manager', 'stub'])

interface Played extends CaseTrace {
  readonly kernels: readonly Kernel[]
}

/** Boots with a strategy, and calls a few services. */
async function play(
  strategy: string,
  setting: {
    readonly quirk?: NonNullable<Plugin['quirks']>[number]
    readonly text?: (log: string) => string
    readonly after?: (context: ScenarioContext) => void
  } = {},
): Promise<Played> {
  const kernels: Kernel[] = []
  const scenario: Scenario = {
    name: 'test',
    title: 'a test',
    steps: [
      {
        name: 'test',
        run: (context) => {
          kernels.push(context.boot())
          context.call(context.services().getTime())
          context.call(context.services('vmalloc').getNextVariableName())
          setting.after?.(context)
        },
      },
    ],
  }
  const text = (setting.text ?? ((log) => log))(readFileSync(MACHINE, 'utf8'))
  const loaded = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      {
        name: 'test',
        apiVersion: 1,
        scenarios: [scenario],
        quirks: setting.quirk === undefined ? [] : [setting.quirk],
      },
    ],
    overrides: { memoryMaps: [MACHINE] },
  })
  const bytes = new TextEncoder().encode(text)
  const [map] = loaded.memoryMaps
  const config = { ...loaded, memoryMaps: [{ ...map!, bytes }] }
  const cell = `ovmf-q35-4m/${setting.quirk?.id ?? 'none'}/${strategy}/test`
  return { ...traceCase(createEnvironment(config), findCase(config, cell)), kernels }
}

/** What the root of calls says of an address. */
function inCalls(kernel: Kernel, address: bigint): Inspection {
  const root = kernel.roots.find(
    ({ name }) => !MAPPED_ROOTS.has(name) && !name.startsWith('mm of') && !name.includes('with'),
  )!
  return inspectAddress(kernel.bootCpu.translationContext(root.root), address)
}

function runtimeRegions(kernel: Kernel): MemoryDescriptor[] {
  return kernel.requireEfi.memoryMap.filter(isRuntime)
}

/** Physical address of the first device that is runtime memory. */
function deviceOf(kernel: Kernel): bigint {
  const device = runtimeRegions(kernel).find(({ type }) => type === MemoryType.MemoryMappedIO)
  return BigInt(device!.physicalStart)
}

/** The flash without any cacheability, as some Dell machines list a device. */
function withoutCacheability(log: string): string {
  return log.replace(/(\[MMIO +\|RUN\|[^\]]*)\|UC\]/, '$1|  ]')
}

/** The first region of boot-services data without any cacheability but UC. */
function uncachedBootData(log: string): string {
  return log.replace(/(\[Boot Data[^\]]*\|)WB\|WT\|WC\|UC\]/, '$1  |  |  |UC]')
}

function callAfterFault(context: ScenarioContext): void {
  context.call(context.services().getVariable('Boot0000', Guid.GLOBAL_VARIABLE))
  context.call(context.services().getTime())
}

describe.each([
  ['xen', false],
  ['xen:svam=on', true],
  ['esxi', true],
  ['esxi:policy=sparse', true],
  ['esxi:policy=compact', true],
  ['esxi:policy=contig', true],
  ['esxi:oldAndNew=on', true],
  ['freebsd', true],
  ['freebsd:vmap=off', false],
  ['openbsd', false],
  ['netbsd', false],
  ['macos', true],
  ['windows', true],
  ['windows:attributes=none', true],
  ['constant-offset', true],
  ['arm64', false],
  ['arm64:map=flat', true],
  ['arm64:map=virtual', true],
])('%s', (strategy, isVirtual) => {
  test(`calls services${isVirtual ? ' after' : ' without'} SetVirtualAddressMap`, async () => {
    const { result, kernels, events } = await play(strategy)
    expect(result.services.map(({ ok }) => ok)).toEqual([true, true])
    expect(result.outcome).toBe('ok')
    expect(kernels[0]!.requireEfi.virtualMode).toBe(isVirtual)
    const calls = events.filter(
      (event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap',
    )
    expect(calls.length > 0).toBe(isVirtual)
  })
})

describe('where regions are', () => {
  test('under ESXi’s policies: at a constant, from the lowest on, near ones kept apart, butted together', async () => {
    const starts = async (policy: string): Promise<bigint[]> => {
      const { kernels } = await play(`esxi:policy=${policy}`)
      return kernels[0]!.requireEfi.memoryMap.map(({ virtualStart }) => virtualStart)
    }
    const { kernels } = await play('esxi:policy=simple')
    const regions = kernels[0]!.requireEfi.memoryMap
    const base = 0xffff_8080_0000_0000n
    const physical = regions.map(({ physicalStart }) => BigInt(physicalStart))
    const lowest = physical[0]!
    expect(await starts('simple')).toEqual(physical.map((start) => base + start))
    expect(await starts('sparse')).toEqual(physical.map((start) => base + start - lowest))
    let end = base
    for (const [index, start] of (await starts('contig')).entries()) {
      expect(start).toBe(end)
      end += BigInt(regions[index]!.numberOfPages * 4096)
    }
    const compact = await starts('compact')
    const memory = regions.flatMap(({ type }, index) =>
      type === MemoryType.MemoryMappedIO ? [] : [index],
    )
    for (const index of memory.slice(1)) {
      expect(compact[index]! - compact[index - 1]!).toBe(physical[index]! - physical[index - 1]!)
    }
  })

  test('under macOS: in one piece, elsewhere than the firmware put them', async () => {
    const { kernels } = await play('macos')
    const moved = runtimeRegions(kernels[0]!).filter(
      ({ type }) => type !== MemoryType.MemoryMappedIO,
    )
    const places = moved.map(({ virtualStart }) => {
      const found = inCalls(kernels[0]!, virtualStart)
      return found.status === 'mapped' ? found.physical : undefined
    })
    for (const [index, { physicalStart, numberOfPages }] of moved.entries()) {
      expect(places[index]).not.toBe(physicalStart)
      expect(places[index + 1] ?? places[index]! + numberOfPages * 4096).toBe(
        places[index]! + numberOfPages * 4096,
      )
    }
  })

  test('under arm64’s old map: in the low half, where some firmware cannot live', async () => {
    const { kernels } = await play('arm64:map=virtual')
    for (const { virtualStart } of runtimeRegions(kernels[0]!)) {
      expect(virtualStart).toBeGreaterThanOrEqual(0x2000_0000n)
      expect(virtualStart).toBeLessThan(2n ** 47n)
    }
  })

  test('under Xen: among all RAM, page 0 included, with what the map says of caches', async () => {
    const { kernels } = await play('xen')
    expect(inCalls(kernels[0]!, 0n)).toMatchObject({ status: 'mapped', writable: true })
    expect(inCalls(kernels[0]!, 0x1000_0000n)).toMatchObject({ status: 'mapped' })
    expect(inCalls(kernels[0]!, deviceOf(kernels[0]!))).toMatchObject({ patIndex: 3 })
  })

  test('under Windows and LoongArch’s offset: nowhere 1:1', async () => {
    for (const strategy of ['windows', 'constant-offset']) {
      const { kernels } = await play(strategy)
      const kernel = kernels[0]!
      const [region] = runtimeRegions(kernel)
      const root = strategy === 'windows' ? kernel.tasks[0]!.tables.root : undefined
      const found =
        root === undefined
          ? inCalls(kernel, BigInt(region!.physicalStart))
          : inspectAddress(kernel.bootCpu.translationContext(root), BigInt(region!.physicalStart))
      expect(found.status).not.toBe('mapped')
    }
  })
})

/** RFLAGS.IF as firmware finds it in GetTime. */
async function interruptsInCalls(strategy: string): Promise<boolean[]> {
  const seen: boolean[] = []
  await play(strategy, {
    quirk: {
      id: 'F2',
      name: 'looks-at-if',
      title: 'notes RFLAGS.IF',
      sources: ['this test'],
      hooks: {
        beforeService: ({ service, cpu }) => {
          if (service === 'GetTime') seen.push(cpu.interruptFlag)
          return undefined
        },
      },
    },
  })
  return seen
}

/** The map that SetVirtualAddressMap gets, and what is mapped at both addresses of its first region meanwhile. */
async function passedTo(
  strategy: string,
): Promise<{ map: MemoryDescriptor[]; bothMapped: boolean }> {
  let map: MemoryDescriptor[] = []
  let bothMapped = false
  await play(strategy, {
    quirk: {
      id: 'F3',
      name: 'looks-at-map',
      title: 'notes what it is told',
      sources: ['this test'],
      hooks: {
        setVirtualAddressMap: ({ cpu }, passed) => {
          map = [...passed.read()]
          const region = map.find(isRuntime)!
          const context = cpu.translationContext()
          bothMapped = [BigInt(region.physicalStart), region.virtualStart].every(
            (address) => inspectAddress(context, address).status === 'mapped',
          )
          return undefined
        },
      },
    },
  })
  return { map, bothMapped }
}

/** Whether Xen lets runtime code with this attribute more be written to, under a firmware of `revision`. */
async function isCodeWritable(revision: number, attribute: bigint): Promise<boolean> {
  const { kernels } = await play('xen', {
    quirk: {
      id: 'F6',
      name: 'marks-code',
      title: 'code has an attribute more',
      sources: ['this test'],
      hooks: {
        powerOn: (setup) => {
          setup.identify({ revision })
        },
        memoryMap: (map) =>
          map.map((region) =>
            region.type === MemoryType.RuntimeServicesCode
              ? { ...region, attribute: region.attribute | attribute }
              : region,
          ),
      },
    },
  })
  const kernel = kernels[0]!
  const code = runtimeRegions(kernel).find(({ type }) => type === 5)!
  const found = inCalls(kernel, BigInt(code.physicalStart))
  return found.status === 'mapped' && found.writable
}

/** A firmware with another map, or of another revision. */
function firmware(
  hooks: NonNullable<Plugin['quirks']>[number]['hooks'],
): NonNullable<Plugin['quirks']>[number] {
  return { id: 'F7', name: 'another', title: 'another firmware', sources: ['this test'], hooks }
}

/** A map with a device of one page more. */
function withDevice(physicalStart: number): NonNullable<Plugin['quirks']>[number] {
  return firmware({
    memoryMap: (map) => [
      ...map,
      { ...map.find(isRuntime)!, type: 11, physicalStart, numberOfPages: 1 },
    ],
  })
}

describe('what tells systems apart', () => {
  test('OpenBSD and NetBSD take the map’s own word for rights, NetBSD for caches too; their interrupts are off and on', async () => {
    const [openbsd, netbsd] = await Promise.all(
      ['openbsd', 'netbsd'].map(async (strategy) => {
        const { kernels } = await play(strategy, {
          quirk: {
            id: 'F4',
            name: 'read-only-code',
            title: 'the map says that code is read-only',
            sources: ['this test'],
            hooks: {
              memoryMap: (map) =>
                map.map((region) =>
                  region.type === MemoryType.RuntimeServicesCode
                    ? { ...region, attribute: region.attribute | MemoryAttribute.RO }
                    : region,
                ),
            },
          },
        })
        const kernel = kernels[0]!
        const at = (type: number): bigint =>
          BigInt(runtimeRegions(kernel).find((region) => region.type === type)!.physicalStart)
        return {
          code: inCalls(kernel, at(MemoryType.RuntimeServicesCode)),
          data: inCalls(kernel, at(MemoryType.RuntimeServicesData)),
        }
      }),
    )
    expect(openbsd!.code).toMatchObject({ writable: false, executable: true })
    expect(netbsd!.code).toMatchObject({ writable: false, executable: true })
    // The map offers UC of all memory, and NetBSD takes the offer.
    expect([openbsd!.data, netbsd!.data]).toMatchObject([{ patIndex: 0 }, { patIndex: 2 }])
    for (const system of [openbsd, netbsd]) {
      expect(system!.data).toMatchObject({ writable: true, executable: false })
    }
    expect(await interruptsInCalls('openbsd')).toEqual([false])
    expect(await interruptsInCalls('netbsd')).toEqual([true])
  })

  test.each([
    ['xen', ['QueryVariableInfo', 'GetNextHighMonotonicCount', 'GetWakeupTime', 'ResetSystem']],
    ['freebsd', ['GetWakeupTime', 'ResetSystem']],
    ['openbsd', []],
    ['netbsd', []],
    [
      'windows',
      [
        'QueryVariableInfo',
        'GetNextHighMonotonicCount',
        'QueryCapsuleCapabilities',
        'GetWakeupTime',
        'ResetSystem',
      ],
    ],
  ])('%s calls the services that its source calls', async (strategy, others) => {
    const called: string[] = []
    await play(strategy, {
      after: (context) => {
        const services = context.services()
        const prepared = [
          services.getTime(),
          services.getVariable('Boot0000', Guid.GLOBAL_VARIABLE),
          services.getNextVariableName(),
          services.queryVariableInfo(7),
          services.getNextHighMonotonicCount(),
          services.queryCapsuleCapabilities(Guid.SMBIOS, 0),
          services.getWakeupTime(),
          services.resetSystem(ResetType.Cold),
        ]
        for (const { service, call } of prepared) if (call !== undefined) called.push(service)
      },
    })
    const ofAll = ['GetTime', 'GetVariable', 'GetNextVariableName']
    expect(new Set(called)).toEqual(new Set([...ofAll, ...others]))
  })

  test('NetBSD declines a region that its own half would be in', async () => {
    const { result } = await play('netbsd', {
      quirk: {
        id: 'F5',
        name: 'far-away',
        title: 'a device in the kernel’s half',
        sources: ['this test'],
        hooks: {
          memoryMap: (map) => [
            ...map,
            { ...map.find(isRuntime)!, type: 11, physicalStart: 2 ** 47, numberOfPages: 1 },
          ],
        },
      },
    })
    expect(result.reason).toContain('overlaps kernel map')
  })

  test('OpenBSD leaves firmware older than UEFI 2.1 alone', async () => {
    const reasons: string[] = []
    for (const revision of [0x1_000a, 0x2_0000, 0x2_000a]) {
      const { result } = await play('openbsd', {
        quirk: firmware({
          powerOn: (setup) => {
            setup.identify({ revision })
          },
        }),
      })
      reasons.push(result.outcome)
    }
    expect(reasons).toEqual(['refused', 'refused', 'ok'])
  })

  test('FreeBSD gives up at a region beyond user space, and maps boot services where a tunable says so', async () => {
    const { result } = await play('freebsd:vmap=off', { quirk: withDevice(2 ** 47) })
    expect(result.reason).toContain('an EFI Runtime entry is not in mappable for RT')
    const [usual, tunable] = await Promise.all(
      ['freebsd', 'freebsd:mapRegs=boot-services'].map(async (strategy) => {
        const { kernels } = await play(strategy)
        const kernel = kernels[0]!
        const data = kernel.requireEfi.firmwareMap.find(
          ({ type }) => type === MemoryType.BootServicesData,
        )!
        return inCalls(kernel, BigInt(data.physicalStart)).status
      }),
    )
    expect(usual).not.toBe('mapped')
    expect(tunable).toBe('mapped')
  })

  test('ESXi takes the first policy that fits its window, and boots without where the one that it is told does not', async () => {
    const beyond = withDevice(2 ** 39)
    const first = await play('esxi', { quirk: beyond })
    expect(first.result.outcome).toBe('ok')
    const starts = first.kernels[0]!.requireEfi.memoryMap.map(({ virtualStart }) => virtualStart)
    // Not at base + PA, which fits all but the device, but from the lowest region on.
    expect(starts[0]).toBe(0xffff_8080_0000_0000n)
    for (const policy of ['simple', 'simple-generic']) {
      const { result } = await play(`esxi:policy=${policy}`, { quirk: beyond })
      expect(result.outcome).toBe('refused')
      expect(result.reason).toContain('no supported policies')
    }
  })

  test('ESXi’s second policy has the addresses of the first, and nothing that the map does not list', async () => {
    const [simple, generic] = await Promise.all(
      ['simple', 'simple-generic'].map(async (policy) => {
        const { kernels } = await play(`esxi:policy=${policy}`)
        const [kernel] = kernels
        const loader = kernel!.roots.find(({ name }) => name === 'boot loader')!
        const starts = kernel!.requireEfi.memoryMap.map(({ virtualStart }) => virtualStart)
        const context = kernel!.bootCpu.translationContext(loader.root)
        return { starts, unlisted: inspectAddress(context, 0xffff_8080_fed0_0000n).status }
      }),
    )
    expect(simple!.starts).toEqual(generic!.starts)
    expect(simple!.unlisted).toBe('mapped')
    expect(generic!.unlisted).not.toBe('mapped')
  })

  test('Xen’s SetVirtualAddressMap gives runtime types an address though they lack the attribute, and Xen goes on', async () => {
    const { result, kernels } = await play('xen:svam=on', {
      quirk: firmware({
        memoryMap: (map) =>
          map.map((region) =>
            region.type === MemoryType.RuntimeServicesData
              ? { ...region, attribute: region.attribute & ~MemoryAttribute.RUNTIME }
              : region,
          ),
      }),
    })
    expect(result.outcome).not.toBe('refused')
    expect(kernels[0]!.requireEfi.virtualMode).toBe(true)
    const taken = runtimeRegions(kernels[0]!).map(({ type }) => type)
    expect(taken).toContain(MemoryType.RuntimeServicesData)
  })

  test('Xen loads CR3 with CR4.PGE off, on the way in and back', async () => {
    const { events } = await play('xen')
    const writes = events.flatMap((event) =>
      event.kind === 'cr3-write' || event.kind === 'cr4-write' || event.kind === 'call'
        ? [event.kind === 'call' ? event.name : event.kind]
        : [],
    )
    const at = writes.indexOf('GetTime')
    const [switched, back] = [writes.slice(at - 3, at), writes.slice(at + 1, at + 4)]
    expect(switched).toEqual(['cr4-write', 'cr3-write', 'cr4-write'])
    expect(back).toEqual(['cr4-write', 'cr3-write', 'cr4-write'])
  })

  test('FreeBSD has page 0 in its map, everything executable; efi_disable_vmap leaves SetVirtualAddressMap out', async () => {
    const kernel = (await play('freebsd')).kernels[0]!
    const data = runtimeRegions(kernel).find(({ type }) => type === 6)!
    expect(inCalls(kernel, 0n)).toMatchObject({ status: 'mapped', writable: true })
    expect(inCalls(kernel, BigInt(data.physicalStart))).toMatchObject({ executable: true })
    const { map } = await passedTo('freebsd')
    expect(map.every(isRuntime)).toBe(true)
    expect(
      map.every(({ physicalStart, virtualStart }) => virtualStart === BigInt(physicalStart)),
    ).toBe(true)
    expect((await passedTo('freebsd:vmap=off')).map).toEqual([])
  })

  test('Xen passes the whole map 1:1, with an address that is none for what is no runtime memory', async () => {
    const { map } = await passedTo('xen:svam=on')
    const others = map.filter((region) => !isRuntime(region))
    expect(others.length).toBeGreaterThan(50)
    expect(new Set(others.map(({ virtualStart }) => virtualStart))).toEqual(
      new Set([2n ** 64n - 1n]),
    )
    for (const { physicalStart, virtualStart } of map.filter(isRuntime)) {
      expect(virtualStart).toBe(BigInt(physicalStart))
    }
    expect((await passedTo('xen')).map).toEqual([])
  })

  test('Xen takes WP for read-only before UEFI 2.5, and RO after', async () => {
    const [old, recent] = [0x2_001f, 0x2_0046]
    expect(await isCodeWritable(old, MemoryAttribute.WP)).toBe(false)
    expect(await isCodeWritable(old, MemoryAttribute.RO)).toBe(true)
    expect(await isCodeWritable(recent, MemoryAttribute.WP)).toBe(true)
    expect(await isCodeWritable(recent, MemoryAttribute.RO)).toBe(false)
  })

  test('Xen with -mapbs has boot services mapped as runtime memory is: writable and executable though the map forbids', async () => {
    const [plain, mapbs] = await Promise.all(
      ['xen', 'xen:mapbs=on'].map(async (strategy) => {
        const { kernels } = await play(strategy, { text: uncachedBootData })
        const region = kernels[0]!.requireEfi.firmwareMap.find(
          ({ type, attribute }) => type === 4 && (attribute & MemoryAttribute.WB) === 0n,
        )!
        return inCalls(kernels[0]!, BigInt(region.physicalStart))
      }),
    )
    expect(plain!.status).not.toBe('mapped')
    expect(mapbs).toMatchObject({ status: 'mapped', writable: true, executable: true, patIndex: 3 })
  })

  test('ESXi’s old-and-new trick keeps physical addresses in calls, which go without else', async () => {
    for (const [strategy, status] of [
      ['esxi', 'not-present'],
      ['esxi:oldAndNew=on', 'mapped'],
    ] as const) {
      const kernel = (await play(strategy)).kernels[0]!
      const [region] = runtimeRegions(kernel)
      expect(inCalls(kernel, BigInt(region!.physicalStart)).status).toBe(status)
      expect(inCalls(kernel, region!.virtualStart).status).toBe('mapped')
    }
  })

  test('Windows, ESXi and LoongArch map the new addresses before the call, arm64’s stub only later', async () => {
    for (const strategy of ['windows', 'esxi', 'constant-offset']) {
      expect((await passedTo(strategy)).bothMapped).toBe(true)
    }
    expect((await passedTo('arm64:map=virtual')).bothMapped).toBe(false)
    const { map } = await passedTo('windows')
    expect(map.every(({ virtualStart }) => virtualStart >> 63n === 1n)).toBe(true)
  })
})

describe('LoongArch’s window', () => {
  const REACHES = 0xffff_8080_0000_0000n

  test('has all of memory in it, writable and executable, whether the map lists it or not', async () => {
    const kernel = (await play('constant-offset')).kernels[0]!
    for (const physical of [0n, 0x1000_0000n, 0xfed1_c000n]) {
      expect(inCalls(kernel, REACHES + physical)).toMatchObject({
        status: 'mapped',
        physical: Number(physical),
        writable: true,
        executable: true,
      })
      expect(inCalls(kernel, physical).status).not.toBe('mapped')
    }
  })

  test('is where the next kernel looks for the converted tables, and SetVirtualAddressMap is the stub’s, which kexec does not run', async () => {
    const { result, events } = await play('constant-offset', {
      after: (context) => {
        context.kexec()
        context.call(context.services().getTime())
      },
    })
    expect(result.outcome).toBe('ok')
    const eras = events.flatMap((event) =>
      event.kind === 'call' && event.name === 'SetVirtualAddressMap' ? [event.era] : [],
    )
    expect(eras).toEqual(['first kernel'])
    expect(result.services.at(-1)).toMatchObject({ kernel: 'second kernel', ok: true })
  })

  test('takes no early calls: whoever has converted the firmware before the kernel has none to make', async () => {
    for (const strategy of ['constant-offset', 'esxi']) {
      const { result } = await play(strategy, {
        after: (context) => {
          expect(context.earlyServices().getTime().call).toBeUndefined()
        },
      })
      expect(result.outcome).toBe('ok')
    }
  })
})

describe('what a system does about odd maps', () => {
  test('Xen leaves out a region without cacheability, but for efi=attr=uc', async () => {
    const [plain, uc] = await Promise.all(
      ['xen', 'xen:attr=uc'].map((strategy) => play(strategy, { text: withoutCacheability })),
    )
    expect(inCalls(plain!.kernels[0]!, deviceOf(plain!.kernels[0]!)).status).not.toBe('mapped')
    expect(inCalls(uc!.kernels[0]!, deviceOf(uc!.kernels[0]!))).toMatchObject({ status: 'mapped' })
  })

  test('Xen with efi=no-rs goes without runtime services', async () => {
    expect((await play('xen:rs=off')).result.outcome).toBe('refused')
  })
})

describe('when firmware faults', () => {
  const faulting = {
    id: 'F1',
    name: 'faulting-get-variable',
    title: 'GetVariable reads where nothing is mapped',
    sources: ['this test'],
    hooks: {
      beforeService: (call: { service: string; read64: (address: bigint) => bigint }) => {
        if (call.service === 'GetVariable') call.read64(0x7000_0000_0000n)
        return undefined
      },
    },
  }

  test('FreeBSD gives the caller an error and goes on', async () => {
    const { result } = await play('freebsd', { quirk: faulting, after: callAfterFault })
    expect(result.services.slice(2)).toMatchObject([
      { name: 'GetVariable', status: 'EFI_DEVICE_ERROR', ok: false },
      { name: 'GetTime', ok: true },
    ])
    expect(EfiStatus.DEVICE_ERROR).toBe(0x8000_0000_0000_0007n)
  })

  test('the others die', async () => {
    for (const strategy of ['xen', 'netbsd', 'windows']) {
      const { result } = await play(strategy, { quirk: faulting, after: callAfterFault })
      expect(result.outcome).toBe('fault')
      expect(result.findings[0]).toMatchObject({
        service: 'GetVariable',
        access: { address: '0x0000700000000000' },
      })
    }
  })
})
