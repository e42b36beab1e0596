import { inspectAddress, type Inspection, PAGE_SIZE } from '@trapdoor/core'
import { type Kernel } from '@trapdoor/kernel'
import { Guid, isRuntime, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { boot, inEfiTables, play, said } from './machine.ts'

const NAMES = [
  'linux-3.14',
  'linux-3.18',
  'linux-4.3',
  'linux-4.6',
  'linux-4.9',
  'linux-4.14',
  'linux-4.19',
  'linux-5.4',
  'linux-6.1',
  'linux-6.12',
  'linux-7.1',
]

async function bootWith(
  strategy: string,
  setting: Parameters<typeof play>[2] = {},
): Promise<Kernel> {
  const { kernels } = await play(strategy, boot, setting)
  return kernels[0]!
}

/** Virtual addresses of the runtime regions, in the order of the physical ones. */
function startsByPhysicalAddress(kernel: Kernel): bigint[] {
  return kernel.requireEfi.memoryMap
    .filter(isRuntime)
    .toSorted((a, b) => a.physicalStart - b.physicalStart)
    .map(({ virtualStart }) => virtualStart)
}

/** Physical address of the first runtime region of a type. */
function regionOf(kernel: Kernel, type: number): { physical: number; virtual: bigint } {
  const { physicalStart, virtualStart } = kernel.requireEfi.memoryMap.find(
    (region) => region.type === type && isRuntime(region),
  )!
  return { physical: physicalStart, virtual: virtualStart }
}

describe.each(NAMES)('%s', (name) => {
  test('calls firmware in virtual mode, and hands it over to the next kernel', async () => {
    const { result } = await play(name, (context, kernels) => {
      boot(context, kernels)
      context.call(context.services().getTime())
      context.kexec()
      context.call(context.services('vmalloc').getVariable('Boot0000', Guid.GLOBAL_VARIABLE))
      context.call(context.services('module').getTime())
    })
    expect(result.findings.filter(({ severity }) => severity === 'error')).toEqual([])
    expect(result.services.slice(-1)).toMatchObject([{ name: 'GetTime', ok: true }])
  })

  test('maps every runtime region twice: where it is, and where firmware is told that it is', async () => {
    const kernel = await bootWith(name)
    for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
      for (const address of [BigInt(region.physicalStart), region.virtualStart]) {
        expect(inEfiTables(kernel, address)).toMatchObject({
          status: 'mapped',
          physical: region.physicalStart,
          user: false,
        })
      }
    }
  })
})

describe('the order of addresses', () => {
  test('is that of the map reversed up to 4.2, and that of the map from 4.3 on', async () => {
    const [forward, reverse] = await Promise.all(
      ['linux-3.14', 'linux-4.3'].map((n) => bootWith(n)),
    )
    expect(startsByPhysicalAddress(forward!)).toEqual(
      startsByPhysicalAddress(forward!).toSorted((a, b) => (a < b ? 1 : -1)),
    )
    expect(startsByPhysicalAddress(reverse!)).toEqual(
      startsByPhysicalAddress(reverse!).toSorted((a, b) => (a < b ? -1 : 1)),
    )
  })

  test('makes the map that SetVirtualAddressMap gets descend from 4.3 on', async () => {
    const kernel = await bootWith('linux-4.3')
    const addresses = kernel.requireEfi.memoryMap.map(({ virtualStart }) => virtualStart)
    expect(addresses).toEqual(addresses.toSorted((a, b) => (a < b ? 1 : -1)))
  })
})

describe('trampoline_pgd', () => {
  test('shares its first entry with the direct map, so that a 1:1 mapping is one of the kernel too', async () => {
    const kernel = await bootWith('linux-4.3')
    const { physical } = regionOf(kernel, MemoryType.RuntimeServicesCode)
    const directMap = inspectAddress(
      kernel.bootCpu.translationContext(kernel.tables.swapper.root),
      kernel.tables.directMapAddress(physical),
    )
    expect(directMap).toMatchObject({ status: 'mapped', executable: true, writable: true })
  })

  // RESTORE_PGT; efi_call_virt() of 4.6 to 4.16; switch_mm().
  test.each([
    ['linux-4.3', 1],
    ['linux-4.6', 2],
    ['linux-4.14', 2],
    ['linux-4.19', 0],
    ['linux-6.1', 0],
  ])(
    'is switched to and from by %s with %i flushes of global translations',
    async (name, times) => {
      const { result } = await play(name, (context, kernels) => {
        boot(context, kernels)
        context.call(context.services().getTime())
        context.inspectTables()
      })
      expect(result.cost!.perCall).toMatchObject({ cr3Writes: 2, globalFlushes: 2 * times })
    },
  )
})

