import { Cr0, inspectAddress } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import type { Kernel, RuntimeCall } from '@trapdoor/kernel'
import { Guid, isRuntime } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

const PAGE_OFFSET = 0xc000_0000n
/** Where {@link MACHINE} has runtime regions: in low memory, in high memory, a window of devices, flash, and above 4 GiB. */
const LOW = 0x3420_0000
const HIGH = 0x5000_0000
const WINDOW = 0xe000_0000
const FLASH = 0xffc0_0000
const ABOVE = 0x1_8000_0000
/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 7

interface Played extends CaseTrace {
  readonly kernel: Kernel
}

/** Boots a strategy on machine.txt, whose firmware has 32 bits, and runs `run`. `entered` sees each call when the firmware is about to run. */
async function play(
  strategy: string,
  run: (context: ScenarioContext) => void = () => {},
  entered: (call: RuntimeCall) => void = () => {},
  cpus = 1,
): Promise<Played> {
  let kernel: Kernel | undefined
  const spy: Plugin = {
    name: 'test',
    apiVersion: 1,
    scenarios: [
      {
        name: 'test',
        title: 'a test',
        cpus,
        steps: [
          {
            name: 'test',
            run: (context) => {
              kernel = context.boot()
              run(context)
            },
          },
        ],
      },
    ],
    rules: [
      {
        id: 'spy',
        title: 'looks',
        severity: 'info',
        advice: 'none',
        sources: ['this test'],
        watch: ({ hooks }) => {
          hooks.callEntered.tap('spy', entered)
        },
      },
    ],
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, spy],
    overrides: { memoryMaps: ['ia32:machine.txt'] },
  })
  const spec = findCase(config, `machine/none/${strategy}/test`)
  const trace = traceCase(createEnvironment(config), spec)
  if (kernel === undefined) throw new Error(trace.result.reason)
  return { ...trace, kernel }
}

function virtualOf({ requireEfi: efi }: Kernel, physical: number): bigint {
  return efi.memoryMap.find(({ physicalStart }) => physicalStart === physical)?.virtualStart ?? 0n
}

/** Services that change the world and look at it, with arguments in one kind of memory. */
function useVariables(context: ScenarioContext, place: 'stack' | 'kmalloc' | 'vmalloc'): string[] {
  const services = context.services(place)
  const set = services.setVariable('Name', Guid.GLOBAL_VARIABLE, KEPT, Uint8Array.of(1, 2, 3)).run()
  const got = services.getVariable('Name', Guid.GLOBAL_VARIABLE).run()
  return [set.status.toString(16), String(got.value?.data)]
}

const FINE = ['0', '1,2,3']

describe.each(['i386-legacy-virtual', 'i386-linux-3.4', 'i386-linux-3.18'])('%s', (name) => {
  test('maps low memory where it is already, and ioremap()s what lies above into vmalloc space', async () => {
    const { kernel } = await play(name)
    const { layout, swapper } = kernel.tables
    expect(virtualOf(kernel, LOW)).toBe(PAGE_OFFSET + BigInt(LOW))
    for (const physical of [HIGH, FLASH, ABOVE]) {
      const address = virtualOf(kernel, physical)
      expect(address >= layout.vmallocStart && address < layout.vmallocEnd).toBe(true)
      const found = inspectAddress(kernel.bootCpu.translationContext(swapper.root), address)
      const patIndex = physical === FLASH ? 2 : 0
      expect(found).toMatchObject({ status: 'mapped', physical, patIndex })
    }
  })

  test('has no room in vmalloc space for a window of 256 MiB, and goes on without', async () => {
    const { kernel, events } = await play(name)
    expect(virtualOf(kernel, WINDOW)).toBe(0n)
    const texts = events.flatMap((event) => (event.kind === 'message' ? [event.text] : []))
    expect(texts).toContain('EFI: ioremap of 0xE0000000 failed!')
  })

  test('calls SetVirtualAddressMap with paging off, and all else with paging on', async () => {
    const seen: [string, string, bigint, bigint][] = []
    const { kernel, result } = await play(
      name,
      (context) => {
        context.call(context.services().getTime())
      },
      ({ service, cpu }) =>
        seen.push([service, cpu.mode.name, cpu.rsp & PAGE_OFFSET, cpu.gdtr.base]),
    )
    const gdt = kernel.gdtOf(kernel.bootCpu).base
    // Linux 3.10 and later: efi_delete_dummy_variable().
    const dummy = name === 'i386-linux-3.18' ? [['SetVariable', 'PAE', PAGE_OFFSET, gdt]] : []
    expect(seen).toEqual([
      ['SetVirtualAddressMap', 'off', 0n, gdt - PAGE_OFFSET],
      ...dummy,
      ['GetTime', 'PAE', PAGE_OFFSET, gdt],
    ])
    expect(result.outcome).toBe('ok')
    expect(kernel.bootCpu.cr0 & Cr0.PG).not.toBe(0)
  })

  test('leaves the first entries of swapper_pg_dir empty', async () => {
    const { kernel } = await play(name)
    const { first } = kernel.tables.kernelHalf
    const entries = Array.from({ length: first }, (_, index) =>
      kernel.tables.swapper.rootEntry(index),
    )
    expect(entries.every((entry) => entry === 0n)).toBe(true)
  })
})

