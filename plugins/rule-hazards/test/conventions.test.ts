import { chipset, PAGE_SIZE, type PageTableBuilder } from '@trapdoor/core'
import type { ScenarioContext } from '@trapdoor/harness'
import { type Kernel, type PageTableStrategy, type StrategyDefinition } from '@trapdoor/kernel'
import { EfiStatus, Guid, isRuntime, MemoryAttribute } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { oneToOne } from './one-to-one.ts'
import { bootAndCall, findingOf, play, type Play } from './played.ts'

/** The strategy that does everything right, with one thing changed. */
function sinner(
  change: (right: PageTableStrategy, state: { table?: PageTableBuilder }) => PageTableStrategy,
): StrategyDefinition {
  return {
    ...oneToOne,
    name: 'sinner',
    create: (options) => change(oneToOne.create(options), {}),
  }
}

const defaults = Object.fromEntries(
  Object.entries(oneToOne.options!).map(([name, option]) => [name, option.default]),
)

/** What a rule finds where the right strategy is changed; and that it finds nothing where it is not. */
async function findings(
  rule: string,
  change: Parameters<typeof sinner>[0],
  playing: Play = {},
): Promise<string | undefined> {
  const clean = await play(playing)
  expect(findingOf(clean, rule)).toBeUndefined()
  const strategies = [
    {
      ...sinner((right, state) => change(right, state)),
      options: {},
      create: () => change(oneToOne.create(defaults), {}),
    },
  ]
  return findingOf(await play({ ...playing, strategy: 'sinner', strategies }), rule)?.message
}

function rootOf(kernel: Kernel): number {
  return kernel.roots.find(({ name }) => name !== 'swapper_pg_dir')!.root
}

type Prepared = ReturnType<ReturnType<ScenarioContext['services']>['resetSystem']>

const timeOn = (cpu: number) => (context: ScenarioContext) =>
  context.services('stack', cpu).getTime() as unknown as Prepared
const variableOn = (cpu: number) => (context: ScenarioContext) =>
  context
    .services('stack', cpu)
    .getVariable('Boot0000', Guid.GLOBAL_VARIABLE) as unknown as Prepared

/** Two CPUs in, in, out, out. */
function overlapping(
  ...prepare: readonly ((context: ScenarioContext) => Prepared)[]
): NonNullable<Play['run']> {
  return (context) => {
    context.boot()
    const calls = prepare.map((each) => each(context))
    for (const { call } of calls) call!.enter()
    for (const { call } of calls) call!.execute()
    for (const { call } of calls) call!.leave()
  }
}

describe('H2', () => {
  test('sees two calls of one group inside at once, and lets those of different groups pass', async () => {
    const same = await play({ cpus: 2, run: overlapping(timeOn(0), timeOn(1)) })
    expect(findingOf(same, 'H2')?.message).toBe(
      'CPU 1 enters GetTime while CPU 0 is inside GetTime',
    )
    const different = await play({ cpus: 2, run: overlapping(timeOn(0), variableOn(1)) })
    expect(findingOf(different, 'H2')).toBeUndefined()
  })
})

describe('H4', () => {
  test('knows a kernel that changes attributes before it can', async () => {
    const message = await findings('H4', (right) => ({
      ...right,
      reserve: (kernel) => {
        kernel.tables.setMemoryUncached(kernel.tables.directMapAddress(0), PAGE_SIZE)
      },
    }))
    expect(message).toBe('first kernel changes page attributes in phase efi_init, before mm_init()')
  })
})

describe('H5', () => {
  test('sees a saved CR3 that is no longer the current task’s', async () => {
    const message = await findings('H5', (right) => right, {
      run: (context) => {
        const kernel = context.boot()
        const prepared = context.services().getTime()
        prepared.call!.enter()
        prepared.call!.execute()
        // Another task is current by the time that the call is left.
        const other = Object.assign(Object.create(kernel.tasks[0]!), {
          tables: { root: kernel.tables.swapper.root },
        })
        if (kernel.strategy?.definition.name === 'sinner') kernel.tasks = [other]
        prepared.call!.leave()
      },
    })
    expect(message).toMatch(
      /^after GetTime CPU 0 runs on 0x\w+, and the current task’s tables are at/,
    )
  })
})

