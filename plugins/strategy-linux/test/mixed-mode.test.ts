import { inspectAddress, PAGE_SIZE, Segment } from '@trapdoor/core'
import type { ScenarioContext } from '@trapdoor/harness'
import {
  type Kernel,
  kexec,
  kernelAddress,
  KERNEL32_CS,
  KERNEL_DS,
  RuntimeCall,
  takeInterrupt,
} from '@trapdoor/kernel'
import {
  EfiStatus,
  encodeUcs2,
  formatGuid,
  Guid,
  isRuntime,
  MemoryType,
  parseGuid,
  type RuntimeServiceName,
} from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, IA32_1G, IA32_4G, inEfiTables, play, said } from './machine.ts'

const NAMES = [
  'linux-3.15-mixed',
  'linux-4.6-mixed',
  'linux-4.9-mixed',
  'linux-5.6-mixed',
  'linux-6.1-mixed',
]
const FOUR_GIBIBYTES = 2n ** 32n
/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 7

/** Boots on ia32 firmware and does what `run` says, whose errors are the test's. */
async function played(
  strategy: string,
  run: (context: ScenarioContext, kernel: Kernel) => void = () => {},
  setting: Parameters<typeof play>[2] = {},
): Promise<Awaited<ReturnType<typeof play>> & { readonly kernel: Kernel }> {
  let failure: unknown
  const trace = await play(
    strategy,
    (context, kernels) => {
      const kernel = boot(context, kernels)
      try {
        run(context, kernel)
      } catch (error) {
        failure = error
        throw error
      }
    },
    { ia32: IA32_1G, ...setting },
  )
  if (failure !== undefined) throw failure
  const [kernel] = trace.kernels
  if (kernel === undefined) throw new Error(trace.result.reason)
  return { ...trace, kernel }
}

/** A call with arguments of the test's own. */
function callOf(kernel: Kernel, service: RuntimeServiceName, args: readonly bigint[]): RuntimeCall {
  const { instance } = kernel.strategy!
  const at = kernel.requireEfi.info.architecture.tables.runtimeServicesTable[service]
  return new RuntimeCall(kernel, kernel.bootCpu, service, args, {
    path: instance,
    functionAddress: ({ cpu }) => BigInt(cpu.read32(kernel.requireEfi.runtimeAddress + BigInt(at))),
  })
}

/** Sets a variable and gets it, with arguments in one kind of memory. */
function useVariable(
  context: ScenarioContext,
  place: 'stack' | 'kmalloc' | 'vmalloc' | 'module',
): unknown[] {
  const services = context.services(place)
  const set = services.setVariable('Name', Guid.GLOBAL_VARIABLE, KEPT, Uint8Array.of(1, 2, 3)).run()
  const got = services.getVariable('Name', Guid.GLOBAL_VARIABLE).run()
  return [set.status, [...(got.value?.data ?? [])]]
}

const FINE = [0n, [1, 2, 3]]