describe('without PAE', () => {
  test('i386-linux-3.4 maps nothing above 4 GiB, and calls as with it', async () => {
    const { kernel, result } = await play('i386-linux-3.4:paging=32-bit', (context) => {
      expect(useVariables(context, 'stack')).toEqual(FINE)
      expect(useVariables(context, 'vmalloc')).toEqual(FINE)
    })
    expect(kernel.bootCpu.mode.name).toBe('32-bit PSE')
    expect(virtualOf(kernel, ABOVE)).toBe(0n)
    expect(virtualOf(kernel, HIGH)).not.toBe(0n)
    expect(result.outcome).toBe('ok')
  })

  test('i386-legacy-virtual dies on its way to SetVirtualAddressMap where the kernel lies above 8 MiB', async () => {
    await expect(play('i386-legacy-virtual:paging=32-bit')).rejects.toThrow(
      /execute at 0x0000000001003000: .*page not present/,
    )
  })
})

describe('i386-linux-3.4', () => {
  test('gives firmware a map of runtime regions alone, and keeps boot services until then', async () => {
    const { kernel, events } = await play('i386-linux-3.4')
    expect(kernel.requireEfi.memoryMap.every(isRuntime)).toBe(true)
    const texts = events.flatMap((event) => (event.kind === 'message' ? [event.text] : []))
    expect(texts).toContain('efi: Freeing EFI boot services memory: 67584K')
  })

  test('has low memory twice in initial_page_table', async () => {
    const { kernel } = await play('i386-linux-3.4')
    const initial = kernel.roots.find(({ name }) => name === 'initial_page_table')!
    const context = kernel.bootCpu.translationContext(initial.root)
    for (const base of [0n, PAGE_OFFSET]) {
      expect(inspectAddress(context, base + BigInt(LOW))).toMatchObject({ physical: LOW })
    }
  })
})

describe('i386-linux-3.18', () => {
  test('passes a region that has no address, too', async () => {
    const [earlier, later] = [await play('i386-linux-3.4'), await play('i386-linux-3.18')]
    const { length } = earlier.kernel.requireEfi.memoryMap
    expect(later.kernel.requireEfi.memoryMap).toHaveLength(length + 1)
  })

  test.each([
    ['i386-linux-3.4', false],
    ['i386-linux-3.18', true],
  ])('%s keeps the registers that firmware wrote to: %s', async (strategy, keeps) => {
    let found: number | undefined
    const WORD_OF_A_VECTOR = 14
    await play(
      strategy,
      (context) => {
        const { bootCpu } = context.boot()
        bootCpu.floatingPoint.xmm[WORD_OF_A_VECTOR] = 0x55
        context.call(context.services().getTime())
        found = bootCpu.floatingPoint.xmm[WORD_OF_A_VECTOR]
      },
      ({ cpu }) => {
        cpu.floatingPoint.xmm[WORD_OF_A_VECTOR] = 0xaa
      },
    )
    expect(found).toBe(keeps ? 0x55 : 0xaa)
  })
})