describe('H11', () => {
  test('sees runtime memory that is the user’s', async () => {
    const message = await findings(
      'H11',
      (right) => ({
        ...right,
        setup: (kernel) => {
          right.setup!(kernel)
          const table = kernel.newPageTable('spare')
          expect(table).toBeDefined()
          const region = kernel.requireEfi.memoryMap.find(isRuntime)
          makeUser(kernel, region!.physicalStart)
        },
      }),
      { run: inspected },
    )
    expect(message).toMatch(/maps runtime memory at 0x\w+ as a user page$/)
  })
})

describe('H12', () => {
  test('sees an upper entry that forbids what the leaf allows', async () => {
    const message = await findings(
      'H12',
      (right) => ({
        ...right,
        setup: (kernel) => {
          right.setup!(kernel)
          const { memory } = kernel.machine
          memory.write64(rootOf(kernel), memory.read64(rootOf(kernel)) | (1n << 63n))
        },
        // Calls go where code can run, so that the tables are looked at before anybody dies.
        enter: () => {},
        leave: () => {},
        functionAddress: () => 0n,
      }),
      { run: (context) => inspectedUnderOwnTables(context) },
    )
    expect(message).toMatch(/forbids execution of 0x\w+ in its PML4E$/)
  })
})

/** What H14 finds where the strategy does one thing more before the call. */
function whenEntered(enter: NonNullable<PageTableStrategy['enter']>): Promise<string | undefined> {
  return findings('H14', (right) => ({
    ...right,
    enter: (call) => {
      right.enter!(call)
      enter(call)
    },
  }))
}

/** What H14 says of firmware that leaves another value in a vector register. */
async function messageAfterWriting(register: number): Promise<string | undefined> {
  const trace = await play({
    habit: {
      afterService: (status, call) => {
        call.cpu.floatingPoint.xmm[register * 4 + 3] = 1
        return status
      },
    },
  })
  return findingOf(trace, 'H14')?.message
}

/** A call for a process that has this MXCSR. */
const withMxcsr = (value: number): ReturnType<typeof play> =>
  play({
    run: (context) => {
      context.boot()
      context.machine.bootCpu.mxcsr = value
      context.call(context.services().getTime())
    },
  })

describe('H14', () => {
  test('a rounding mode that firmware has left behind and the kernel has not taken back', async () => {
    const trace = await play({
      habit: {
        afterService: (status, call) => {
          call.cpu.mxcsr = 0x7f80
          return status
        },
      },
    })
    expect(trace.result.outcome).toBe('corrupt')
    expect(findingOf(trace, 'H14')?.message).toBe(
      'after GetTime CPU 0 has MXCSR 0x7f80, which was 0x1f80',
    )
  })

  test('sees a vector register of the caller’s that firmware has used, and not one of its own', async () => {
    expect(await messageAfterWriting(6)).toBe(
      'after GetTime CPU 0 has another value in XMM6, which is the caller’s',
    )
    expect(await messageAfterWriting(5)).toBeUndefined()
  })

  test('sees a stack that is not aligned, and FPU instructions that fault', async () => {
    expect(
      await whenEntered(({ cpu }) => {
        cpu.rsp -= 8n
      }),
    ).toMatch(/^GetTime is called with RSP at 0x\w+, which is not a multiple of 16$/)
    expect(
      await whenEntered(({ cpu }) => {
        cpu.writeCr0(cpu.cr0 | 0x8)
      }),
    ).toBe('GetTime is called with CR0.EM or CR0.TS set')
  })

  test('sees a state of flags and of the FPU that firmware may count on not to find', async () => {
    expect(
      await whenEntered(({ cpu }) => {
        cpu.rflags |= 0x400
      }),
    ).toBe('GetTime is called with RFLAGS.DF set')
    expect(
      await whenEntered(({ cpu }) => {
        cpu.floatingPoint.controlWord = 0x40
      }),
    ).toBe('GetTime is called with FCW 0x40 instead of 0x37f')
    expect(findingOf(await withMxcsr(0x3f80), 'H14')?.message).toBe(
      'GetTime is called with MXCSR 0x3f80 instead of 0x1f80',
    )
    // An inexact result that the process had is no matter.
    expect(findingOf(await withMxcsr(0x1fa0), 'H14')).toBeUndefined()
  })
})

describe('H8', () => {
  test('sees a refusal of SetVirtualAddressMap, after which nobody can ask again', async () => {
    const refusing: Play['habit'] = { setVirtualAddressMap: () => EfiStatus.UNSUPPORTED }
    const trace = await play({ strategy: 'legacy-virtual', habit: refusing })
    expect(findingOf(trace, 'H8')?.message).toBe(
      'firmware refuses SetVirtualAddressMap with EFI_UNSUPPORTED, and cannot be asked again',
    )
    expect(findingOf(await play({ strategy: 'legacy-virtual' }), 'H8')).toBeUndefined()
  })
})