describe.each(NAMES)('%s', (name) => {
  test('calls firmware in compatibility mode, on a page of stack below 4 GiB, and comes back as it went', async () => {
    const { result } = await played(name, (context, kernel) => {
      const { bootCpu: cpu } = kernel
      const state = (): unknown => [cpu.cr3, cpu.rsp, cpu.interruptFlag, cpu.segments.slice(0, 4)]
      const before = state()
      const { call } = context.services().queryVariableInfo(KEPT)
      call!.enter()
      expect(cpu.mode.name).toBe('4-level')
      expect(cpu.codeSegmentLong).toBe(false)
      expect(cpu.segments.map(({ selector }) => selector).slice(0, 4)).toEqual([
        KERNEL_DS,
        KERNEL32_CS,
        KERNEL_DS,
        KERNEL_DS,
      ])
      expect(cpu.segments[Segment.CS]!.limit).toBe(0xffff_ffff)
      expect(cpu.rsp).toBeLessThan(FOUR_GIBIBYTES)
      expect(cpu.interruptFlag).toBe(false)
      const owner = kernel.machine.memory.owners.get((cpu.peekPhysical(cpu.rsp)! / PAGE_SIZE) | 0)
      expect(owner?.name).toBe('EFI runtime stack of the first kernel')
      call!.execute()
      call!.leave()
      expect(call!.status).toBe(EfiStatus.SUCCESS)
      expect(state()).toEqual(before)
    })
    expect(result.outcome).toBe('ok')
  })

  test('tells firmware its own physical addresses', async () => {
    const { kernel, events } = await played(name)
    for (const { physicalStart, virtualStart } of kernel.requireEfi.memoryMap) {
      expect(virtualStart).toBe(BigInt(physicalStart))
      expect(inEfiTables(kernel, virtualStart)).toMatchObject({ physical: physicalStart })
    }
    const calls = events.flatMap((event) => (event.kind === 'call' ? [event.name] : []))
    expect(calls.filter((each) => each === 'SetVirtualAddressMap')).toHaveLength(1)
    const functions = events.flatMap((event) => (event.kind === 'call' ? [event.rip] : []))
    for (const address of functions) expect(address).toBeLessThan(FOUR_GIBIBYTES)
  })

  test.each(['stack', 'kmalloc'] as const)(
    'passes variables that lie in %s memory',
    async (place) => {
      await played(name, (context) => {
        expect(useVariable(context, place)).toEqual(FINE)
        const first = context.services(place).getNextVariableName().run()
        expect(first.status).toBe(0n)
        const next = context.services(place).getNextVariableName(first.value).run()
        expect(next.value).not.toEqual(first.value)
      })
    },
  )

  test('makes of bit 31 of a status bit 63', async () => {
    await played(name, (context) => {
      const { status } = context.services().getVariable('None', Guid.GLOBAL_VARIABLE).run()
      expect(status).toBe(EfiStatus.NOT_FOUND)
    })
  })

  test('takes an NMI in compatibility mode through its IDT of 64 bits, and goes back there', async () => {
    await played(name, (context, { bootCpu: cpu }) => {
      const prepared = context
        .services()
        .setVariable('Name', Guid.GLOBAL_VARIABLE, KEPT, Uint8Array.of(1))
      const { call } = prepared
      call!.enter()
      const { rsp } = cpu
      let interrupts = 0
      call!.interruptEach(() => {
        takeInterrupt(call!.kernel, cpu, 'NMI', () => {
          expect(cpu.codeSegmentLong).toBe(true)
        })
        expect(cpu.codeSegmentLong).toBe(false)
        interrupts++
      })
      call!.execute()
      expect(cpu.rsp).toBe(rsp)
      call!.leave()
      expect(interrupts).toBeGreaterThan(20)
      expect(prepared.finish().status).toBe(0n)
    })
  })

  test('has no runtime services after kexec', async () => {
    const { result } = await played(name, (context) => {
      context.kexec()
    })
    expect(result.outcome).toBe('refused')
    expect(result.reason).toMatch(/second kernel .*not used after kexec in mixed mode/)
  })

  test('goes without runtime services with efi=old_map before 5.6, and on firmware of 64 bits', async () => {
    const old = await played(name, undefined, { commandLine: 'efi=old_map' })
    const listens = NAMES.indexOf(name) < 3
    expect(old.result).toMatchObject({ outcome: listens ? 'refused' : 'ok' })
    expect(old.result.reason.includes('efi=old_map has no mixed mode')).toBe(listens)
    const { result } = await play(name, boot)
    expect(result.reason).toContain('firmware for x64, kernel for x64 in mixed mode')
  })

  test('is stopped by firmware that asserts that addresses change', async () => {
    const { result } = await play(name, boot, {
      ia32: IA32_1G,
      quirk: 'T1',
      plugins: [
        {
          name: 'test-quirks',
          apiVersion: 1,
          quirks: [
            {
              id: 'T1',
              name: 'moves',
              title: 'asserts that addresses change',
              sources: ['this test'],
              hooks: {
                setVirtualAddressMap: (call, map) =>
                  map.read().every((each) => each.virtualStart !== BigInt(each.physicalStart))
                    ? undefined
                    : call.deadLoop('ASSERT (VirtualStart != PhysicalStart)'),
              },
            },
          ],
        },
      ],
    })
    expect(result.outcome).toBe('hang')
  })
})

