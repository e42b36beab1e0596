// For each switch a machine on which its positions end differently.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspectAddress, PageFault } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  loadConfig,
  type Plugin,
  type ScenarioContext,
  traceCase,
} from '@trapdoor/harness'
import { growVmalloc, type Kernel, preempt } from '@trapdoor/kernel'
import { EfiStatus, Guid, isRuntime, type MemoryDescriptor, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

const MACHINE = join(import.meta.dirname, '../../../configs/demo/ovmf-q35-4m.txt')
const { options = {} } = plugin.strategies![0]!

type Hooks = NonNullable<Plugin['quirks']>[number]['hooks']
type Positions = Readonly<Record<string, string>>

/** What a position is tried on: a firmware, other switches, words of the command line, and what happens after the boot. */
interface Circumstances {
  readonly hooks?: Hooks
  readonly others?: Positions
  readonly commandLine?: string
  /** What is looked at besides the outcome; by default a call is made. */
  readonly run?: (context: ScenarioContext) => unknown
}

/** Runs `switches` with these positions; returns the outcome and what `run` saw. */
async function tryOut(
  positions: Positions,
  { hooks = {}, others = {}, commandLine = '', run = callGetTime }: Circumstances,
): Promise<CaseTrace & { seen: unknown }> {
  let seen: unknown
  const extra: Plugin = {
    name: 'test',
    apiVersion: 1,
    quirks: [{ id: 'T1', name: 'test', title: 'a test', sources: ['this test'], hooks }],
    scenarios: [
      {
        name: 'test',
        title: 'a test',
        cpus: 2,
        steps: [
          {
            name: 'test',
            run: (context) => {
              context.boot()
              seen = run(context)
            },
          },
        ],
      },
    ],
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, extra],
    overrides: { memoryMaps: [MACHINE], commandLine },
  })
  const environment = createEnvironment({
    ...config,
    memoryMaps: [{ ...config.memoryMaps[0]!, bytes: readFileSync(MACHINE) }],
  })
  const trace = traceCase(environment, {
    id: 'ovmf-q35-4m/T1/switches/test',
    memoryMapId: 'ovmf-q35-4m',
    quirks: ['T1'],
    strategy: { name: 'switches', options: { ...others, ...positions } },
    scenario: 'test',
    seed: 1,
  })
  return { ...trace, seen }
}

function callGetTime(context: ScenarioContext): void {
  context.call(context.services().getTime())
}

/** Firmware whose GetTime does something else first. */
function whenCalled(
  does: (call: Parameters<NonNullable<Hooks['beforeService']>>[0]) => void,
): Hooks {
  return {
    beforeService: (call) => {
      if (call.service === 'GetTime') does(call)
      return undefined
    },
  }
}

/** Firmware that keeps a physical address of memory of a type, and uses it in GetTime. */
function touching(type: number, does: 'read64' | 'call' = 'read64'): Hooks {
  return {
    powerOn: (setup) => {
      const page = setup.allocate({ type, pages: 1, name: 'test' })
      setup.code({
        address: page,
        image: 'TestDxe',
        name: 'Work',
        service: 'GetTime',
        run: () => EfiStatus.SUCCESS,
      })
      setup.pointer('PcRtc', 'work', page, { convert: false })
    },
    ...whenCalled((call) => {
      if (does === 'call') call.call(call.pointer('work'))
      else call.read64(call.pointer('work'))
    }),
  }
}

/** Firmware that does not take every map. */
function demanding(
  isRight: (starts: readonly number[], places: readonly bigint[]) => boolean,
): Hooks {
  return {
    setVirtualAddressMap: (_call, map) => {
      const descriptors = map.read()
      const isAccepted = isRight(
        descriptors.map(({ physicalStart }) => physicalStart),
        descriptors.map(({ virtualStart }) => virtualStart),
      )
      return isAccepted ? undefined : EfiStatus.INVALID_PARAMETER
    },
  }
}

/** Whether the kernel reads memory of firmware's at its physical address after a call, where nothing of the kernel's is. */
function readsStale(context: ScenarioContext): boolean {
  callGetTime(context)
  const { machine, kernel } = context
  const code = kernel.requireEfi.memoryMap.find(
    (region) => isRuntime(region) && region.type === MemoryType.RuntimeServicesCode,
  )!
  try {
    machine.bootCpu.read64(BigInt(code.physicalStart))
    return true
  } catch (error) {
    if (!(error instanceof PageFault)) throw error
    return false
  }
}

/** Whether CPU 0 is back on the tables of its task when two calls were entered one after the other, and left in the same order. */
function comesBack(context: ScenarioContext): boolean {
  const calls = [0, 1].map((cpu) => context.services('stack', cpu).getTime().call!)
  for (const call of calls) call.enter()
  for (const call of calls) call.execute()
  for (const call of calls) call.leave()
  return context.machine.bootCpu.cr3 === context.kernel.tasks[0]!.tables.root
}

