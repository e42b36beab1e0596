import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  traceCase,
} from '@trapdoor/harness'
import { efiIoremap, type Kernel, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiStatus, isRuntime, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin, { type ChainedKernel, kexecChain, OWN_KERNEL } from '../src/index.ts'

const RUNTIME_TYPES: ReadonlySet<number> = new Set([
  MemoryType.RuntimeServicesCode,
  MemoryType.RuntimeServicesData,
])

/** The task's own tables: PML4 entry 0 is the direct map's while firmware runs, and runtime regions can be executed there. */
const lowAlias: StrategyDefinition = {
  name: 'low-alias',
  title: 'the direct map at physical addresses',
  mode: 'physical',
  sources: ['this test'],
  create: () => ({
    setup: (kernel) => {
      for (const region of kernel.requireEfi.memoryMap) {
        if (!RUNTIME_TYPES.has(region.type)) continue
        kernel.tables.setMemoryExecutable(
          efiIoremap(kernel, region),
          region.numberOfPages * 4096,
          true,
        )
      }
    },
    enter: ({ cpu, kernel }) => {
      kernel.print(`CPU ${cpu.id} in`)
      cpu.interruptFlag = false
      const { tables } = kernel.tasks[cpu.id]!
      tables.setRootEntry(0, tables.rootEntry(272))
    },
    leave: ({ cpu, kernel, before }) => {
      kernel.tasks[cpu.id]!.tables.setRootEntry(0, 0n)
      kernel.tables.flushAll()
      cpu.interruptFlag = before.interruptFlag
      kernel.print(`CPU ${cpu.id} out`)
    },
  }),
}

/** What the harness takes for `virtefi`, reduced to what this machine needs. */
const directMap: StrategyDefinition = {
  name: 'legacy-virtual',
  title: 'SetVirtualAddressMap into the direct map',
  mode: 'virtual',
  sources: ['this test'],
  create: () => ({
    virtualMap: (kernel: Kernel) =>
      kernel.requireEfi.memoryMap.map((each) =>
        isRuntime(each)
          ? Object.assign({}, each, { virtualStart: efiIoremap(kernel, each) })
          : each,
      ),
  }),
}

type Quirk = NonNullable<Plugin['quirks']>[number]

/** A firmware with one habit. */
function quirk(id: string, hooks: Quirk['hooks']): Quirk {
  return { id, name: `habit-${id}`, title: 'a habit', sources: ['this test'], hooks }
}

const QUIRKS: readonly Quirk[] = [
  quirk('T1', {
    beforeService: ({ service }) => (service === 'GetTime' ? EfiStatus.DEVICE_ERROR : undefined),
  }),
  quirk('T2', {
    afterService: (status, call) => {
      // The data that GetVariable hands back is not what was stored.
      if (call.service === 'GetVariable' && status === 0n) call.write8(call.arg(4), 0xff)
      return status
    },
  }),
  quirk('T3', {
    beforeService: ({ service }) => (service === 'ResetSystem' ? EfiStatus.SUCCESS : undefined),
  }),
  quirk('T4', {
    // Ends before the NMI of the kdump scenario comes.
    beforeService: ({ service }) => (service === 'SetVariable' ? EfiStatus.SUCCESS : undefined),
  }),
]

/** A kernel with the strategy of that name, whatever it is built for. */
const DIRECT_MAP: ChainedKernel = {
  x64: { strategy: 'legacy-virtual' },
  ia32: { strategy: 'legacy-virtual' },
}

async function play(
  cell: string,
  map = 'small',
  scenarios: readonly Scenario[] = [],
): Promise<CaseTrace> {
  const strategies = [
    lowAlias,
    directMap,
    { ...lowAlias, name: 'linux-3.14' },
    { ...lowAlias, name: 'linux-6.1' },
    { ...lowAlias, name: 'private-efi-pgd' },
    { ...lowAlias, name: 'global-identity-map' },
  ]
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, strategies, scenarios, quirks: QUIRKS }],
    overrides: { memoryMaps: [`${map}.txt`] },
  })
  return traceCase(createEnvironment(config), findCase(config, `${map}/${cell}`))
}

/** The answers of a case, as "kernel: service". Those that were not right say so. */
function answers({ result }: CaseTrace): string[] {
  return result.services.map(
    ({ kernel, name, status, ok }) => `${kernel}: ${name}${ok ? '' : ` ${status}`}`,
  )
}

/** What was printed by kernels, in order. */
function messages({ events }: CaseTrace): string[] {
  return events.flatMap((event) =>
    event.kind === 'message' && event.source === 'kernel' ? [event.text] : [],
  )
}

function callsTo({ events }: CaseTrace, service: string): { era: string; cpu: number }[] {
  return events.flatMap((event) =>
    event.kind === 'call' && event.name === service ? [{ era: event.era, cpu: event.cpu }] : [],
  )
}

