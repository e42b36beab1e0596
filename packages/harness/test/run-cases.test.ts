import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { StrategyDefinition } from '@trapdoor/kernel'
import { descriptorEnd, Guid, isRuntime } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  type CaseEnvironment,
  type CaseSpec,
  createEnvironment,
  loadConfig,
  planCases,
  type Rule,
  runCase,
  runCases,
  type Scenario,
  type ScenarioStep,
} from '../src/index.ts'

const MAP = '../../../configs/demo/ovmf-q35-4m.txt'

/** Runtime regions 1:1; kernels of it say in `boots` that they came so far. */
function oneToOne(name: string, boots: string[], rewindable?: boolean): StrategyDefinition {
  return {
    name,
    title: 'runtime regions 1:1',
    mode: 'physical',
    ...(rewindable === undefined ? {} : { rewindable }),
    sources: ['this test'],
    create: () => {
      let table: PageTableBuilder | undefined
      return {
        setup: (kernel) => {
          boots.push(name)
          table = kernel.newPageTable('one_to_one')
          for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
            const start = region.physicalStart
            table.mapRange(virt(start), phys(start), descriptorEnd(region) - start, {
              executable: true,
            })
          }
          kernel.tables.copyRootEntries(table, 256, 512)
        },
        enter: ({ cpu }) => {
          cpu.writeCr3(table!.root)
        },
        leave: ({ cpu, before }) => {
          cpu.writeCr3(before.cr3)
        },
      }
    },
  }
}

const boot: ScenarioStep = {
  name: 'boot',
  run: (context) => {
    context.boot()
  },
}
const write: ScenarioStep = {
  name: 'write',
  run: (context) => {
    const data = new Uint8Array([1, 2, 3])
    context.call(context.services().setVariable('Shared', Guid.GLOBAL_VARIABLE, 7, data))
  },
}
const dies: ScenarioStep = {
  name: 'die',
  run: ({ machine }) => {
    machine.bootCpu.read64(0x1234_5000n)
  },
}
/** Whether the variable is there tells what else has run on the machine. */
function look(name: string): ScenarioStep {
  return {
    name,
    run: (context) => {
      context.call(context.services().getVariable('Shared', Guid.GLOBAL_VARIABLE))
      context.kernel.print(name)
      context.inspectTables()
    },
  }
}
const [one, other] = [look('one'), look('other')]

const SCENARIOS: readonly Scenario[] = [
  { name: 'boot', title: 't', steps: [boot] },
  { name: 'written', title: 't', steps: [boot, write, one] },
  { name: 'not-written', title: 't', steps: [boot, one] },
  { name: 'dead', title: 't', steps: [boot, dies, one] },
  { name: 'dead-after', title: 't', steps: [boot, write, dies] },
  { name: 'again', title: 't', steps: [boot, write, one, other] },
  {
    name: 'kexec',
    title: 't',
    steps: [boot, write, { name: 'kexec', run: (c) => c.kexec() }, one],
  },
  {
    name: 'schedules',
    title: 't',
    cpus: 2,
    steps: [boot, write],
    programs: [
      [(services) => services.getVariable('Shared', Guid.GLOBAL_VARIABLE)],
      [(services) => services.setVariable('Shared', Guid.GLOBAL_VARIABLE, 7, new Uint8Array(9))],
    ],
  },
  {
    name: 'memory-fails',
    title: 't',
    steps: [
      boot,
      {
        name: 'each',
        run: (context) => {
          for (let failed = 1; failed <= 3; failed++) {
            context.afresh(() => {
              context.boot({ failedAllocation: 100 + failed })
              context.call(context.services().getTime())
            })
          }
        },
      },
    ],
  },
]

/** A rule that counts the calls of a kernel, in memory of its own or in the harness's. */
function counting(rewindable: boolean): Rule {
  return {
    id: 'CALLS',
    title: 'calls are counted',
    severity: 'info',
    advice: 'none',
    sources: [],
    rewindable,
    watch: ({ hooks, report, perKernel }) => {
      const calls = perKernel({ initial: () => ({ count: 0 }), copy: (state) => ({ ...state }) })
      hooks.callLeft.tap('CALLS', ({ kernel }) => {
        const state = calls(kernel)
        state.count++
        if (state.count === 2) report(kernel, { message: 'two calls', explanation: 'There were.' })
      })
    },
  }
}

async function together(
  strategy: (boots: string[]) => StrategyDefinition,
  rule: Rule = counting(true),
): Promise<{ boots: number; specs: CaseSpec[]; environment: CaseEnvironment; same: boolean }> {
  const boots: string[] = []
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      {
        name: 'test',
        apiVersion: 1,
        strategies: [strategy(boots)],
        scenarios: [...SCENARIOS],
        rules: [rule],
      },
    ],
    overrides: { memoryMaps: [MAP] },
  })
  const specs = planCases(config)
  const environment = createEnvironment(config)
  const results = runCases(environment, specs)
  const count = boots.length
  expect(results).toEqual(specs.map((spec) => runCase(environment, spec)))
  return { boots: count, specs, environment, same: true }
}

describe('cases that begin alike', () => {
  test('end as they end alone, after fewer boots', async () => {
    const { boots } = await together((each) => oneToOne('shared', each, true))
    // One for a CPU, one for two, one by kexec, and one for each allocation that fails.
    expect(boots).toBe(6)
  })

  test('boot each on its own where the strategy does not say that it can be rewound', async () => {
    const { boots } = await together((each) => oneToOne('own', each))
    expect(boots).toBeGreaterThan(SCENARIOS.length)
  })

  test('boot each on its own where a rule does not', async () => {
    const { boots } = await together((each) => oneToOne('own', each, true), counting(false))
    expect(boots).toBeGreaterThan(SCENARIOS.length)
  })

  test('have the results in the order in which they were asked for', async () => {
    const { environment, specs } = await together((each) => oneToOne('shared', each, true))
    const reversed = specs.toReversed()
    expect(runCases(environment, reversed).map(({ id }) => id)).toEqual(
      reversed.map(({ id }) => id),
    )
  })
})