/** What the tables of calls say of memory-mapped flash. */
function cachingOfFlash({ kernel }: ScenarioContext): unknown {
  const flash = kernel.requireEfi.memoryMap.find(({ type }) => type === MemoryType.MemoryMappedIO)!
  const found = inspectAddress(
    kernel.bootCpu.translationContext(rootOfCalls(kernel)),
    BigInt(flash.physicalStart),
  )
  return found.status === 'mapped' ? found.patIndex : found.status
}

function rootOfCalls({ roots }: Kernel): number {
  return roots.find(({ name }) => name === 'firmware_pgd')!.root
}

/** A runtime region as two of half the size. */
function halves(region: MemoryDescriptor): MemoryDescriptor[] {
  const first = Math.floor(region.numberOfPages / 2)
  if (!isRuntime(region) || first === 0) return [region]
  const rest = region.numberOfPages - first
  const physicalStart = region.physicalStart + first * 4096
  return [
    { ...region, numberOfPages: first },
    { ...region, physicalStart, numberOfPages: rest },
  ]
}

/** The properties table, of firmware that writes into its code's pages all the same. */
const claimsSplitImages: Hooks = {
  powerOn: (setup) => {
    const table = setup.allocate({ type: MemoryType.BootServicesData, pages: 1, name: 'table' })
    setup.write64(table, 0x10_0001_0000n)
    setup.write64(table + 8, 1n)
    setup.setConfigTable(Guid.PROPERTIES_TABLE, table)
  },
  memoryAttributes: () => [],
  ...whenCalled((call) => call.write64(call.imageBase + 0x1ff8n, 1n)),
}

const dies = { faultRecovery: 'none' }
const growsVmalloc: Circumstances = {
  others: dies,
  run: (context) => {
    growVmalloc(context.kernel)
    context.call(context.services('vmalloc').getTime())
  },
}
const overlapping: Circumstances = { others: { lock: 'off' }, run: comesBack }

