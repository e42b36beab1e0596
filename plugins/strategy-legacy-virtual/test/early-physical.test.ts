import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Scenario,
  traceCase,
} from '@trapdoor/harness'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

/** Runs a scenario of the test's own with `strategy` on the machine of uncached-data.txt. */
async function play(
  scenario: Pick<Scenario, 'cpus' | 'programs'> & {
    readonly run: Scenario['steps'][number]['run']
  },
  strategy = 'early-physical',
): Promise<CaseTrace> {
  const { run, ...others } = scenario
  const played: Scenario = {
    name: 'test',
    title: 'a test',
    steps: [{ name: 'test', run }],
    ...others,
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, { name: 'test', apiVersion: 1, scenarios: [played] }],
    overrides: { memoryMaps: ['uncached-data.txt'] },
  })
  const id = `uncached-data/none/${strategy}/test`
  return traceCase(createEnvironment(config), findCase(config, id))
}

const boot: Scenario['steps'][number]['run'] = (context) => {
  context.boot()
}

describe.each(['early-physical', 'early-physical:entries=all'])('%s', (strategy) => {
  test('calls firmware where it is, and leaves the low half of swapper_pg_dir as it was', async () => {
    const entries: bigint[] = []
    const { result, events } = await play(
      {
        run: (context) => {
          const { tables } = context.boot()
          entries.push(tables.swapper.rootEntry(0))
          context.call(context.services().getTime())
          entries.push(tables.swapper.rootEntry(0))
        },
      },
      strategy,
    )
    expect(result.outcome).toBe('ok')
    expect(entries).toEqual([0n, 0n])
    expect(
      events.some((event) => event.kind === 'call' && event.name === 'SetVirtualAddressMap'),
    ).toBe(false)
  })

  test('lets the next kernel find the tables where they are', async () => {
    const { result } = await play(
      {
        run: (context) => {
          context.boot()
          context.kexec()
          context.call(context.services().getTime())
        },
      },
      strategy,
    )
    expect(result.outcome).toBe('ok')
    expect(result.services).toMatchObject([{ kernel: 'second kernel', status: 'EFI_SUCCESS' }])
  })
})

describe('the borrowed entry', () => {
  test('is the direct map’s while a call lasts, and costs a flush of everything on both sides', async () => {
    let isAlias = false
    const { result } = await play({
      run: (context) => {
        const { tables } = context.boot()
        const { call } = context.services().getTime()
        call!.enter()
        const directMap = tables.rootIndex(tables.directMapAddress(0))
        isAlias = tables.swapper.rootEntry(0) === tables.swapper.rootEntry(directMap)
        call!.execute()
        call!.leave()
        context.inspectTables()
      },
    })
    expect(isAlias).toBe(true)
    // Two for the entries, and two for the rights of runtime code.
    expect(result.cost?.perCall).toMatchObject({ cr3Writes: 2 })
    expect(result.cost!.perCall.globalFlushes).toBeGreaterThanOrEqual(4)
  })

  test('is taken away from under the other CPU, and the shortest schedule says by whom', async () => {
    const { result } = await play({
      cpus: 2,
      run: boot,
      programs: [
        [(services) => services.getTime()],
        [(services) => services.getNextVariableName()],
      ],
    })
    expect(result.outcome).toBe('fault')
    expect(result.reason).toMatch(/shortest schedule: .*CPU [01] leave, CPU [01] execute$/)
  })
})