test('loads no kernel by kexec_file_load(), as long as it has runtime services', async () => {
  await played('linux-6.1-mixed', (_context, kernel) => {
    const next = { name: 'second kernel', profile: kernel.profile, commandLine: '' }
    expect(() => kexec(kernel, { ...next, loader: 'kexec_file_load' })).toThrow(
      expect.objectContaining({ code: 'KERNEL_BAD_HAND_OFF' }),
    )
    expect(kexec(kernel, { ...next, loader: 'kexec_load' }).phase).toBe('running')
  })
})

test('kernels without CONFIG_EFI_MIXED do not call firmware of 32 bits', async () => {
  const { result } = await play('linux-6.1', boot, { ia32: IA32_1G })
  expect(result.outcome).toBe('refused')
  expect(result.reason).toContain('firmware for ia32, kernel for x64')
})

describe('what is mapped 1:1', () => {
  test('is all RAM, from 4.9 on in an efi_pgd, before by the direct map itself', async () => {
    for (const name of NAMES) {
      const { kernel } = await played(name)
      const root = name === 'linux-3.15-mixed' ? 'trampoline_pgd' : 'efi_pgd'
      expect(kernel.roots.map((each) => each.name)).toContain(root)
      const free = kernel.requireEfi.firmwareMap.filter(
        ({ type }) => type === MemoryType.ConventionalMemory,
      )
      for (const { physicalStart } of free.slice(1)) {
        expect(inEfiTables(kernel, BigInt(physicalStart))).toMatchObject({
          physical: physicalStart,
        })
      }
    }
  })

  test('keeps boot services, whose memory is given back all the same', async () => {
    const { kernel, events } = await played('linux-6.1-mixed')
    const region = kernel.requireEfi.firmwareMap.find(
      ({ type }) => type === MemoryType.BootServicesCode,
    )!
    expect(inEfiTables(kernel, BigInt(region.physicalStart))).toMatchObject({ status: 'mapped' })
    expect(said(events).some((text) => text.startsWith('efi: Freeing EFI boot services'))).toBe(
      true,
    )
  })

  test.each([
    [
      'linux-3.15-mixed',
      { writable: true, executable: true },
      { writable: true, executable: true },
    ],
    ['linux-4.9-mixed', { writable: true, executable: true }, { writable: true }],
    [
      'linux-5.6-mixed',
      { writable: false, executable: true },
      { writable: false, executable: false },
    ],
  ])('has the kernel as %s needs it', async (name, text, rodata) => {
    const { kernel } = await played(name)
    const { image } = kernel
    expect(inEfiTables(kernel, BigInt(image.text.start))).toMatchObject({
      physical: image.text.start,
      ...text,
    })
    expect(inEfiTables(kernel, BigInt(kernel.rodata.start))).toMatchObject(rodata)
  })

  test('has nothing executable of a kernel of 6.1 but the return trampoline', async () => {
    const { kernel } = await played('linux-6.1-mixed')
    const { image, rodata } = kernel
    for (let at = image.text.start; at < image.text.end; at += PAGE_SIZE) {
      expect(inEfiTables(kernel, BigInt(at)).status).toBe('not-present')
    }
    const rights = (address: number): unknown => inEfiTables(kernel, BigInt(address))
    expect(rights(rodata.start)).toMatchObject({ writable: false, executable: true })
    expect(rights(rodata.start + PAGE_SIZE)).toMatchObject({ writable: false, executable: false })
    expect(rights(rodata.end)).toMatchObject({ writable: true, executable: false })
  })
})

/** Two pages of vmalloc space, of which the second is somewhere else in memory: `physical` says where each is. */
function scattered(kernel: Kernel, physical: readonly [number, number]): bigint {
  const start = kernel.tables.reserveVmalloc(2 * PAGE_SIZE)
  for (const [index, frame] of physical.entries()) {
    const at = kernelAddress(start + BigInt(index * PAGE_SIZE))
    kernel.tables.swapper.mapRange(at, frame as never, PAGE_SIZE, { global: true })
  }
  return start
}