/** Whether CPU 1 may call while CPU 0 is in a call, and whether CPU 0 then comes back to the tables of its own process. */
async function overlap(
  strategy: string,
  services: readonly ['getTime' | 'getNextVariableName', 'getTime' | 'getNextVariableName'],
): Promise<{ enters: boolean; comesBack: boolean }> {
  let seen = { enters: false, comesBack: false }
  await play(
    strategy,
    (context, kernels) => {
      const kernel = boot(context, kernels)
      const [first, second] = services.map(
        (name, cpu) => context.services('stack', cpu)[name]().call!,
      )
      first!.enter()
      const enters = second!.mayEnter
      if (enters) second!.enter()
      first!.execute()
      first!.leave()
      if (enters) second!.execute()
      if (enters) second!.leave()
      seen = { enters, comesBack: kernel.bootCpu.cr3 === kernel.tasks[0]!.tables.root }
    },
    { cpus: 2 },
  )
  return seen
}

describe('locks', () => {
  test('of 3.14 are the callers’, and one efi_scratch for all CPUs keeps the CR3 of the last that entered', async () => {
    const apart = { enters: false, comesBack: true }
    expect(await overlap('linux-3.14', ['getTime', 'getTime'])).toEqual(apart)
    const variables = ['getNextVariableName', 'getNextVariableName'] as const
    expect(await overlap('linux-3.14', variables)).toEqual(apart)
    const both = ['getTime', 'getNextVariableName'] as const
    expect(await overlap('linux-3.14', both)).toEqual({ enters: true, comesBack: false })
    expect(await overlap('linux-4.3', both)).toEqual(apart)
    expect(await overlap('linux-6.1', both)).toEqual(apart)
  })
})

/** Whether a reset on CPU 1 waits for a call on CPU 0, and what the kernel says of it. */
async function resetBeside(strategy: string): Promise<{ waits: boolean; said: string[] }> {
  let waits = false
  const trace = await play(
    strategy,
    (context, kernels) => {
      boot(context, kernels)
      const first = context.services('stack', 0).getTime().call!
      const reset = context.services('stack', 1).resetSystem(0).call!
      first.enter()
      waits = !reset.mayEnter
      if (!waits) reset.run()
      first.execute()
      first.leave()
    },
    { cpus: 2 },
  )
  expect(trace.result.outcome).toBe('ok')
  return { waits, said: said(trace.events).filter((text) => text.includes('ResetSystem')) }
}

describe('ResetSystem beside another call', () => {
  test('waits for it up to 5.14, and is given up with a warning from 5.15 on', async () => {
    for (const strategy of ['linux-3.18', 'linux-4.9', 'linux-5.4']) {
      expect(await resetBeside(strategy)).toEqual({ waits: true, said: [] })
    }
    const { waits, said: warnings } = await resetBeside('linux-6.1')
    expect(waits).toBe(false)
    expect(warnings).toEqual([
      'efi: failed to invoke the ResetSystem runtime service: could not get exclusive access to the firmware',
    ])
  })
})

