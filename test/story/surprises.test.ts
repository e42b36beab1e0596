// What a naive implementer gets wrong about calling EFI, one test each, by the numbers of the list that the project began with.
import {
  formatAddress,
  inspectAddress,
  type Inspection,
  MemoryKind,
  type MtrrRanges,
  phys,
  type VirtualAddress,
} from '@trapdoor/core'
import type { CaseTrace, Plugin, ScenarioContext } from '@trapdoor/harness'
import { efiMemType, type Kernel } from '@trapdoor/kernel'
import { Caller, smallFirmware } from '@trapdoor/plugin-kit'
import {
  decodeMemoryMap,
  EfiStatus,
  MemoryType,
  RuntimeServicesTable,
  SystemTable,
} from '@trapdoor/uefi'
import { expect, test } from 'vitest'
import { play, type Setting } from './cases.ts'

type Quirk = NonNullable<Plugin['quirks']>[number]

/** What a story needs beside its strategy and what is done in it. */
interface StorySetting extends Setting {
  readonly quirk?: Quirk['hooks']
  /** Whether the kernel dies in its boot, so that nothing can be done. Default false: a story fails where its kernel does not come up. */
  readonly diesInBoot?: boolean
}

/** Boots under a strategy and does what `run` says; fails where it does not come to that, or does against what is said. */
function story(
  strategy: string,
  run: (context: ScenarioContext, kernel: Kernel) => void,
  { quirk, diesInBoot = false, ...rest }: StorySetting = {},
): CaseTrace {
  let isReached = false
  const plugins: Plugin[] = [
    {
      name: 'surprise',
      apiVersion: 1,
      quirks:
        quirk === undefined
          ? []
          : [
              {
                id: 'S1',
                name: 'surprise',
                title: 'a surprise',
                sources: ['a test'],
                hooks: quirk,
              },
            ],
    },
  ]
  const trace = play(
    `${quirk === undefined ? 'none' : 'S1'}/${strategy}/story`,
    {
      name: 'story',
      title: 'a surprise',
      steps: [
        {
          name: 'the story',
          run: (context) => {
            const kernel = context.boot()
            isReached = true
            run(context, kernel)
          },
        },
      ],
    },
    { ...rest, plugins, comesUp: !diesInBoot },
  )
  expect(isReached, `whether the kernel comes up: ${trace.result.reason}`).toBe(!diesInBoot)
  return trace
}

function inRoot(kernel: Kernel, name: string, address: bigint): Inspection {
  const { root } = kernel.roots.find((each) => each.name === name)!
  return inspectAddress(kernel.bootCpu.translationContext(root), address)
}

/** A region of the firmware's map, by type; RUNTIME or not. */
function regionOf(kernel: Kernel, type: number): number {
  return kernel.requireEfi.firmwareMap.find((region) => region.type === type)!.physicalStart
}

function getTime(context: ScenarioContext): void {
  context.call(context.services().getTime())
}

function said(trace: CaseTrace): string {
  return trace.events.flatMap((event) => (event.kind === 'message' ? [event.text] : [])).join('\n')
}

test('1: the patch of 2010 tests bits of an enumeration, and so maps nearly everything', () => {
  const seen = ['A', 'C'].map((state) => {
    let status = ''
    story(`private-efi-pgd:state=${state}`, (_, kernel) => {
      status = inRoot(kernel, 'efi_pgd', BigInt(regionOf(kernel, 7)) + 0x1000n).status
    })
    return status
  })
  expect(seen).toEqual(['mapped', 'not-present'])
})

test('2: a write to CR3 leaves global translations, such as the patch’s own', () => {
  let held: boolean | undefined
  story('private-efi-pgd', (context, kernel) => {
    const prepared = context.services().getTime()
    context.call(prepared)
    const low = prepared.call!.touches.find(({ address }) => address < 2n ** 47n)!
    held = kernel.bootCpu.tlb.peek(low.address & ~0xfffn)?.global
  })
  expect(held).toBe(true)
})

test('3: physical mode passes virtual pointers, so that where arguments lie decides which root entries matter', () => {
  const oks = (['stack', 'vmalloc'] as const).map((place) => {
    const trace = story('private-efi-pgd:state=A', (context) => {
      context.call(context.services(place).getTime())
    })
    return trace.result.outcome
  })
  expect(oks[0]).toBe('ok')
  expect(oks[1]).not.toBe('ok')
})

