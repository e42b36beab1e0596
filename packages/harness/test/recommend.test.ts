import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import type { StrategyDefinition, StrategyOption } from '@trapdoor/kernel'
import { descriptorEnd, isRuntime, MemoryType } from '@trapdoor/uefi'
import { expect, test } from 'vitest'
import {
  createEnvironment,
  loadConfig,
  type RankedStrategy,
  recommend,
  runCases,
  type Scenario,
} from '../src/index.ts'

const MAP = '../../../configs/demo/ovmf-q35-4m.txt'
/** Options that change nothing: as many as no search may try all triples of. */
const IDLE = 40

function onOrOff(usual: string): StrategyOption {
  return { title: 'whether it is so', values: ['on', 'off'], default: usual }
}

/** Maps runtime code and data 1:1 where its options say so, in tables of its own. */
function partial(name: string, defaults: { code: string; data: string }): StrategyDefinition {
  const idle = Array.from({ length: IDLE }, (_, index) => [`idle${index}`, onOrOff('off')])
  return {
    name,
    title: 'runtime regions 1:1, as far as they are mapped',
    mode: 'physical',
    rewindable: true,
    sources: ['this test'],
    options: {
      ...(Object.fromEntries(idle) as StrategyDefinition['options']),
      code: onOrOff(defaults.code),
      data: onOrOff(defaults.data),
    },
    create: (options) => {
      let table: PageTableBuilder | undefined
      return {
        setup: (kernel) => {
          table = kernel.newPageTable('partial')
          for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
            const isCode = region.type === MemoryType.RuntimeServicesCode
            if (options[isCode ? 'code' : 'data'] === 'off') continue
            const start = region.physicalStart
            table.mapRange(virt(start), phys(start), descriptorEnd(region) - start, {
              executable: isCode,
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

const callsOnce: Scenario = {
  name: 'calls-once',
  title: 'boots and calls GetTime',
  steps: [
    {
      name: 'boot and call',
      run: (context) => {
        context.boot()
        context.call(context.services().getTime())
        context.inspectTables()
      },
    },
  ],
}

/** Passes with no tables in the world. */
const dies: Scenario = {
  name: 'dies',
  title: 'boots and dies',
  steps: [
    {
      name: 'boot and die',
      run: (context) => {
        context.boot().bootCpu.read64(0x1234_5000n)
      },
    },
  ],
}

/** What is recommended, and how many cells were run for it beyond those that were asked for. */
async function recommendCounting(
  strategies: readonly StrategyDefinition[],
  scenarios: readonly Scenario[],
): Promise<{ ranked: RankedStrategy[]; trials: number }> {
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      { name: 'these', apiVersion: 1, strategies: [...strategies], scenarios: [...scenarios] },
    ],
    overrides: { memoryMaps: [MAP] },
  })
  const environment = createEnvironment(config)
  let trials = 0
  const ranked = await recommend(environment, { firmware: ['none'] }, (specs, options) => {
    if (options !== undefined) trials += specs.length
    return Promise.resolve(runCases(environment, specs))
  })
  return { ranked, trials }
}

test('two switches are found among many without trying every pair', async () => {
  const { ranked, trials } = await recommendCounting(
    [partial('nothing', { code: 'off', data: 'off' })],
    [callsOnce],
  )
  expect(ranked[0]!.remedy).toBe('nothing:code=on,data=on')
  // Every switch alone; with the one that makes a difference, every other one.
  expect(trials).toBeLessThanOrEqual(2 * (IDLE + 2))
})

test('where no switch makes a difference the search ends at once', async () => {
  const { ranked, trials } = await recommendCounting(
    [partial('all', { code: 'on', data: 'on' })],
    [callsOnce, dies],
  )
  expect(ranked[0]).toMatchObject({ remedy: undefined, failed: [{ scenario: 'dies' }] })
  expect(trials).toBe(IDLE + 2)
})

test('nothing is tried for a strategy that passes, and it comes first', async () => {
  const { ranked, trials } = await recommendCounting(
    [partial('nothing', { code: 'off', data: 'off' }), partial('all', { code: 'on', data: 'on' })],
    [callsOnce],
  )
  expect(ranked.map(({ label, failed }) => [label, failed.length])).toEqual([
    ['all', 0],
    ['nothing', 1],
  ])
  expect(ranked[0]!.remedy).toBeUndefined()
  expect(trials).toBeLessThanOrEqual(2 * (IDLE + 2))
})