describe.each(['pae', '32-bit'])('i386-paging-off, paging=%s', (paging) => {
  const name = `i386-paging-off:paging=${paging}`

  test('passes physical pointers on a physical stack', async () => {
    const seen: unknown[] = []
    const { result } = await play(
      name,
      (context) => {
        expect(useVariables(context, 'stack')).toEqual(FINE)
        expect(useVariables(context, 'kmalloc')).toEqual(FINE)
      },
      ({ cpu }) => seen.push([cpu.mode.name, cpu.rsp < PAGE_OFFSET, cpu.interruptFlag]),
    )
    expect(seen).toEqual(Array.from({ length: 4 }, () => ['off', true, false]))
    expect(result.outcome).toBe('ok')
  })

  test('has no physical pointers for vmalloc space', async () => {
    await play(name, (context) => {
      expect(useVariables(context, 'vmalloc')).not.toEqual(FINE)
    })
  })

  test('leaves a CPU as it was, its CR3 that of the process', async () => {
    const { kernel } = await play(name, (context) => {
      const { bootCpu: cpu } = context.kernel
      const before = [cpu.cr0, cpu.cr3, cpu.cr4, cpu.rsp, cpu.gdtr, cpu.interruptFlag]
      context.call(context.services().getTime())
      expect([cpu.cr0, cpu.cr3, cpu.cr4, cpu.rsp, cpu.gdtr, cpu.interruptFlag]).toEqual(before)
    })
    expect(kernel.tasks[0]?.tables.root).toBe(kernel.bootCpu.root)
  })

  test('with the epilog of 3.2 leaves swapper_pg_dir in CR3', async () => {
    await play(`${name},after=swapper`, (context) => {
      context.call(context.services().getTime())
      expect(context.kernel.bootCpu.root).toBe(context.kernel.tables.swapper.root)
    })
  })

  test('cannot borrow entries of swapper_pg_dir: no process runs on it', async () => {
    const { result } = await play(`${name},alias=swapper`, (context) => {
      context.call(context.services().getTime())
    })
    expect(result.outcome).toBe('fault')
    expect(result.findings[0]?.access).toMatchObject({ kind: 'execute' })
  })

  test('does not call services whose arguments hold pointers', async () => {
    await play(name, (context) => {
      expect(context.services().queryCapsuleCapabilities(Guid.ACPI_20, 0).call).toBeUndefined()
    })
  })

  test('lets a second CPU wait, unless there is no lock', async () => {
    await play(
      name,
      (context) => {
        const [first, second] = [0, 1].map((cpu) => context.services('stack', cpu).getTime().call!)
        first!.enter()
        expect(second!.mayEnter).toBe(false)
        first!.execute()
        first!.leave()
        second!.run()
      },
      undefined,
      2,
    )
  })
})

/** What the patch's own table says of an address. */
function inEfiPgd(kernel: Kernel, address: number): ReturnType<typeof inspectAddress> {
  const { root } = kernel.roots.find((each) => each.name === 'efi_pgd')!
  return inspectAddress(kernel.bootCpu.translationContext(root), BigInt(address))
}

describe.each(['pae', '32-bit'])('i386-private-efi-pgd, paging=%s', (paging) => {
  const name = `i386-private-efi-pgd:paging=${paging}`
  test('maps runtime regions below PAGE_OFFSET 1:1, and the kernel above', async () => {
    const { kernel, result } = await play(name, (context) => {
      expect(useVariables(context, 'stack')).toEqual(FINE)
      expect(useVariables(context, 'vmalloc')).toEqual(FINE)
    })
    for (const physical of [LOW, HIGH]) {
      expect(inEfiPgd(kernel, physical)).toMatchObject({ status: 'mapped', physical })
    }
    expect(inEfiPgd(kernel, 0x2000_0000)).toMatchObject({ status: 'not-present' })
    const direct = Number(PAGE_OFFSET) + LOW
    expect(inEfiPgd(kernel, direct)).toMatchObject({ physical: LOW })
    expect(result.outcome).toBe('ok')
  })

  test('has neither devices above PAGE_OFFSET nor anything above 4 GiB', async () => {
    const { kernel } = await play(name)
    expect(inEfiPgd(kernel, WINDOW)).not.toMatchObject({ physical: WINDOW })
    expect(inEfiPgd(kernel, FLASH)).not.toMatchObject({ physical: FLASH })
    expect(inEfiPgd(kernel, ABOVE)).toMatchObject({ status: 'non-canonical' })
  })

  test('with above=firmware has the devices, in tables that are the kernel’s too', async () => {
    const { kernel } = await play(`${name},above=firmware`)
    expect(inEfiPgd(kernel, FLASH)).toMatchObject({ physical: FLASH })
    const { tables, bootCpu } = kernel
    const inSwapper = inspectAddress(bootCpu.translationContext(tables.swapper.root), BigInt(FLASH))
    expect(inSwapper).toMatchObject({ status: 'mapped', physical: FLASH })
  })

  test('with above=refuse goes without runtime services', async () => {
    const { result } = await play(`${name},above=refuse`)
    expect(result.outcome).toBe('refused')
    expect(result.reason).toContain('reaches above PAGE_OFFSET (0x00000000c0000000)')
  })

  test('in state A maps what is no runtime region, too', async () => {
    const { kernel } = await play(`${name},state=A`)
    expect(inEfiPgd(kernel, 0x2000_0000)).toMatchObject({ physical: 0x2000_0000 })
  })
})