test('4: after SetVirtualAddressMap the tables stay where they were, and two of their functions stay physical', () => {
  story('linux-6.1', (_, kernel) => {
    const efi = kernel.requireEfi
    const { memory } = kernel.machine
    const runtime = Number(efi.runtimeAddress)
    const pointer = (name: keyof typeof RuntimeServicesTable): bigint =>
      memory.read64(runtime + RuntimeServicesTable[name])
    expect(pointer('GetTime')).toBeGreaterThan(2n ** 63n)
    expect(pointer('SetVirtualAddressMap')).toBeLessThan(2n ** 47n)
    expect(pointer('ConvertPointer')).toBeLessThan(2n ** 47n)
    expect(memory.read64(efi.info.systab + SystemTable.RuntimeServices)).toBeGreaterThan(2n ** 63n)
  })
})

test('5: a SetVirtualAddressMap that failed late cannot be called again', () => {
  let second: bigint | undefined
  const trace = story(
    'linux-6.1',
    (_, kernel) => {
      const { bootCpu: cpu, requireEfi: efi } = kernel
      cpu.interruptFlag = false
      cpu.writeCr3(kernel.roots.find(({ name }) => name === 'efi_pgd')!.root)
      const { start, bytes } = kernel.efiMemmap!
      const args = [bytes, efi.info.memdescSize, efi.info.memdescVersion, start].map(BigInt)
      second = cpu.call(efi.setVirtualAddressMap, ...args)
    },
    {
      quirk: {
        afterService: (status, call) =>
          call.service === 'SetVirtualAddressMap' && status === EfiStatus.SUCCESS
            ? EfiStatus.DEVICE_ERROR
            : status,
      },
    },
  )
  expect(trace.result.outcome).toBe('refused')
  expect(second).toBe(EfiStatus.UNSUPPORTED)
})

test('6: address-change events run at physical addresses, before any image is relocated', () => {
  const events: bigint[] = []
  story('linux-6.1', () => {}, {
    quirk: {
      virtualAddressChange: (call) => {
        events.push(call.rip, call.pointer('globals'))
      },
    },
  })
  expect(events.length).toBeGreaterThan(4)
  expect(events.every((address) => address < 2n ** 47n)).toBe(true)
})

test('7: ConvertPointer knows regions with RUNTIME alone, and the kernel’s mark on boot services makes one', () => {
  const statuses: bigint[] = []
  story('linux-6.1', () => {}, {
    quirk: {
      powerOn: (setup) => {
        const marked = setup.memoryAttributesTable!
        const plain = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: 'plain' })
        setup.pointer('PcRtc', 'marked', marked, { convert: false })
        setup.pointer('PcRtc', 'plain', plain, { convert: false })
      },
      virtualAddressChange: (call, change) => {
        if (call.image !== 'PcRtc') return
        for (const slot of ['marked', 'plain']) statuses.push(change.convert(call.slot(slot)))
      },
    },
  })
  // Both are in the map with RUNTIME for the first, and without for the second.
  expect(statuses).toEqual([EfiStatus.SUCCESS, EfiStatus.NOT_FOUND])
})

/** What PcRtc's pointer to its own data holds in the end, where its event has written `value` there. */
const pointerAfter = (value: bigint | undefined): bigint => {
  let slot = 0n
  let held = 0n
  story(
    'linux-6.1',
    (_, kernel) => {
      held = kernel.machine.memory.read64(Number(slot))
    },
    {
      quirk: {
        virtualAddressChange: (call) => {
          if (call.image !== 'PcRtc') return
          slot = call.slot('globals')
          if (value !== undefined) call.write64(slot, value)
        },
      },
    },
  )
  return held
}

test('8: relocation leaves words alone that have changed since the image was loaded', () => {
  expect(pointerAfter(undefined)).toBeGreaterThan(2n ** 63n)
  expect(pointerAfter(0x1234_5678n)).toBe(0x1234_5678n)
})