describe('efi_pgd', () => {
  test('has a low half of its own: the direct map does not see what is 1:1 there', async () => {
    const kernel = await bootWith('linux-4.14')
    const { physical } = regionOf(kernel, MemoryType.RuntimeServicesCode)
    const directMap = inspectAddress(
      kernel.bootCpu.translationContext(kernel.tables.swapper.root),
      kernel.tables.directMapAddress(physical),
    )
    expect(directMap).toMatchObject({ executable: false })
    expect(kernel.tables.swapper.rootEntry(0)).toBe(0n)
  })

  test('gets the kernel’s root entries before every call, those that are new among them', async () => {
    const { kernels, result } = await play('linux-6.1', (context, booted) => {
      const kernel = boot(context, booted)
      // A part of vmalloc space that nobody has used yet, and so a root entry that nobody had.
      const far = kernel.tables.layout.vmallocStart + 2n ** 40n
      const frame = kernel.allocatePages('late module', 1)
      kernel.tables.swapper.mapRange(far as never, frame, PAGE_SIZE, {})
      context.call(context.services().getTime())
    })
    const kernel = kernels[0]!
    const far = kernel.tables.layout.vmallocStart + 2n ** 40n
    expect(inEfiTables(kernel, far)).toMatchObject({ status: 'mapped' })
    expect(result.outcome).toBe('ok')
  })

  test('keeps the window of EFI addresses apart from the kernel’s PDPT entries 444 to 507', async () => {
    const kernel = await bootWith('linux-6.1')
    const { virtual } = regionOf(kernel, MemoryType.RuntimeServicesData)
    const swapper = kernel.bootCpu.translationContext(kernel.tables.swapper.root)
    expect(inspectAddress(swapper, virtual).status).not.toBe('mapped')
    const text = kernel.image.start
    expect(inEfiTables(kernel, text)).toMatchObject({ status: 'mapped', executable: true })
  })

  test.each([
    ['linux-4.14', true],
    ['linux-5.4', true],
    ['linux-6.1', false],
  ])('maps page 0: in %s executable, %s', async (strategy, executable) => {
    const kernel = await bootWith(strategy)
    expect(inEfiTables(kernel, 0n)).toMatchObject({ status: 'mapped', writable: true, executable })
  })

  test('is five levels deep where the CPU is, but not with no5lvl', async () => {
    const deep = await bootWith('linux-6.1', { cpu: 'qemu-tcg' })
    expect(deep.tables.layout.pageOffset).toBe(0xff11_0000_0000_0000n)
    expect(inEfiTables(deep, 0n)).toMatchObject({ status: 'mapped' })
    expect(inEfiTables(deep, 0n).steps.map(({ entry }) => entry)[0]).toBe('PML5E')
    const flat = await bootWith('linux-6.1', { cpu: 'qemu-tcg', commandLine: 'no5lvl' })
    expect(flat.tables.layout.pageOffset).toBe(0xffff_8880_0000_0000n)
    expect(startsByPhysicalAddress(deep)).toEqual(startsByPhysicalAddress(flat))
  })
})

describe('rights', () => {
  test('are writable and executable for everything up to 5.5, and for no data from 5.6 on', async () => {
    const [old, current] = await Promise.all(['linux-4.3', 'linux-6.1'].map((n) => bootWith(n)))
    const data = [old!, current!].map(
      (kernel) => regionOf(kernel, MemoryType.RuntimeServicesData).virtual,
    )
    expect(inEfiTables(old!, data[0]!)).toMatchObject({ writable: true, executable: true })
    expect(inEfiTables(current!, data[1]!)).toMatchObject({
      writable: true,
      executable: false,
    })
  })

  test('follow the memory attributes table at both addresses, and no longer after kexec', async () => {
    const seen: { code: Inspection; data: Inspection }[] = []
    // RuntimeDxe's code page, with its data page behind; looked at before another kernel takes the memory of the tables.
    const look = (kernel: Kernel): void => {
      const { physical, virtual } = regionOf(kernel, MemoryType.RuntimeServicesCode)
      for (const address of [BigInt(physical), virtual]) {
        seen.push({
          code: inEfiTables(kernel, address),
          data: inEfiTables(kernel, address + 0x1000n),
        })
      }
    }
    await play('linux-6.1', (context, booted) => {
      look(boot(context, booted))
      look(context.kexec())
    })
    const tightened = {
      code: { writable: false, executable: true },
      data: { writable: true, executable: false },
    }
    const open = { writable: true, executable: true }
    expect(seen).toMatchObject([tightened, tightened, { code: open, data: open }, { code: open }])
  })

  test('of device regions are uncached', async () => {
    const kernel = await bootWith('linux-6.1')
    const { physical } = regionOf(kernel, MemoryType.MemoryMappedIO)
    expect(inEfiTables(kernel, BigInt(physical))).toMatchObject({ executable: false, patIndex: 2 })
  })
})

