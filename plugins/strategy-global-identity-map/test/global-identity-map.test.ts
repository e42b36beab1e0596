import { MachineReset } from '@trapdoor/core'
import {
  type CaseTrace,
  createEnvironment,
  findCase,
  loadConfig,
  type Plugin,
  type Scenario,
  type TableSurvey,
  traceCase,
} from '@trapdoor/harness'
import { machineRealRestart, suspendToRam } from '@trapdoor/kernel'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

/** What a scenario of the test's own does on the machine of uncached-data.txt. */
async function play(
  run: Scenario['steps'][number]['run'],
  {
    strategy = 'global-identity-map',
    plugins = [],
  }: { readonly strategy?: string; readonly plugins?: readonly Plugin[] } = {},
): Promise<CaseTrace> {
  const scenario: Scenario = {
    name: 'test',
    title: 'a test',
    cpus: 2,
    steps: [{ name: 'test', run }],
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin, ...plugins, { name: 'test', apiVersion: 1, scenarios: [scenario] }],
    overrides: { memoryMaps: ['uncached-data.txt'] },
  })
  const id = `uncached-data/none/${strategy}/test`
  return traceCase(createEnvironment(config), findCase(config, id))
}

const booted = await play((context) => {
  context.boot()
  context.call(context.services().getTime())
})
const tables = (name: string): TableSurvey => booted.surveys.find((survey) => survey.name === name)!
const identity = tables('identity_pgd')
const kernel = tables('swapper_pg_dir')
const low = identity.ranges.filter(({ start }) => start < 2n ** 47n)

describe('the identity map', () => {
  test('has page 0 and the rest of the first megabyte, whatever the map says of it', () => {
    for (const address of [0n, 0x472n, 0xa_0000n, 0xf_ffffn]) {
      expect(identity.inspect(address)).toMatchObject({ physical: Number(address) })
    }
  })

  test.each([
    { what: 'conventional memory', at: 0x500_0000n },
    { what: 'boot-services data', at: 0x800_0000n },
    { what: 'ACPI tables', at: 0x901_0000n },
    { what: 'runtime data', at: 0x910_0000n },
    { what: 'runtime code', at: 0x920_0000n },
    { what: 'a device with the RUNTIME attribute', at: 0xffe0_0000n },
  ])('has $what at its physical address', ({ at }) => {
    expect(identity.inspect(at)).toMatchObject({ physical: Number(at) })
  })

  test.each([
    { what: 'reserved memory', at: 0x900_0000n },
    { what: 'a device without the RUNTIME attribute', at: 0xfed0_0000n },
    { what: 'a hole of the map', at: 0x9f0_0000n },
  ])('has nothing for $what', ({ at }) => {
    expect(identity.inspect(at).status).toBe('not-present')
  })

  test('is executable everywhere, and nowhere global or the user’s', () => {
    expect(low.length).toBeGreaterThan(1)
    for (const range of low) {
      expect(range).toMatchObject({ executable: true, writable: true, global: false, user: false })
    }
  })

  test('maps at 1:1 and nothing else', () => {
    expect(low.every(({ start, physical }) => start === BigInt(physical))).toBe(true)
  })

  test('has the kernel’s whole upper half', () => {
    const [upper, expected] = [identity, kernel].map(({ ranges }) =>
      ranges.filter(({ start }) => start >= 2n ** 63n),
    )
    expect(expected!.length).toBeGreaterThan(3)
    expect(upper).toEqual(expected)
  })

  test('uses 2 MiB pages where it can, and small ones for the rest', () => {
    expect(identity.inspect(0x500_0000n)).toMatchObject({ pageSize: 0x20_0000 })
    expect(identity.inspect(0x921_f000n)).toMatchObject({ pageSize: 4096 })
  })
})