/** A kernel that has indirect-branch tracking on, and leaves it on in calls or not. */
const hardened = (inCalls: boolean): Play => ({
  cpu: 'arrow-lake',
  strategy: 'sinner',
  strategies: [
    {
      ...sinner((right) => right),
      options: {},
      hardening: { ibt: 'after-setup' },
      create: () => {
        const right = oneToOne.create(defaults)
        return {
          ...right,
          enter: (call) => {
            right.enter!(call)
            call.cpu.endbranchTracking = inCalls
          },
          leave: (call) => {
            call.cpu.endbranchTracking = true
            right.leave!(call)
          },
        }
      },
    },
  ],
})

describe('H13', () => {
  test('knows firmware that has no ENDBR64 where it is called with tracking on', async () => {
    const trace = await play(hardened(true))
    expect(trace.result.outcome).toBe('fault')
    expect(findingOf(trace, 'H13')?.message).toBe(
      'GetTime is called with indirect-branch tracking on, and firmware has no ENDBR64 there',
    )
  })

  test('has nothing to say where it is off in calls', async () => {
    const trace = await play(hardened(false))
    expect(trace.result.outcome).toBe('ok')
    expect(findingOf(trace, 'H13')).toBeUndefined()
  })
})

describe('H19', () => {
  test('sees memory that is wanted at run time and usable in the e820 map', async () => {
    const trace = await play({
      habit: {
        memoryMap: (map) =>
          map.map((each) =>
            each.physicalStart === 0xa00_0000
              ? { ...each, attribute: each.attribute | MemoryAttribute.RUNTIME }
              : each,
          ),
      },
    })
    expect(findingOf(trace, 'H19')).toMatchObject({
      severity: 'warning',
      message:
        '0x000000000a000000 is ConventionalMemory with RUNTIME for the firmware, and usable memory in the e820 map',
    })
    expect(findingOf(await play({}), 'H19')).toBeUndefined()
  })
})

/** Asks the time before the runtime services are set up, and after. */
const asksTimeTwice: Play['run'] = (context) => {
  context.boot({
    early: (booting) => {
      booting.call(booting.earlyServices().getTime())
    },
  })
  context.call(context.services().getTime())
}

describe('H21', () => {
  test('sees a service that answers otherwise once the runtime services are set up', async () => {
    let calls = 0
    const trace = await play({
      run: asksTimeTwice,
      habit: {
        beforeService: ({ service }) =>
          service === 'GetTime' && calls++ === 0 ? EfiStatus.DEVICE_ERROR : undefined,
      },
    })
    expect(findingOf(trace, 'H21')?.message).toMatch(/^GetTime answered EFI_DEVICE_ERROR before/)
  })

  test('says nothing of answers that are alike', async () => {
    expect(findingOf(await play({ run: asksTimeTwice }), 'H21')).toBeUndefined()
  })
})

describe('SMI', () => {
  const smi: Play['habit'] = {
    beforeService: ({ service }) => {
      // As the clock of a firmware that leaves its work to SMM would.
      if (service === 'GetTime') chipset({ board: 'q35', hasSmiHandler: true }).out8(0xb2, 0x21)
      return undefined
    },
  }

  test('answers a call whose firmware waits for a handler in SMRAM with an error, and goes on', async () => {
    const trace = await play({
      habit: smi,
      run: (context) => {
        bootAndCall(context)
        context.call(context.services().getNextVariableName())
      },
    })
    expect(trace.result.outcome).toBe('degraded')
    expect(findingOf(trace, 'SMI')).toMatchObject({
      service: 'GetTime',
      message: 'GetTime writes 0x21 to the SMI command port, and is answered EFI_DEVICE_ERROR',
    })
    expect(trace.result.services).toMatchObject([
      { name: 'GetTime', status: 'EFI_DEVICE_ERROR' },
      { name: 'GetNextVariableName', ok: true },
    ])
  })

  test('has nothing to say of ports that raise none', async () => {
    const trace = await play({
      habit: {
        beforeService: () => {
          chipset({ board: 'q35' }).out8(0xb2, 0x21)
          return undefined
        },
      },
    })
    expect(findingOf(trace, 'SMI')).toBeUndefined()
    expect(trace.result.outcome).toBe('ok')
  })
})