/** A buffer of 8 bytes across the end of a page, and what is behind that page in memory. */
function crossing(kernel: Kernel): { readonly address: bigint; readonly neighbour: number } {
  const pages = kernel.allocatePages('vmalloc buffer', 3)
  const address = scattered(kernel, [pages, pages + 2 * PAGE_SIZE]) + BigInt(PAGE_SIZE - 4)
  return { address, neighbour: pages + PAGE_SIZE }
}

/** GetVariable of four bytes into such a buffer. */
function getAcross(
  context: ScenarioContext,
  kernel: Kernel,
): { status: bigint; wrote: boolean; read: number[] } {
  const { bootCpu: cpu } = kernel
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  context.services('kmalloc').setVariable('Wide', Guid.GLOBAL_VARIABLE, KEPT, data).run()
  const area = kernel.argumentAreas[0]!
  const take = (bytes: Uint8Array): bigint => {
    const at = area.take(cpu, 'kmalloc', bytes.length)
    cpu.writeBytes(at, bytes)
    return at
  }
  const { address, neighbour } = crossing(kernel)
  const size = Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0)
  const call = callOf(kernel, 'GetVariable', [
    take(encodeUcs2('Wide')),
    take(parseGuid(Guid.GLOBAL_VARIABLE)),
    0n,
    take(size),
    address,
  ])
  const status = call.run()
  area.release()
  const wrote = kernel.machine.memory.read(neighbour, 4).some((byte) => byte !== 0)
  return { status, wrote, read: [...cpu.readBytes(address, 8)] }
}

describe('pointers', () => {
  test('into vmalloc space and modules are made physical by a page walk, from 4.9 on', async () => {
    for (const name of NAMES.slice(0, 2)) {
      await played(name, (context) => {
        expect(useVariable(context, 'vmalloc')).not.toEqual(FINE)
      })
    }
    for (const name of NAMES.slice(2)) {
      await played(name, (context) => {
        expect(useVariable(context, 'vmalloc')).toEqual(FINE)
        expect(useVariable(context, 'module')).toEqual(FINE)
      })
    }
  })

  test('to what crosses into a page that lies elsewhere write over the neighbour, up to 5.5', async () => {
    await played('linux-4.9-mixed', (context, kernel) => {
      expect(getAcross(context, kernel)).toEqual({
        status: 0n,
        wrote: true,
        read: [1, 2, 3, 4, 0, 0, 0, 0],
      })
    })
  })

  test('to such are not passed from 5.6 on: the wrapper says INVALID_PARAMETER, and nobody calls', async () => {
    for (const name of NAMES.slice(3)) {
      const { events } = await played(name, (context, kernel) => {
        expect(getAcross(context, kernel)).toMatchObject({
          status: EfiStatus.INVALID_PARAMETER,
          wrote: false,
        })
      })
      const gets = events.filter((event) => event.kind === 'call' && event.name === 'GetVariable')
      expect(gets).toEqual([])
    }
  })

  test('to a GUID that crosses are fine from 5.6 on, which copies it', async () => {
    for (const [name, isWhole] of [
      ['linux-4.9-mixed', false],
      ['linux-6.1-mixed', true],
    ] as const) {
      await played(name, (context, kernel) => {
        const { bootCpu: cpu } = kernel
        const { value } = context.services('kmalloc').getNextVariableName().run()
        const area = kernel.argumentAreas[0]!
        const [size, variable] = [area.take(cpu, 'kmalloc', 8), area.take(cpu, 'kmalloc', 256)]
        const { address } = crossing(kernel)
        cpu.write64(size, 256n)
        cpu.writeBytes(variable, new Uint8Array(256))
        expect(callOf(kernel, 'GetNextVariableName', [size, variable, address]).run()).toBe(0n)
        expect(formatGuid(cpu.readBytes(address, 16)) === value!.guid).toBe(isWhole)
      })
    }
  })

  test('above 4 GiB lose their upper half', async () => {
    await played(
      'linux-6.1-mixed',
      (_context, kernel) => {
        const high = Number(FOUR_GIBIBYTES) + 0x1000_0000
        const address = scattered(kernel, [high, high + PAGE_SIZE])
        const call = callOf(kernel, 'QueryVariableInfo', [7n, address, address + 8n, address + 16n])
        const low = high - Number(FOUR_GIBIBYTES)
        const { memory } = kernel.machine
        const before = [memory.read64(low), memory.read64(high)]
        expect(call.run()).toBe(0n)
        expect(call.passedArguments()[1]).toBe(BigInt(high))
        expect(memory.read64(high)).toBe(before[1])
        expect(memory.read64(low)).not.toBe(before[0])
      },
      { ia32: IA32_4G },
    )
  })
})

