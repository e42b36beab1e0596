import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  traceCase,
} from '@trapdoor/harness'
import {
  efiIoremap,
  type Kernel,
  type KernelVariable,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { EfiStatus, isRuntime, MemoryType } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

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

/** Calls on the task's own tables, with CR3 kept in one variable for all CPUs. */
function onePlace(name: string, serialised: boolean): StrategyDefinition {
  return {
    name,
    title: 'CR3 in a static variable',
    mode: 'virtual',
    sources: ['this test'],
    create: (options) => {
      let saved: KernelVariable | undefined
      return {
        ...directMap.create(options),
        serialised,
        setup: (kernel) => {
          saved = kernel.variable({ perCpu: false })
        },
        enter: ({ cpu }) => {
          saved!.write(cpu, BigInt(cpu.cr3))
        },
        leave: ({ cpu }) => {
          cpu.writeCr3(Number(saved!.read(cpu)))
        },
      }
    },
  }
}

/** CR3 after a call is what it was before. */
const RESTORED: NonNullable<Plugin['rules']>[number] = {
  id: 'T',
  title: 'CR3 is not restored',
  severity: 'error',
  advice: 'restore it',
  sources: ['this test'],
  watch: ({ hooks, report }) => {
    hooks.callLeft.tap('T', ({ kernel, cpu, before }) => {
      if (cpu.cr3 === before.cr3) return
      report(kernel, { message: 'wrong CR3', explanation: 'wrong CR3', outcome: 'corrupt' })
    })
  },
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

async function play(cell: string, map = 'small'): Promise<CaseTrace> {
  const strategies = [
    lowAlias,
    directMap,
    onePlace('one-place', false),
    onePlace('one-place-locked', true),
  ]
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      { name: 'test', apiVersion: 1, strategies, quirks: QUIRKS, rules: [RESTORED] },
    ],
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

describe('trap-handler', () => {
  test('prices a million calls by a few of them, which find warm caches', async () => {
    const [alias, direct] = await Promise.all(
      ['low-alias', 'legacy-virtual'].map((strategy) => play(`none/${strategy}/trap-handler`)),
    )
    // The alias is made and unmade around every call; the direct map is always there.
    const { price } = alias!.result.cost!
    expect(price).toMatchObject({ times: 1_000_000 })
    expect(price!.globalFlushes + price!.cr3Writes).toBeGreaterThanOrEqual(1_000_000)
    expect(direct!.result.cost!.price).toEqual({
      times: 1_000_000,
      cr3Writes: 0,
      globalFlushes: 0,
      tlbMisses: 0,
      walkReferences: 0,
    })
    expect(direct!.result.services[0]).toEqual({
      name: 'GetTime × 1,000,000',
      status: '0 CR3 writes, 0 global flushes, 0 TLB misses, 0 page-table reads',
      ok: true,
      kernel: 'first kernel',
    })
    expect(callsTo(direct!, 'GetTime').length).toBeLessThan(20)
  })
})

test('without runtime services scenarios run to their end, and nothing is called', async () => {
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, strategies: [lowAlias, directMap] }],
    overrides: { memoryMaps: ['small.txt'], commandLine: 'noefi' },
  })
  const environment = createEnvironment(config)
  for (const scenario of ['boot', 'services', 'kexec', 'kdump']) {
    const trace = traceCase(environment, findCase(config, `small/none/low-alias/${scenario}`))
    expect(trace.result.outcome).toBe('refused')
    expect(trace.result.services).toEqual([])
  }
})

describe('interleavings', () => {
  test('of strategies that share nothing are few, and end well', async () => {
    const two = await play('none/legacy-virtual/interleavings')
    expect(two.result.outcome).toBe('ok')
    expect(two.result.reason).toMatch(/all \d schedules that can make a difference/)
    const four = await play('none/legacy-virtual/interleavings-4')
    expect(four.result.reason).toContain('the one schedule')
  })

  test('of one that keeps CR3 in a static variable end badly, by the shortest schedule', async () => {
    const { result } = await play('none/one-place/interleavings')
    expect(result.outcome).not.toBe('ok')
    expect(result.reason).toContain(
      'shortest schedule: CPU 0 enter, CPU 0 execute, CPU 1 enter, CPU 0 leave',
    )
  })

  test('of one with a lock are the orders in which it can be taken', async () => {
    const two = await play('none/one-place-locked/interleavings')
    expect(two.result.outcome).toBe('ok')
    expect(two.result.reason).toContain('all 6 schedules')
    const four = await play('none/one-place-locked/interleavings-4')
    expect(four.result.reason).toContain('all 4 schedules')
  })
})