/** Of each switch: positions, the circumstances, and the outcome with what was seen. */
const CASES: readonly (readonly [string, Circumstances, Readonly<Record<string, unknown>>])[] = [
  [
    'filter',
    {
      hooks: touching(MemoryType.BootServicesData),
      others: { ...dies, retainBootServices: 'never' },
    },
    { runtime: 'fault', 'runtime-and-boot': 'ok', all: 'ok' },
  ],
  [
    'filter',
    {
      others: { retainBootServices: 'never' },
      run: ({ kernel }) =>
        kernel.requireEfi.memoryMap.some(({ type }) => type === MemoryType.ACPIReclaimMemory),
    },
    { runtime: false, 'type-bits': true, all: true },
  ],
  [
    'addresses',
    {
      hooks: demanding((starts, places) =>
        places.every((at, index) => at !== BigInt(starts[index]!)),
      ),
      others: { svamFailure: 'panic' },
    },
    { none: 'ok', identity: 'fault', 'top-down': 'ok' },
  ],
  [
    'svamOrder',
    { hooks: demanding((starts) => starts[0]! < starts.at(-1)!) },
    { ascending: 'ok', descending: 'refused' },
  ],
  [
    'mergeRegions',
    {
      // Firmware whose every runtime region is listed in two, and which wants to see it whole.
      hooks: {
        powerOn: (setup) => {
          setup.reportMap((map) => map.flatMap(halves))
        },
        setVirtualAddressMap: (_call, map) => {
          const [one, two] = map
            .read()
            .filter(({ type }) => type === MemoryType.RuntimeServicesData)
          const last = [one, two].map(
            (region) => region!.physicalStart + region!.numberOfPages * 4096,
          )
          const isHalf = last[0] === two!.physicalStart || last[1] === one!.physicalStart
          return isHalf ? EfiStatus.INVALID_PARAMETER : undefined
        },
      },
    },
    { off: 'refused', on: 'ok' },
  ],
  [
    'retainBootServices',
    { hooks: touching(MemoryType.BootServicesData), others: dies },
    { never: 'fault', 'until-svam': 'fault', forever: 'ok' },
  ],
  [
    'unmapBootServices',
    { hooks: touching(MemoryType.BootServicesData), others: dies },
    { off: 'ok', on: 'fault' },
  ],
  [
    'identity',
    { hooks: touching(MemoryType.RuntimeServicesData), others: dies },
    { off: 'fault', on: 'ok' },
  ],
  [
    'page0',
    { hooks: whenCalled((call) => call.write64(0x472n, 0n)), others: dies },
    { unmapped: 'fault', 'no-execute': 'ok', executable: 'ok' },
  ],
  [
    'pageSize',
    { others: { filter: 'all' }, run: ({ kernel }) => kernel.efiTablePages > 256 },
    { '4K': true, '2M': false, '1G': false },
  ],
  ['globalBit', { run: readsStale }, { off: false, on: true }],
  [
    'flush',
    { others: { globalBit: 'on' }, run: readsStale },
    { nothing: true, 'on-leave': false, 'on-both': false },
  ],
  ['caching', { run: cachingOfFlash }, { ignore: 0, uncached: 2 }],
  [
    'executable',
    {
      hooks: touching(MemoryType.RuntimeServicesData, 'call'),
      others: { ...dies, tighten: 'none' },
    },
    { everything: 'ok', code: 'fault' },
  ],
  [
    'tighten',
    { hooks: claimsSplitImages, others: dies },
    { none: 'ok', 'properties-table': 'fault', 'memory-attributes-table': 'ok' },
  ],
  [
    'tighten',
    { hooks: whenCalled((call) => call.write64(call.imageBase + 0xff8n, 1n)), others: dies },
    { none: 'ok', 'memory-attributes-table': 'fault' },
  ],
  ['root', {}, { allocated: 'ok', static: 'ok', current: 'refused' }],
  [
    'sharePgd0',
    {
      run: ({ kernel: { bootCpu, requireEfi: efi, tables } }) => {
        // Memory of the kernel's own by now, which only its map 1:1 was to lose.
        const freed = efi.firmwareMap.find(({ type }) => type === MemoryType.BootServicesCode)!
        return bootCpu.read64(tables.directMapAddress(freed.physicalStart)) >= 0n
      },
    },
    { off: true, on: 'fault' },
  ],
  [
    'kernelHalf',
    {
      others: dies,
      run: (context) => context.call(context.services('vmalloc').getTime()) !== undefined,
    },
    { none: 'fault', two: 'fault', all: true },
  ],
  ['syncPolicy', growsVmalloc, { once: 'fault', 'per-call': 'ok' }],
  [
    'interrupts',
    {
      run: (context) => {
        const { call } = context.services().getTime()
        call!.enter()
        return context.machine.bootCpu.interruptFlag
      },
    },
    { off: false, on: true },
  ],
  [
    'preemption',
    {
      run: (context) => {
        const { call } = context.services().getTime()
        call!.enter()
        return preempt(context.kernel, context.machine.bootCpu)
      },
    },
    { off: false, on: true },
  ],
  [
    'saveFpu',
    {
      hooks: whenCalled(({ cpu }) => {
        cpu.mxcsr = 0x7f80
        cpu.floatingPoint.xmm.fill(1)
      }),
      run: (context) => {
        const { bootCpu } = context.machine
        const before = [bootCpu.mxcsr, ...bootCpu.floatingPoint.xmm].join(',')
        callGetTime(context)
        return [bootCpu.mxcsr, ...bootCpu.floatingPoint.xmm].join(',') === before
      },
    },
    { off: false, on: true },
  ],
  ['saveArea', overlapping, { static: false, 'per-cpu': true, stack: true }],
  [
    'restore',
    { ...overlapping, others: { ...overlapping.others, saveArea: 'static' } },
    { saved: false, task: true },
  ],
  [
    'lock',
    {
      run: (context) => {
        context.services().getTime().call!.enter()
        return context.services('stack', 1).getTime().call!.mayEnter
      },
    },
    { off: true, on: false },
  ],
  [
    'faultRecovery',
    {
      hooks: whenCalled((call) => call.read64(0x7000_0000_0000n)),
      run: (context) => {
        callGetTime(context)
        context.call(context.services().queryVariableInfo(7))
        return context.kernel.efiRefusal === undefined
      },
    },
    { none: 'fault', disable: false, 'abort-call': true },
  ],
  ['preemptRt', {}, { off: 'ok', on: 'refused' }],
  ['preemptRt', { commandLine: 'efi=runtime' }, { off: 'ok', on: 'ok' }],
  ['svamFailure', { hooks: demanding(() => false) }, { panic: 'fault', disable: 'refused' }],
  [
    'handOver',
    {
      run: (context) => {
        context.kexec()
        callGetTime(context)
      },
    },
    { nothing: 'fault', addresses: 'ok' },
  ],
]

test('every switch is among them', () => {
  expect(new Set(CASES.map(([name]) => name))).toEqual(new Set(Object.keys(options)))
})

describe.each(CASES)('%s', (name, circumstances, expected) => {
  test('makes a difference', async () => {
    const ends: Record<string, unknown> = {}
    for (const position of Object.keys(expected)) {
      expect(options[name]!.values).toContain(position)
      const { result, seen } = await tryOut({ [name]: position }, circumstances)
      ends[position] =
        result.outcome === 'ok' || typeof seen === 'boolean'
          ? (seen ?? result.outcome)
          : result.outcome
    }
    expect(ends).toEqual(expected)
  })
})