describe('calls of two CPUs', () => {
  test('share stack, CR3 and stack pointer up to 4.18: the first comes back as the second', async () => {
    for (const name of NAMES.slice(0, 3)) {
      await played(
        name,
        (context, { bootCpu: cpu }) => {
          const [first, second] = [0, 1].map(
            (each) => context.services('stack', each).getVariable('X', Guid.GLOBAL_VARIABLE).call!,
          )
          const before = [cpu.cr3, cpu.rsp]
          first!.enter()
          expect(second!.mayEnter).toBe(true)
          second!.enter()
          first!.execute()
          first!.leave()
          expect(cpu.cr3).not.toBe(before[0])
        },
        { cpus: 2 },
      )
    }
  })

  test('wait for one another from 5.6 on', async () => {
    for (const name of NAMES.slice(3)) {
      await played(
        name,
        (context) => {
          const [first, second] = [0, 1].map(
            (each) => context.services('stack', each).getVariable('X', Guid.GLOBAL_VARIABLE).call!,
          )
          first!.enter()
          expect(second!.mayEnter).toBe(false)
          first!.execute()
          first!.leave()
          expect(second!.run()).toBe(EfiStatus.NOT_FOUND)
        },
        { cpus: 2 },
      )
    }
  })
})

describe('services', () => {
  test('of the clock are not called any more from 5.6 on, capsules never were', async () => {
    for (const [index, name] of NAMES.entries()) {
      await played(name, (context) => {
        const services = context.services()
        expect(services.getTime().call !== undefined).toBe(index < 3)
        expect(services.getNextHighMonotonicCount().call !== undefined).toBe(index < 3)
        expect(services.queryCapsuleCapabilities(Guid.ACPI_20, 0).call).toBeUndefined()
        expect(services.queryVariableInfo(KEPT).call).toBeDefined()
      })
    }
  })
})

/** What a kernel says whose allocation of the stack fails. */
async function withoutStack(name: string): Promise<string | undefined> {
  let failing = 1
  for (;;) {
    const { result, kernels, events } = await play(
      name,
      (context, all) => {
        all.push(context.boot({ failedAllocation: failing }))
      },
      { ia32: IA32_1G },
    )
    const last = result.reason ?? said(events).at(-1)
    if (/stack/.test(last ?? '')) return last
    if (kernels[0] !== undefined && failing > kernels[0].efiAllocations) return undefined
    failing++
  }
}

describe('without a page below 4 GiB', () => {
  test('kernels up to 5.5 panic', async () => {
    expect(await withoutStack('linux-4.9-mixed')).toContain(
      'Unable to allocate EFI runtime stack < 4GB',
    )
  })

  test('later ones do without runtime services', async () => {
    expect(await withoutStack('linux-6.1-mixed')).toMatch(
      /EFI runtime non-functional .*EFI runtime stack/,
    )
  })
})

test('every runtime region is where inspection of the task’s own tables finds nothing', async () => {
  const { kernel } = await played('linux-6.1-mixed')
  const [task] = kernel.tasks
  for (const { physicalStart } of kernel.requireEfi.memoryMap.filter(isRuntime)) {
    const context = kernel.bootCpu.translationContext(task!.tables.root)
    expect(inspectAddress(context, BigInt(physicalStart)).status).toBe('not-present')
  }
})