test('9: addresses from above in map order turn neighbours round; in reverse order gaps below 2 MiB stay', () => {
  const distances = ['linux-3.14', 'linux-4.3'].map((strategy) => {
    let distance = 0n
    story(strategy, (_, kernel) => {
      const virtual = (physical: number): bigint =>
        kernel.requireEfi.memoryMap.find(({ physicalStart }) => physicalStart === physical)!
          .virtualStart
      // Runtime data of 1 MiB, with runtime code right behind.
      distance = virtual(0x7f5e_c000) - virtual(0x7f4e_c000)
    })
    return distance
  })
  expect(distances[0]).not.toBe(0x10_0000n)
  expect(distances[1]).toBe(0x10_0000n)
})

test('10: a region for which the window has no room is passed all the same, at address 0', () => {
  const log = `efi: EFI v2.70 by EDK II
efi: mem00: [Conventional|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000001000-0x000000000fffffff] (255MB)
efi: mem01: [Boot Data   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000010000000-0x0000000013ffffff] (64MB)
efi: mem02: [Boot Code   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000014000000-0x0000000014ffffff] (16MB)
efi: mem03: [MMIO        |RUN|  |  |  |  |  |   |  |  |  |UC] range=[0x0000000100000000-0x00000011ffffffff] (69632MB)
efi: mem04: [Runtime Data|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000001200000000-0x00000012000fffff] (1MB)
efi: mem05: [Runtime Code|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000001200100000-0x00000012001fffff] (1MB)
e820: BIOS-provided physical RAM map:
`
  const passed: bigint[] = []
  story('linux-6.1', () => {}, {
    bytes: new TextEncoder().encode(log),
    quirk: {
      setVirtualAddressMap: (_call, map) => {
        for (const region of map.read()) {
          if (region.type === MemoryType.MemoryMappedIO) passed.push(region.virtualStart)
        }
        return undefined
      },
    },
  })
  expect(passed).toEqual([0n])
})

test('11: trampoline_pgd’s first entry is the direct map’s: a 1:1 mapping changes the kernel’s own', () => {
  const seen = ['linux-4.3', 'linux-4.14'].map((strategy) => {
    let executable: boolean | undefined
    story(strategy, (_, kernel) => {
      const code = regionOf(kernel, MemoryType.RuntimeServicesCode)
      const found = inRoot(kernel, 'swapper_pg_dir', kernel.tables.directMapAddress(code))
      executable = found.status === 'mapped' && found.executable
    })
    return executable
  })
  expect(seen).toEqual([true, false])
})

test('12: the kernel’s entries are copied before every call, and PDPT entries 444 to 507 are not', () => {
  const trace = story('linux-6.1', (context, kernel) => {
    const { tables } = kernel
    const far = (tables.layout.vmallocStart + 2n ** 42n) as VirtualAddress
    const inWindow = 0xffff_fff8_0000_0000n as VirtualAddress
    const page = kernel.allocatePages('late', 1)
    for (const address of [far, inWindow]) tables.swapper.mapRange(address, page, 4096)
    expect(inRoot(kernel, 'efi_pgd', far).status).not.toBe('mapped')
    getTime(context)
    expect(inRoot(kernel, 'efi_pgd', far).status).toBe('mapped')
    expect(inRoot(kernel, 'efi_pgd', inWindow).status).not.toBe('mapped')
  })
  expect(trace.result.outcome).toBe('ok')
})

test('13: interrupts are on in calls of today, off in SetVirtualAddressMap and in the patch of 2010', () => {
  const flags = ['linux-6.1', 'private-efi-pgd'].map((strategy) => {
    const seen: [string, boolean][] = []
    story(strategy, getTime, {
      quirk: {
        setVirtualAddressMap: (call) => {
          seen.push(['SetVirtualAddressMap', call.cpu.interruptFlag])
          return undefined
        },
        beforeService: (call) => {
          if (call.service === 'GetTime') seen.push(['GetTime', call.cpu.interruptFlag])
          return undefined
        },
      },
    })
    return seen
  })
  expect(flags).toEqual([
    [
      ['SetVirtualAddressMap', false],
      ['GetTime', true],
    ],
    [['GetTime', false]],
  ])
})

test('14: recovery does not help a jump to 0x230, and page 0 hides a NULL dereference', () => {
  const jump = story('linux-6.1', getTime, {
    quirk: {
      beforeService: (call) => (call.service === 'GetTime' ? call.call(0x230n) : undefined),
    },
  })
  expect(jump.result.outcome).toBe('fault')
  const dereference = story('linux-6.1', getTime, {
    quirk: {
      beforeService: (call) => {
        if (call.service === 'GetTime') call.write64(0x10n, call.read64(0x10n))
        return undefined
      },
    },
  })
  expect(dereference.result.services).toMatchObject([{ name: 'GetTime', ok: true }])
})

