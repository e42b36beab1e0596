import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  traceCase,
} from '@trapdoor/harness'
import type { Kernel } from '@trapdoor/kernel'
import { decodeMemoryMap, type MemoryDescriptor } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

/** What a scenario of the test's own does with `strategy`. */
async function play(
  map: string,
  strategy: string,
  run: Scenario['steps'][number]['run'],
  firmware?: Plugin,
): Promise<CaseTrace> {
  const scenario: Scenario = { name: 'test', title: 'a test', steps: [{ name: 'test', run }] }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      plugin,
      ...(firmware === undefined ? [] : [firmware]),
      { name: 'test', apiVersion: 1, scenarios: [scenario] },
    ],
    overrides: { memoryMaps: [map] },
  })
  const id = `${map.replace('.txt', '')}/${firmware === undefined ? 'none' : 'T1'}/${strategy}/test`
  return traceCase(createEnvironment(config), findCase(config, id))
}

/** The map that the loader has handed over, as it is in memory once the kernel runs. */
function handedOver({ machine, requireEfi: { info } }: Kernel): MemoryDescriptor[] {
  return decodeMemoryMap(machine.memory.read(info.memmap, info.memmapSize), info.memdescSize)
}

describe('the map that SetVirtualAddressMap gets', () => {
  test.each([
    ['legacy-virtual', true],
    ['linux-3.4', false],
  ])('%s: is written over the one that was handed over: %s', async (strategy, isInPlace) => {
    let map: MemoryDescriptor[] = []
    await play('uncached-data.txt', strategy, (context) => {
      map = handedOver(context.boot())
    })
    expect(map.some(({ virtualStart }) => virtualStart !== 0n)).toBe(isInPlace)
  })

  test('is in memory that somebody else has afterwards', async () => {
    let [during, after]: (string | undefined)[] = []
    let place = 0
    const spy: Plugin = {
      name: 'spy',
      apiVersion: 1,
      quirks: [
        {
          id: 'T1',
          name: 'spy',
          title: 'looks where the map is',
          sources: ['this test'],
          hooks: {
            setVirtualAddressMap: (call) => {
              place = Number(call.arg(3))
              during = call.cpu.machine.memory.owners.get(place / 4096)?.name
              return undefined
            },
          },
        },
      ],
    }
    await play(
      'uncached-data.txt',
      'linux-3.4',
      (context) => {
        context.boot()
        after = context.machine.memory.owners.get(place / 4096)?.name
      },
      spy,
    )
    expect([during, after]).toEqual([
      'EFI memory map of the first kernel',
      'page tables of the first kernel',
    ])
  })
})

test.each([
  ['legacy-virtual', 0],
  ['linux-3.4', 1],
  ['linux-3.8-rc', 0],
])(
  '%s deletes the DUMMY variable, as kernels from 3.10 on do: %i times',
  async (strategy, times) => {
    const { events } = await play('uncached-data.txt', strategy, (context) => {
      context.boot()
    })
    const calls = events.flatMap((event) => (event.kind === 'call' ? [event.name] : []))
    expect(calls.filter((name) => name === 'SetVariable')).toHaveLength(times)
  },
)

describe('firmware above 512 GiB', () => {
  test.each([
    ['legacy-virtual', 'fault'],
    ['linux-3.4', 'ok'],
    ['early-physical', 'fault'],
    ['early-physical:entries=all', 'ok'],
  ])('%s: %s', async (strategy, outcome) => {
    const { result } = await play('above-512-gib.txt', strategy, (context) => {
      context.boot()
      context.call(context.services().getTime())
    })
    expect(result.outcome).toBe(outcome)
  })
})