describe.each(['static', 'early'])(
  'with allocator=%s everybody who needs an identity map',
  (allocator) => {
    test('uses the one table: CPUs that come up, calls, wakeup, kexec, the way to the BIOS', async () => {
      const roots: Record<string, number> = {}
      let shared = 0
      const watch: Plugin = {
        name: 'watch',
        apiVersion: 1,
        rules: [
          {
            id: 'T1',
            title: 'what CR3 is when a kernel begins',
            severity: 'info',
            advice: 'none',
            sources: ['this test'],
            watch: ({ hooks }) => {
              hooks.phase.tap('T1', (next) => {
                if (next.phase === 'head_64') roots[next.name] = next.bootCpu.cr3
              })
            },
          },
        ],
      }
      const { result } = await play(
        (context) => {
          const first = context.boot()
          shared = first.identityMap!.root
          const { call } = context.services().getTime()
          call!.enter()
          roots['a call'] = context.machine.bootCpu.cr3
          call!.execute()
          call!.leave()
          suspendToRam(first)
          // Nobody has made a table of his own, though the second CPU came up twice and the first woke up.
          roots['trampolines'] = first.hasTrampolinePgd ? 0 : shared
          context.kexec()
          const { bootCpu } = context.machine
          const { root } = context.kernel.identityMap!
          expect(() => machineRealRestart(context.kernel, bootCpu)).toThrow(MachineReset)
          roots['the way to the BIOS'] = bootCpu.cr3 === root ? shared : 0
        },
        { strategy: `global-identity-map:allocator=${allocator}`, plugins: [watch] },
      )
      expect(result.outcome).toBe('ok')
      delete roots['first kernel']
      expect(roots).toEqual({
        'a call': shared,
        trampolines: shared,
        'second kernel': shared,
        'the way to the BIOS': shared,
      })
    })
  },
)

describe('memory that cannot be cached', () => {
  test('is UC- in the identity map and in the direct map at once', () => {
    expect(identity.inspect(0x930_0000n)).toMatchObject({ patIndex: 2 })
    expect(kernel.inspect(0xffff_8800_0930_0000n)).toMatchObject({
      physical: 0x930_0000,
      patIndex: 2,
    })
    expect(kernel.inspect(0xffff_8800_0930_ffffn)).toMatchObject({ patIndex: 2 })
  })

  test('ends where it ends, in both', () => {
    expect(identity.inspect(0x931_0000n).status).toBe('not-present')
    expect(kernel.inspect(0xffff_8800_0931_0000n)).toMatchObject({ patIndex: 0 })
    expect(kernel.inspect(0xffff_8800_092f_f000n)).toMatchObject({ patIndex: 0 })
  })

  test('may be a device that the direct map does not reach', () => {
    expect(identity.inspect(0xffe0_0000n)).toMatchObject({ patIndex: 2 })
    expect(kernel.inspect(0xffff_8800_ffe0_0000n).status).toBe('not-present')
  })
})

describe('a call', () => {
  test('runs under it with interrupts off, and ends on the tables of its CPU’s task', async () => {
    const states: unknown[] = []
    let expected: unknown
    await play((context) => {
      context.boot()
      const { cpus } = context.machine
      const note = (): number =>
        states.push(cpus.map(({ cr3, interruptFlag }) => [cr3, interruptFlag]))
      const { root } = context.kernel.roots.find(({ name }) => name === 'identity_pgd')!
      const [first, second] = context.kernel.tasks.map((task) => task.tables.root)
      const calls = [0, 1].map((cpu) => context.services('stack', cpu).getTime().call!)
      for (const call of calls) call.enter()
      note()
      for (const call of calls) call.execute()
      for (const call of calls) call.leave()
      note()
      expected = [
        [
          [root, false],
          [root, false],
        ],
        [
          [first, true],
          [second, true],
        ],
      ]
    })
    expect(states).toEqual(expected)
  })

  test('leaves no low translation in the TLB', async () => {
    const { result } = await play((context) => {
      context.boot()
      const prepared = context.services().getTime()
      context.call(prepared)
      const { touches, cpu } = prepared.call!
      const held = touches.filter(
        ({ address }) => address < 2n ** 47n && cpu.tlb.peek(address) !== undefined,
      )
      expect(touches.some(({ address }) => address < 2n ** 47n)).toBe(true)
      expect(held).toEqual([])
    })
    expect(result.services).toMatchObject([{ name: 'GetTime', ok: true }])
  })

  test('takes arguments from every place that a kernel has', async () => {
    const { result } = await play((context) => {
      context.boot()
      for (const place of ['stack', 'kmalloc', 'module', 'vmalloc'] as const) {
        context.call(context.services(place).getTime())
      }
    })
    expect(result.services.map(({ ok }) => ok)).toEqual([true, true, true, true])
  })
})