test('15: recovery ends runtime services for good, with EFI_ABORTED for the caller', () => {
  const trace = story(
    'linux-6.1',
    (context) => {
      getTime(context)
      getTime(context)
    },
    {
      quirk: {
        beforeService: (call) => {
          if (call.service === 'GetTime') call.read64(0x7000_0000_0000n)
          return undefined
        },
      },
    },
  )
  expect(trace.result.services).toMatchObject([{ name: 'GetTime', status: 'EFI_ABORTED' }])
  expect(said(trace)).toContain('froze efi_rts_wq and disabled EFI Runtime Services')
})

test('16: after kexec 3.14 to 4.5 map virtual addresses alone, later kernels both; SMBIOS is put right', () => {
  expect(play('Q03/linux-4.3/kdump').result.outcome).toBe('fault')
  expect(play('Q03/linux-4.14/kdump').result.outcome).toBe('ok')
  expect(play('Q17/linux-6.1/kexec').result.outcome).toBe('ok')
  expect(play('Q17/virtual-address-passing/kexec').result.outcome).toBe('fault')
})

test('17: ia64’s purgatory makes SetVirtualAddressMap do nothing, which works where all kernels have region addresses', () => {
  const kexec = play('none/region-addresses/kexec')
  expect(kexec.result.outcome).toBe('ok')
  const calls = kexec.events.flatMap((event) =>
    event.kind === 'call' && event.name === 'SetVirtualAddressMap'
      ? [`${event.era}: ${event.image}`]
      : [],
  )
  expect(calls).toEqual(['first kernel: RuntimeDxe', 'second kernel: purgatory'])
  // Its words are those of a table that the first kernel had converted, and are as good as physical ones.
  const second = play('none/region-addresses/kexec-other')
  expect(second.result.outcome).toBe('fault')
  expect(second.result.findings[0]).toMatchObject({ kernel: 'second kernel', rule: 'H8' })
  // What passes the addresses on in place of them sees it coming.
  expect(play('none/virtual-address-passing/kexec-other').result.outcome).toBe('refused')
})

test('18: a descriptor has 40 bytes, and the next one begins after 48; what it says of caches is what could be', () => {
  story('linux-6.1', (_, kernel) => {
    const { memdescSize, memmap, memmapSize } = kernel.requireEfi.info
    expect(memdescSize).toBe(48)
    const bytes = kernel.machine.memory.read(memmap, memmapSize)
    const starts = (stride: number): number[] =>
      decodeMemoryMap(bytes.subarray(0, stride * 20), stride).map(
        ({ physicalStart }) => physicalStart,
      )
    const known = new Set(kernel.requireEfi.firmwareMap.map(({ physicalStart }) => physicalStart))
    expect(starts(48).every((start) => known.has(start))).toBe(true)
    expect(starts(40).every((start) => known.has(start))).toBe(false)
    // A region of UC, WC, WT and WB is mapped write-back, not uncached.
    const region = kernel.requireEfi.memoryMap.find(({ type }) => type === 6)!
    expect(region.attribute & 0xfn).toBe(0xfn)
    expect(inRoot(kernel, 'efi_pgd', region.virtualStart)).toMatchObject({ patIndex: 0 })
  })
})

test('19: descriptors may be empty, wrap around, or overlap', () => {
  const trace = story(
    'linux-6.1',
    (context, kernel) => {
      getTime(context)
      expect(kernel.requireEfi.memoryMap.some(({ numberOfPages }) => numberOfPages === 0)).toBe(
        false,
      )
    },
    {
      quirk: {
        memoryMap: (map) => [
          ...map,
          { ...map[0]!, physicalStart: 0x5000_0000, numberOfPages: 0 },
          { ...map[0]!, physicalStart: 2 ** 52, numberOfPages: 2 ** 52 },
        ],
      },
    },
  )
  expect(said(trace)).toContain('[Firmware Bug]: Invalid EFI memory map entry')
  expect(trace.result.services).toMatchObject([{ name: 'GetTime', ok: true }]) // Nobody promises an order, nor that descriptors keep apart.
  const odd = (memoryMap: NonNullable<Quirk['hooks']['memoryMap']>): CaseTrace =>
    story('linux-6.1', getTime, { quirk: { memoryMap } })
  const turned = odd((map) => map.toReversed())
  expect(turned.result.services).toMatchObject([{ name: 'GetTime', ok: true }])
  const overlapping = odd((map) => [
    ...map,
    // The last page of the runtime code again, as data.
    {
      ...map.find(({ type }) => type === 5)!,
      type: 6,
      physicalStart: 0x7f6e_b000,
      numberOfPages: 1,
    },
  ])
  expect(overlapping.result.services).toMatchObject([{ name: 'GetTime', ok: true }])
})

