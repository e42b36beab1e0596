import {
  type CaseTrace,
  createEnvironment,
  findCase,
  type KernelChoice,
  loadConfig,
  type Scenario,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import { type Kernel, LAYOUT_2_6_26, LAYOUT_2_6_35 } from '@trapdoor/kernel'
import { isRuntime, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

interface Played {
  readonly trace: CaseTrace
  readonly kernels: readonly Kernel[]
}

function askTheTime(context: ScenarioContext): void {
  context.call(context.services().getTime(), ({ year }) => year === 2010)
}

/** Boots on the machine of small.txt, calls, and does the same after each kexec. */
async function kexecs(
  choices: readonly KernelChoice[],
  strategy = 'virtual-address-passing',
): Promise<Played> {
  const kernels: Kernel[] = []
  const scenario: Scenario = {
    name: 'test',
    title: 'a test',
    steps: [
      {
        name: 'boot',
        run: (context) => {
          kernels.push(context.boot())
          askTheTime(context)
        },
      },
      ...choices.map((choice) => ({
        name: 'kexec',
        run: (context: ScenarioContext) => {
          kernels.push(context.kexec(choice))
          askTheTime(context)
        },
      })),
    ],
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, scenarios: [scenario] }],
    overrides: { memoryMaps: ['small.txt'] },
  })
  const spec = findCase(config, `small/none/${strategy}/test`)
  return { trace: traceCase(createEnvironment(config), spec), kernels }
}

/** The kernels in which SetVirtualAddressMap was called. */
function conversions({ events }: CaseTrace): string[] {
  return events.flatMap((event) =>
    event.kind === 'call' && event.name === 'SetVirtualAddressMap' ? [event.era] : [],
  )
}

describe('a kernel of the same layout', () => {
  test('calls firmware where the first kernel had put it, and never converts it again', async () => {
    const { trace } = await kexecs([{}])
    expect(conversions(trace)).toEqual(['first kernel'])
    expect(trace.result.services.map(({ kernel, status }) => `${kernel}: ${status}`)).toEqual([
      'first kernel: EFI_SUCCESS',
      'second kernel: EFI_SUCCESS',
    ])
    expect(trace.result.outcome).toBe('ok')
  })

  test('maps every region at the address that it was passed', async () => {
    const { trace, kernels } = await kexecs([{}])
    const [first, second] = kernels
    const passed = first!.requireEfi.memoryMap.filter(isRuntime)
    expect(passed.map(({ physicalStart }) => physicalStart)).toEqual([
      0x910_0000, 0x920_0000, 0xffe0_0000,
    ])
    expect(second!.requireEfi.memoryMap).toEqual(passed)
    const tables = trace.surveys.find(
      ({ kernel, name }) => kernel === 'second kernel' && name === 'swapper_pg_dir',
    )!
    for (const { physicalStart, virtualStart, type } of passed) {
      expect(tables.inspect(virtualStart)).toMatchObject({
        physical: physicalStart,
        executable: type === MemoryType.RuntimeServicesCode,
        patIndex: type === MemoryType.MemoryMappedIO ? 2 : 0,
      })
    }
  })

  test('knows the physical addresses that the converted tables hide', async () => {
    const { kernels } = await kexecs([{}])
    const [first, second] = kernels.map((kernel) => kernel.requireEfi)
    for (const key of ['vendorAddress', 'runtimeAddress', 'configurationTableAddress'] as const) {
      expect(second![key]).toBe(first![key])
      expect(second![key] < 2n ** 32n).toBe(true)
    }
    expect(second!.systab).toBe(first!.systab)
    expect(second!.vendor).toBe(first!.vendor)
  })

  test('passes it on to the kernel after it', async () => {
    const { trace } = await kexecs([{}, {}, {}])
    expect(conversions(trace)).toEqual(['first kernel'])
    expect(trace.result.services).toHaveLength(4)
    expect(trace.result.outcome).toBe('ok')
  })
})

describe('a kernel of another layout', () => {
  test('refuses, says why, and boots on without runtime services', async () => {
    const { trace, kernels } = await kexecs([{ layout: LAYOUT_2_6_26 }])
    expect(trace.result.outcome).toBe('refused')
    expect(trace.result.reason).toBe(
      'second kernel goes without EFI runtime services: firmware lives at 0xffff880009100000 for ever, which a kernel with the layout of 2.6.26 uses for something else',
    )
    expect(kernels[1]!.phase).toBe('running')
    expect(kernels[1]!.strategy).toBeUndefined()
    expect(trace.result.services.map(({ kernel }) => kernel)).toEqual(['first kernel'])
  })

  test('passes nothing on: the kernel after it reads the converted tables, whatever its layout', async () => {
    const { trace, kernels } = await kexecs([{ layout: LAYOUT_2_6_26 }, { layout: LAYOUT_2_6_35 }])
    expect(kernels).toHaveLength(2)
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.findings[0]).toMatchObject({
      kernel: 'third kernel',
      phase: 'efi_init',
      access: { errorCode: 'supervisor read, reserved bit set in a paging-structure entry' },
    })
  })
})

test('a first kernel finds nothing passed and converts the firmware itself', async () => {
  const { trace, kernels } = await kexecs([])
  expect(conversions(trace)).toEqual(['first kernel'])
  expect(kernels[0]!.bootParams.setupData).toBe(0)
})

describe('region-addresses', () => {
  test('lets every kernel of one layout boot as if it were the first', async () => {
    const { trace, kernels } = await kexecs([{}, {}], 'region-addresses')
    expect(trace.result.outcome).toBe('ok')
    const images = trace.events.flatMap((event) =>
      event.kind === 'call' && event.name === 'SetVirtualAddressMap' ? [event.image] : [],
    )
    expect(images).toEqual(['RuntimeDxe', 'purgatory', 'purgatory'])
    const starts = kernels.map(({ requireEfi }) =>
      requireEfi.memoryMap.filter(isRuntime).map(({ virtualStart }) => virtualStart),
    )
    expect(starts[1]).toEqual(starts[0])
    expect(starts[2]).toEqual(starts[0])
  })

  test('is of no use to a kernel that has its direct map elsewhere', async () => {
    const { trace } = await kexecs([{ layout: LAYOUT_2_6_26 }], 'region-addresses')
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.findings[0]).toMatchObject({ kernel: 'second kernel', phase: 'efi_init' })
  })
})