const EVERY_DAY = ['GetTime', 'SetVariable', 'GetVariable'] as const
const everyDay = (kernel: string): string[] => EVERY_DAY.map((service) => `${kernel}: ${service}`)

describe('boot', () => {
  test('asks the time, writes a variable, reads it, and looks at the tables', async () => {
    const trace = await play('none/low-alias/boot')
    expect(answers(trace)).toEqual(everyDay('first kernel'))
    expect(trace.result.outcome).toBe('ok')
    expect(trace.result.cost).not.toBeNull()
  })

  test('reports a service that fails, and one that answers wrongly', async () => {
    const failing = await play('T1/low-alias/boot')
    expect(failing.result.outcome).toBe('degraded')
    expect(answers(failing)[0]).toBe('first kernel: GetTime EFI_DEVICE_ERROR')
    const lying = await play('T2/low-alias/boot')
    expect(lying.result.outcome).toBe('degraded')
    expect(answers(lying)[2]).toBe('first kernel: GetVariable EFI_SUCCESS with a wrong result')
  })
})

describe('services', () => {
  const trace = play('none/low-alias/services')

  test('calls every service that a kernel calls at run time, and all answer', async () => {
    const called = new Set((await trace).result.services.map(({ name }) => name))
    expect([...called].toSorted()).toEqual([
      'GetNextHighMonotonicCount',
      'GetNextVariableName',
      'GetTime',
      'GetVariable',
      'GetWakeupTime',
      'QueryCapsuleCapabilities',
      'QueryVariableInfo',
      'ResetSystem',
      'SetTime',
      'SetVariable',
      'SetWakeupTime',
      'UpdateCapsule',
    ])
    expect((await trace).result.services.filter(({ ok }) => !ok)).toEqual([])
  })

  test('has two CPUs in the firmware at once', async () => {
    const ways = messages(await trace).filter((text) => /^CPU \d (?:in|out)$/.test(text))
    const overlap = ways.indexOf('CPU 1 in')
    expect(ways.slice(overlap - 1, overlap + 3)).toEqual([
      'CPU 0 in',
      'CPU 1 in',
      'CPU 0 out',
      'CPU 1 out',
    ])
    expect(callsTo(await trace, 'GetVariable').filter(({ cpu }) => cpu === 1)).toHaveLength(1)
  })

  test('dereferences NULL inside a call', async () => {
    // Page 0 is RAM of the direct map, which is what this strategy puts there.
    expect(messages(await trace)).toContain('an NMI handler read address 0 and got away with it')
  })

  test('ends with a warm reset of the machine', async () => {
    expect((await trace).result.services.at(-1)).toMatchObject({
      name: 'ResetSystem',
      status: 'machine reset (warm)',
      ok: true,
    })
  })

  test('reports a reset that returns', async () => {
    const { result } = await play('T3/low-alias/services')
    expect(result.services.at(-1)).toMatchObject({ status: 'it returned', ok: false })
    expect(result.outcome).toBe('degraded')
  })
})

describe('kexec', () => {
  test('makes the everyday calls in each of two kernels', async () => {
    const trace = await play('none/low-alias/kexec')
    expect(answers(trace)).toEqual([...everyDay('first kernel'), ...everyDay('second kernel')])
    expect(trace.result.outcome).toBe('ok')
  })

  test('goes no further than a kernel that dies', async () => {
    const trace = await play('none/legacy-virtual/kexec')
    expect(answers(trace)).toEqual(everyDay('first kernel'))
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.findings[0]).toMatchObject({ kernel: 'second kernel', phase: 'efi_init' })
  })
})

describe('kexec-other', () => {
  test('boots a kernel of 2.6.26’s layout that uses virtual mode', async () => {
    const trace = await play('none/low-alias/kexec-other')
    expect(answers(trace)).toEqual([...everyDay('first kernel'), ...everyDay('second kernel')])
    expect(callsTo(trace, 'SetVirtualAddressMap')).toEqual([{ era: 'second kernel', cpu: 0 }])
    expect(trace.result.kernel.profile).toBe('Linux 2.6.26')
  })
})

describe('kexec-chain', () => {
  test.each([
    ['kexec-chain-up', 4],
    ['kexec-chain-down', 4],
    ['kexec-chain-physical', 4],
    ['kexec-from-old', 2],
    ['kexec-from-new', 2],
  ])('%s boots %d kernels', async (scenario, count) => {
    const trace = await play(`none/low-alias/${scenario}`)
    expect(answers(trace)).toEqual(
      ['first', 'second', 'third', 'fourth']
        .slice(0, count)
        .flatMap((name) => everyDay(`${name} kernel`)),
    )
  })

  test('is whatever a configuration makes of it', async () => {
    const chain = kexecChain('three', 'three kernels', [OWN_KERNEL, DIRECT_MAP, OWN_KERNEL])
    const trace = await play('none/low-alias/three', 'small', [chain])
    // The second takes firmware to virtual mode, and the third finds it there.
    expect(callsTo(trace, 'SetVirtualAddressMap')).toEqual([{ era: 'second kernel', cpu: 0 }])
    expect(trace.result.findings[0]).toMatchObject({ kernel: 'third kernel', phase: 'efi_init' })
  })
})