test('20: upper levels carry U/S, so that the leaf alone makes a page the supervisor’s', () => {
  story('linux-6.1', (_, kernel) => {
    const found = inRoot(kernel, 'efi_pgd', BigInt(regionOf(kernel, 5)))
    const user = found.steps.map(({ value }) => (value & 4n) !== 0n)
    expect(user).toEqual([true, true, true, false])
    expect(found).toMatchObject({ status: 'mapped', user: false })
  })
})

test('21: no execution anywhere on the way down means no execution', () => {
  const trace = story('private-efi-pgd', (context, kernel) => {
    getTime(context)
    const { root } = kernel.roots.find(({ name }) => name === 'efi_pgd')!
    const { memory } = kernel.machine
    memory.write64(root, memory.read64(root) | (1n << 63n))
    // The patch's translations are global, and would hide it.
    kernel.tables.flushAll()
    getTime(context)
  })
  expect(trace.result.services).toMatchObject([{ name: 'GetTime', ok: true }])
  expect(trace.result.outcome).toBe('fault')
  const [finding] = trace.result.findings
  expect(finding!.access).toMatchObject({ kind: 'execute' })
  const forbids = finding!.walk.map(({ value }) => BigInt(value) >> 63n === 1n)
  expect(forbids).toEqual([true, false, false, false])
})

/** The flash of the demo machine, in bytes. */
const FLASH = { start: 0xffc0_0000, end: 0x1_0000_0000 }
/** Bytes of the flash that two live mappings disagree about, beside the kernel's own strong UC one, where MTRRs say `kind` of it. */
const disagreeing = (strategy: string, kind: MtrrRanges[number]['kind']): number => {
  const { result } = story(strategy, (context, kernel) => {
    const { machine, tables } = kernel
    getTime(context)
    context.inspectTables()
    machine.mtrrs = [...machine.mtrrs, { ...FLASH, kind }]
    tables.swapper.mapRange(tables.reserveVmalloc(2 ** 22), phys(FLASH.start), 2 ** 22, {
      cacheDisable: true,
      writeThrough: true,
    })
    context.inspectTables()
  })
  return result.cost!.conflictingTypeBytes
}

test('22: PCD without PWT gives way to an MTRR that says write combining, PCD with PWT does not; write-back over a device is saved by an MTRR alone', () => {
  const { UC, WC, WB } = MemoryKind
  const others = disagreeing('linux-6.1', UC)
  expect(disagreeing('linux-6.1', WC) - others).toBe(2 ** 22)
  // State A of the patch maps the flash write-back.
  const cached = disagreeing('private-efi-pgd:state=A', UC)
  expect(disagreeing('private-efi-pgd:state=A', WB) - cached).toBe(2 ** 22)
})

test('23: the memory map may have grown when ExitBootServices is tried again, and nothing may be allocated for it', () => {
  const { events, result } = play('none/linux-6.1/exit-boot-services')
  expect(result.outcome).toBe('ok')
  const calls = events.flatMap((event) =>
    event.kind === 'call' && event.era === 'boot loader' && !event.name.endsWith('Event')
      ? [event.name]
      : [],
  )
  const refused = calls.indexOf('ExitBootServices')
  expect(calls.slice(refused)).toEqual(['ExitBootServices', 'GetMemoryMap', 'ExitBootServices'])
  const caller = new Caller(smallFirmware([]).powerOn())
  const before = caller.getMemoryMap()
  caller.bootService('AllocatePages', 0n, 4n, 3n, caller.number(0n))
  const exit = (key: bigint): bigint =>
    caller.bootService('ExitBootServices', caller.imageHandle, key)
  expect(exit(before.key)).toBe(EfiStatus.INVALID_PARAMETER)
  const after = caller.getMemoryMap()
  expect(after.size).toBeGreaterThan(before.size)
  expect(exit(after.key)).toBe(EfiStatus.SUCCESS)
})