describe('H17', () => {
  test('sees a low half that is made of the direct map’s tables', async () => {
    const message = await findings(
      'H17',
      () => {
        let table: PageTableBuilder | undefined
        return {
          setup: (kernel) => {
            table = kernel.newPageTable('alias')
            kernel.tables.copyRootEntries(table, 256, 512)
            const { tables } = kernel
            table.setRootEntry(
              0,
              tables.swapper.rootEntry(tables.rootIndex(tables.directMapAddress(0))),
            )
            for (const region of kernel.requireEfi.memoryMap.filter(({ type }) => type === 5)) {
              const bytes = region.numberOfPages * PAGE_SIZE
              tables.setMemoryExecutable(tables.directMapAddress(region.physicalStart), bytes, true)
            }
          },
          enter: ({ cpu }) => {
            cpu.writeCr3(table!.root)
          },
          leave: ({ cpu, before }) => {
            cpu.writeCr3(before.cr3)
          },
        }
      },
      { run: inspected },
    )
    expect(message).toMatch(
      /^alias has the table at 0x\w+ in its low half, which is the direct map’s$/,
    )
  })
})

describe('H20', () => {
  test('sees a call from a segment of 32 bits', async () => {
    const message = await findings('H20', (right) => ({
      ...right,
      enter: (call) => {
        right.enter!(call)
        call.cpu.codeSegmentLong = false
      },
      leave: (call) => {
        call.cpu.codeSegmentLong = true
        right.leave!(call)
      },
    }))
    expect(message).toBe('GetTime is called in compatibility mode')
  })
})

/** Which of H22 and H23 object to a runtime region there. */
async function rulesAgainst(physicalStart: number): Promise<string[]> {
  const trace = await play({
    habit: {
      memoryMap: (map) => [
        ...map,
        { ...map.find(isRuntime)!, type: 11, physicalStart, numberOfPages: 1 },
      ],
    },
    strategy: 'idle',
    strategies: [{ ...oneToOne, name: 'idle', options: {}, create: () => ({}) }],
    run: (context) => {
      context.boot()
      context.services().getTime().call?.enter()
    },
  })
  return ['H22', 'H23'].filter((rule) => findingOf(trace, rule) !== undefined)
}

describe('H22 and H23', () => {
  test('see addresses that nobody has', async () => {
    expect(await rulesAgainst(0xfed0_0000)).toEqual([])
    expect(await rulesAgainst(2 ** 45)).toEqual(['H22'])
    expect(await rulesAgainst(2 ** 48)).toEqual(['H22', 'H23'])
  })

  test('see a virtual address that is not canonical', async () => {
    const trace = await play({
      strategy: 'idle',
      strategies: [
        {
          ...oneToOne,
          name: 'idle',
          options: {},
          create: () => ({
            setup: (kernel) => {
              const efi = kernel.requireEfi
              efi.memoryMap = efi.memoryMap.map((region) =>
                isRuntime(region)
                  ? Object.assign({}, region, { virtualStart: 0x8000_0000_0000n })
                  : region,
              )
            },
          }),
        },
      ],
      run: (context) => {
        context.boot()
      },
    })
    expect(findingOf(trace, 'H22')?.message).toContain('which is not canonical')
  })
})

function inspected(context: ScenarioContext): void {
  bootAndCall(context)
  context.inspectTables()
}

/** Looks at the tables as if calls had run on them. */
function inspectedUnderOwnTables(context: ScenarioContext): void {
  const kernel = context.boot()
  const prepared = context.services().getTime()
  kernel.bootCpu.writeCr3(rootOf(kernel))
  prepared.call!.enter()
  kernel.bootCpu.writeCr3(kernel.tasks[0]!.tables.root)
  context.inspectTables()
}

/** Sets U/S in the leaf of a page in the strategy's tables. */
function makeUser(kernel: Kernel, physical: number): void {
  const { memory } = kernel.machine
  let table = rootOf(kernel)
  for (const shift of [39n, 30n, 21n, 12n]) {
    const at = table + Number((BigInt(physical) >> shift) & 511n) * 8
    const entry = memory.read64(at)
    memory.write64(at, entry | 4n)
    table = Number(entry & 0x000f_ffff_ffff_f000n)
    if (shift === 12n || (entry & 0x80n) !== 0n) return
  }
}