describe('early-call', () => {
  test('asks the time before the runtime services are set up', async () => {
    const trace = await play('none/low-alias/early-call')
    expect(answers(trace)).toEqual(['first kernel: GetTime', ...everyDay('first kernel')])
    const first = trace.events.findIndex(({ kind }) => kind === 'call')
    const call = trace.events.findIndex(
      (event) => event.kind === 'call' && event.name === 'GetTime',
    )
    const efi = trace.events.findIndex((event) => event.kind === 'phase' && event.name === 'efi')
    expect(first).toBeLessThan(call)
    expect(call).toBeLessThan(efi)
  })
})

describe('exit-boot-services', () => {
  test('has the loader call it twice, with another map the second time', async () => {
    const trace = await play('none/low-alias/exit-boot-services')
    const statuses = trace.events.flatMap((event) =>
      event.kind === 'return' && event.name === 'ExitBootServices' ? [event.rax] : [],
    )
    expect(statuses).toEqual([EfiStatus.INVALID_PARAMETER, EfiStatus.SUCCESS])
    expect(callsTo(trace, 'AllocatePages')).toHaveLength(1)
    expect(answers(trace)).toEqual(everyDay('first kernel'))
  })
})

describe('kdump-everywhere', () => {
  test('boots a crash kernel for every state that memory is in, and finishes the call', async () => {
    const trace = await play('none/low-alias/kdump-everywhere')
    expect(answers(trace)).toEqual([
      ...everyDay('first kernel'),
      'first kernel: GetTime',
      'first kernel: SetVariable',
      'first kernel: crash kernels',
    ])
    const note = trace.result.services.at(-1)!
    expect(Number.parseInt(note.status, 10)).toBeGreaterThan(2)
    expect(trace.result.outcome).toBe('ok')
  })

  test('keeps what goes wrong in one of them', async () => {
    const trace = await play('T1/low-alias/kdump-everywhere')
    const wrong = trace.result.services.filter(({ ok }) => !ok).map(({ kernel }) => kernel)
    expect(wrong).toContain('crash kernel')
  })
})

describe('kdump', () => {
  const PANIC = 'Kernel panic - not syncing: NMI: hard LOCKUP'

  test('crashes inside SetVariable, and makes the everyday calls in the crash kernel', async () => {
    const trace = await play('none/low-alias/kdump')
    expect(answers(trace)).toEqual([...everyDay('first kernel'), ...everyDay('crash kernel')])
    expect(messages(trace)).toContain('Reserving 64MB of memory at 48MB for crashkernel')
    const panic = trace.events.findIndex(
      (event) => event.kind === 'message' && event.text === PANIC,
    )
    const before = trace.events.slice(0, panic)
    const last = before.findLast((event) => event.kind === 'call' || event.kind === 'return')
    expect(last).toMatchObject({ kind: 'call', name: 'SetVariable' })
  })

  test('leaves the variable that was under way unwritten, and those from before readable', async () => {
    const trace = await play('none/low-alias/kdump')
    const returns = trace.events.filter(
      (event) => event.kind === 'return' && event.name === 'SetVariable',
    )
    // One a kernel; the third never came back.
    expect(callsTo(trace, 'SetVariable')).toHaveLength(3)
    expect(returns).toHaveLength(2)
  })

  test('ends with the crash where there was no memory for a crash kernel', async () => {
    const trace = await play('none/low-alias/kdump', 'crowded')
    expect(messages(trace)).toContain('crashkernel reservation failed - No suitable area found.')
    expect(answers(trace)).toEqual(everyDay('first kernel'))
    expect(trace.result.outcome).toBe('fault')
    expect(trace.result.reason).toMatch(/no crash kernel is loaded/)
  })

  test('crashes right after a call that was over too soon', async () => {
    const trace = await play('T4/low-alias/kdump')
    const panic = trace.events.findIndex(
      (event) => event.kind === 'message' && event.text === PANIC,
    )
    const last = trace.events.slice(0, panic).findLast((event) => event.kind === 'return')
    expect(last).toMatchObject({ name: 'SetVariable' })
    expect(answers(trace).filter((line) => line.startsWith('crash kernel'))).toHaveLength(3)
  })
})

test('without runtime services scenarios run to their end, and nothing is called', async () => {
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, strategies: [lowAlias, directMap] }],
    overrides: { memoryMaps: ['small.txt'], commandLine: 'noefi' },
  })
  const environment = createEnvironment(config)
  for (const scenario of ['boot', 'early-call', 'services', 'kexec', 'kdump', 'kdump-everywhere']) {
    const trace = traceCase(environment, findCase(config, `small/none/low-alias/${scenario}`))
    expect(trace.result.outcome).toBe('refused')
    expect(trace.result.services).toEqual([])
  }
})