test('24: an attributes entry that covers two regions is refused, and one that fits counts at both addresses', () => {
  const straddling = story('linux-6.1', getTime, {
    quirk: {
      memoryAttributes: (entries) =>
        entries.map((entry) =>
          entry.type === MemoryType.RuntimeServicesData
            ? { ...entry, numberOfPages: entry.numberOfPages + 1 }
            : entry,
        ),
    },
  })
  expect(said(straddling)).toContain('Entry covers multiple EFI memory map regions')
  story('linux-6.1', (_, kernel) => {
    const region = kernel.requireEfi.memoryMap.find(({ type }) => type === 5)!
    for (const address of [BigInt(region.physicalStart), region.virtualStart]) {
      expect(inRoot(kernel, 'efi_pgd', address)).toMatchObject({ writable: false })
    }
  })
})

test('25: regions of runtime code are writable until SetVirtualAddressMap is over, as their data is written there', () => {
  const seen: Inspection[] = []
  story(
    'linux-6.1',
    (_, kernel) => {
      const code = BigInt(regionOf(kernel, MemoryType.RuntimeServicesCode))
      seen.push(inRoot(kernel, 'efi_pgd', code), inRoot(kernel, 'efi_pgd', code + 0x1000n))
    },
    {
      quirk: {
        setVirtualAddressMap: (call) => {
          seen.push(inspectAddress(call.cpu.translationContext(), call.rip))
          return undefined
        },
      },
    },
  )
  expect(seen).toMatchObject([
    { writable: true, executable: true },
    { writable: false, executable: true },
    { writable: true, executable: false },
  ])
})

test('26: efi_mem_type() of 2.6 reads the map from address 0 once it is unmapped', () => {
  const types: number[] = []
  const trace = play('none/legacy-virtual/story', {
    name: 'story',
    title: 'asks for the type of memory early, and late',
    steps: [
      {
        name: 'the story',
        run: (context) => {
          const kernel = context.boot({
            early: ({ kernel: booting }) => {
              for (const physical of [0x7f5e_c000, 0x1000_0000, 2 ** 40]) {
                types.push(efiMemType(booting, booting.bootCpu, physical))
              }
            },
          })
          efiMemType(kernel, kernel.bootCpu, 0x7f5e_c000)
        },
      },
    ],
  })
  expect(types).toEqual([MemoryType.RuntimeServicesCode, MemoryType.ConventionalMemory, 0])
  expect(trace.result.outcome).toBe('fault')
  expect(trace.result.findings[0]!.access).toMatchObject({
    kind: 'read',
    address: '0x0000000000000008',
  })
})

test('27: firmware that uses unlisted memory at the relocated address needs one constant for everything', () => {
  let relocated = 0n
  const unlisted: Quirk['hooks'] = {
    memoryMap: (map) => map.filter(({ physicalStart }) => physicalStart !== UNLISTED_REGION),
    virtualAddressChange: (call, change) => {
      if (call.image !== 'PcRtc') return
      // Where its own image goes, so does, it thinks, the memory beside.
      const before = call.pointer('probe')
      change.convert(call.slot('probe'))
      const delta = call.pointer('probe') - before
      relocated = BigInt(UNLISTED_REGION) + delta
      call.read64(relocated)
    },
    powerOn: (setup) => {
      setup.pointer('PcRtc', 'probe', setup.imageBase('PcRtc'), { convert: false })
    },
  }
  expect(story('esxi:policy=simple', getTime, { quirk: unlisted }).result.outcome).toBe('ok')
  expect(story('constant-offset', getTime, { quirk: unlisted }).result.outcome).toBe('ok')
  for (const strategy of ['linux-6.1', 'esxi:policy=compact']) {
    const { result } = story(strategy, getTime, { quirk: unlisted, diesInBoot: true })
    expect(result.outcome).toBe('fault')
    expect(result.findings[0]).toMatchObject({
      rule: 'H8',
      service: 'SetVirtualAddressMap',
      actor: 'PcRtc',
      access: { kind: 'read', address: formatAddress(relocated) },
    })
  }
})

/** Reserved memory between the regions of the demo machine: some other driver's. */
const UNLISTED_REGION = 0x7f6e_c000