describe('boot-services memory', () => {
  test('is unmapped and used by others once SetVirtualAddressMap is over, but for efi=debug', async () => {
    const [usual, debug] = await Promise.all(
      [{}, { commandLine: 'efi=debug' }].map((setting) => bootWith('linux-6.1', setting)),
    )
    const counts = [usual!, debug!].map(
      ({ requireEfi }) =>
        requireEfi.memoryMap.filter(({ type }) => type === MemoryType.BootServicesCode).length,
    )
    expect(counts[0]).toBe(0)
    expect(counts[1]).toBeGreaterThan(0)
  })

  test('with the memory attributes table in it is marked as runtime memory, and stays', async () => {
    const kernel = await bootWith('linux-6.1')
    const kept = kernel.requireEfi.memoryMap.filter(
      ({ type }) => type === MemoryType.BootServicesData,
    )
    expect(kept).toHaveLength(1)
    expect(isRuntime(kept[0]!)).toBe(true)
  })
})

describe('KASLR', () => {
  test('moves the kernel and not the firmware, but for nokaslr', async () => {
    const [plain, random, off] = await Promise.all(
      [{}, { seed: 42 }, { seed: 42, commandLine: 'nokaslr' }].map((setting) =>
        bootWith('linux-6.1', setting),
      ),
    )
    expect(random!.tables.layout.pageOffset).not.toBe(plain!.tables.layout.pageOffset)
    expect(random!.image.start).not.toBe(plain!.image.start)
    expect(off!.tables.layout.pageOffset).toBe(plain!.tables.layout.pageOffset)
    expect(startsByPhysicalAddress(random!)).toEqual(startsByPhysicalAddress(plain!))
  })

  test('does not stand in the way of kexec, as addresses of firmware do not depend on it', async () => {
    const { result } = await play(
      'linux-6.1',
      (context, kernels) => {
        boot(context, kernels)
        context.kexec()
        context.call(context.services('vmalloc').getTime())
      },
      { seed: 42 },
    )
    expect(result.services).toMatchObject([{ name: 'GetTime', ok: true, kernel: 'second kernel' }])
  })
})

describe('what goes wrong', () => {
  test('noruntime and noefi leave firmware alone, and so does the kernel after', async () => {
    for (const commandLine of ['efi=noruntime', 'noefi']) {
      const { kernels, result } = await play(
        'linux-6.1',
        (context, booted) => {
          boot(context, booted)
          booted.push(context.kexec({ commandLine: '' }))
        },
        { commandLine },
      )
      expect(result.outcome).toBe('refused')
      expect(kernels[1]!.bootParams.efi).toBeUndefined()
    }
  })

  test('a region beyond the 64 GiB of the window is passed with address 0', async () => {
    const log = `[    0.000000] efi: EFI v2.70 by EDK II
[    0.000000] efi: mem00: [Conventional|   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000001000-0x000000000fffffff] (255MB)
[    0.000000] efi: mem01: [Boot Data   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000010000000-0x0000000013ffffff] (64MB)
[    0.000000] efi: mem02: [Boot Code   |   |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000014000000-0x0000000014ffffff] (16MB)
[    0.000000] efi: mem03: [MMIO        |RUN|  |  |  |  |  |   |  |  |  |UC] range=[0x0000000100000000-0x00000011ffffffff] (69632MB)
[    0.000000] efi: mem04: [Runtime Data|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000001200000000-0x00000012000fffff] (1MB)
[    0.000000] efi: mem05: [Runtime Code|RUN|  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000001200100000-0x00000012001fffff] (1MB)
[    0.000000] e820: BIOS-provided physical RAM map:
`
    const { kernels, events } = await play('linux-6.1', boot, {
      bytes: new TextEncoder().encode(log),
    })
    const device = kernels[0]!.requireEfi.memoryMap.find(
      ({ type }) => type === MemoryType.MemoryMappedIO,
    )
    expect(device!.virtualStart).toBe(0n)
    expect(said(events)).toContain('efi: VA address range overflow!')
  })
})
