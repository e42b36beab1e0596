import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import { FirmwareDeadLoop, type Quirk } from '@trapdoor/firmware'
import { KernelPanic, type StrategyDefinition, StrategyRefusal } from '@trapdoor/kernel'
import { descriptorEnd, EfiStatus, isRuntime } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import {
  type CaseEnvironment,
  type CaseTrace,
  collectResults,
  createEnvironment,
  findCase,
  loadConfig,
  type Outcome,
  parseResults,
  type Plugin,
  resultsSchema,
  type Rule,
  runCase,
  type ScenarioContext,
  serializeResults,
  traceCase,
} from '../src/index.ts'
import { thrownBy } from './thrown.ts'

const MAP = '../../../configs/demo/ovmf-q35-4m.txt'

/** Runtime regions 1:1 in a table of their own. */
const oneToOne: StrategyDefinition = {
  name: 'one-to-one',
  title: 'runtime regions 1:1',
  mode: 'physical',
  sources: ['this test'],
  create: () => {
    let table: PageTableBuilder | undefined
    return {
      setup: (kernel) => {
        table = kernel.newPageTable('one_to_one')
        for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
          const start = region.physicalStart
          const bytes = descriptorEnd(region) - start
          table.mapRange(virt(start), phys(start), bytes, { executable: true })
        }
        kernel.tables.copyKernelHalf(table)
      },
      enter: ({ cpu }) => {
        cpu.interruptFlag = false
        cpu.writeCr3(table!.root)
      },
      leave: ({ cpu, before }) => {
        cpu.writeCr3(before.cr3)
        cpu.interruptFlag = before.interruptFlag
      },
    }
  },
}

/** SetVirtualAddressMap with every region where it is already. */
const identity: StrategyDefinition = {
  name: 'identity',
  title: 'virtual addresses that equal the physical ones',
  mode: 'virtual',
  sources: ['this test'],
  create: () => ({
    virtualMap: ({ requireEfi: efi }) =>
      efi.memoryMap.map((each) =>
        isRuntime(each)
          ? Object.assign({}, each, { virtualStart: BigInt(each.physicalStart) })
          : each,
      ),
  }),
}

const refusing: StrategyDefinition = {
  name: 'refusing',
  title: 'not on this machine',
  mode: 'physical',
  sources: ['this test'],
  create: () => ({
    setup: () => {
      throw new StrategyRefusal('not on this machine')
    },
  }),
}

/** Q05 of the catalog, reduced: the firmware asserts that a virtual address is another one. */
const assertsOtherAddress: Quirk = {
  id: 'T5',
  name: 'identity-crash',
  title: 'hangs when a virtual address equals the physical one',
  sources: ['FreeBSD loader efi_disable_vmap (ThinkPad X220)'],
  hooks: {
    setVirtualAddressMap: (call, map) => {
      const flat = map
        .read()
        .find((each) => isRuntime(each) && each.virtualStart === BigInt(each.physicalStart))
      return flat === undefined ? undefined : call.deadLoop('ASSERT (VirtualStart != Physical)')
    },
  },
}

const failsTime: Quirk = {
  id: 'T1',
  name: 'no-time',
  title: 'GetTime fails',
  sources: ['this test'],
  hooks: {
    beforeService: ({ service }) => (service === 'GetTime' ? EfiStatus.DEVICE_ERROR : undefined),
  },
}

function ruleOf(id: string, watch: Rule['watch']): Rule {
  return { id, title: `rule ${id}`, severity: 'warning', advice: 'do not', sources: ['a'], watch }
}

/** A rule that reports once the kernel runs, with an outcome. */
function reporting(id: string, outcome: Outcome): Rule {
  return ruleOf(id, ({ hooks, report }) => {
    hooks.phase.tap(id, (kernel) => {
      if (kernel.phase !== 'running') return
      report(kernel, { message: `${id} says ${outcome}`, explanation: 'because', outcome })
    })
  })
}

function askTheTime(context: ScenarioContext): void {
  context.boot()
  context.call(context.services().getTime(), ({ year }) => year === 2010)
}

interface Cell {
  readonly firmware?: string
  readonly strategy?: string
  readonly run?: (context: ScenarioContext) => void
  readonly rules?: readonly Rule[]
  readonly commandLine?: string
  /** As for --memory-map. */
  readonly map?: string
}

async function environmentOf({
  run = askTheTime,
  rules = [],
  commandLine,
  map = MAP,
}: Cell): Promise<{
  environment: CaseEnvironment
  config: CaseEnvironment['config']
}> {
  const plugin: Plugin = {
    name: 'trapdoor-plugin-test',
    apiVersion: 1,
    strategies: [oneToOne, identity, refusing],
    quirks: [failsTime, assertsOtherAddress],
    rules,
    scenarios: [{ name: 'test', title: 'a test', steps: [{ name: 'the only step', run }] }],
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [plugin],
    overrides: { memoryMaps: [map], ...(commandLine === undefined ? {} : { commandLine }) },
  })
  return { environment: createEnvironment(config), config }
}

const idOf = ({ firmware = 'none', strategy = 'one-to-one' }: Cell): string =>
  `ovmf-q35-4m/${firmware}/${strategy}/test`

async function play(cell: Cell): Promise<CaseTrace> {
  const { environment, config } = await environmentOf(cell)
  return traceCase(environment, findCase(config, idOf(cell)))
}

/** Plays cells in an environment of their own. */
async function playAll(cells: readonly Cell[]): Promise<unknown> {
  const { environment, config } = await environmentOf({ rules: [reporting('R1', 'ok')] })
  return cells.map((cell) => {
    const { result, events } = traceCase(environment, findCase(config, idOf(cell)))
    return { result, events }
  })
}

describe('the outcome', () => {
  test('is ok where services answer and nobody has anything to say', async () => {
    const { result } = await play({})
    expect(result).toMatchObject({
      id: 'ovmf-q35-4m/none/one-to-one/test',
      memoryMap: 'ovmf-q35-4m',
      quirks: [],
      strategy: 'one-to-one',
      scenario: 'test',
      seed: 1,
      outcome: 'ok',
      findings: [],
      kernel: { profile: 'Linux 2.6.35', commandLine: '' },
      services: [{ name: 'GetTime', status: 'EFI_SUCCESS', ok: true, kernel: 'first kernel' }],
    })
  })

  test('is degraded where a service fails, and the reason says which', async () => {
    const { result } = await play({ firmware: 'T1' })
    expect(result.outcome).toBe('degraded')
    expect(result.reason).toContain('GetTime')
    expect(result.reason).toContain('EFI_DEVICE_ERROR')
    expect(result.quirks).toEqual(['T1'])
  })

  test('is degraded where a service succeeds with the wrong answer', async () => {
    const { result } = await play({
      run: (context) => {
        context.boot()
        context.call(context.services().getTime(), () => false)
      },
    })
    expect(result.outcome).toBe('degraded')
    expect(result.services).toMatchObject([
      { status: 'EFI_SUCCESS with a wrong result', ok: false },
    ])
  })

  test('is refused where the strategy declines, and the reason is the strategy’s', async () => {
    const { result } = await play({ strategy: 'refusing' })
    expect(result.outcome).toBe('refused')
    expect(result.reason).toBe(
      'first kernel goes without EFI runtime services: not on this machine',
    )
    expect(result.services).toEqual([])
  })

  test('is refused where the command line says noefi', async () => {
    const { result } = await play({ commandLine: 'noefi' })
    expect(result.outcome).toBe('refused')
    expect(result.kernel.commandLine).toBe('noefi')
  })

  test('is refused where the firmware has 32 bits and the kernel 64', async () => {
    const { result, events } = await play({ map: `ia32:${MAP}` })
    expect(result.outcome).toBe('refused')
    expect(result.reason).toContain('32/64-bit mismatch')
    expect(result.services).toEqual([])
    const switches = events.flatMap((event) => (event.kind === 'cr4-write' ? [event.to] : []))
    expect(switches.length).toBeGreaterThan(0)
  })

  test('is a hang where firmware goes round in circles', async () => {
    const { result, events } = await play({ firmware: 'T5', strategy: 'identity' })
    expect(result.outcome).toBe('hang')
    expect(result.findings).toMatchObject([
      { kernel: 'first kernel', phase: 'efi', service: 'SetVirtualAddressMap', severity: 'error' },
    ])
    expect(events.at(-1)).toMatchObject({
      kind: 'message',
      source: 'firmware',
      text: 'ASSERT (VirtualStart != Physical); CPU dead loop',
    })
  })

  test('is a hang whoever threw the dead loop', async () => {
    const { result } = await play({
      run: (context) => {
        context.boot()
        throw new FirmwareDeadLoop('waits for ever', 0)
      },
    })
    expect(result.outcome).toBe('hang')
  })

  test('is a fault where the CPU raises what nobody catches', async () => {
    const { result } = await play({
      run: (context) => {
        context.boot()
        context.kernel.bootCpu.read64(0x1234n)
      },
    })
    expect(result.outcome).toBe('fault')
    expect(result.findings).toMatchObject([
      {
        rule: 'died',
        message: 'read at 0x0000000000001234: supervisor read, page not present',
        access: { kind: 'read', address: '0x0000000000001234' },
        walk: [
          { entry: 'PML4E', index: 0 },
          { entry: 'PDPTE', index: 0 },
          { entry: 'PDE', index: 0 },
        ],
      },
    ])
  })

  test('is a fault where a kernel panics', async () => {
    const { result } = await play({
      run: () => {
        throw new KernelPanic('not syncing')
      },
    })
    expect(result).toMatchObject({ outcome: 'fault', reason: 'not syncing' })
    expect(result.kernel.profile).toBe('Linux none')
  })

  test.each<{ reports: readonly Outcome[]; outcome: Outcome }>([
    { reports: ['ok'], outcome: 'ok' },
    { reports: ['ok', 'refused'], outcome: 'refused' },
    { reports: ['refused', 'degraded'], outcome: 'degraded' },
    { reports: ['degraded', 'hang', 'refused'], outcome: 'hang' },
    { reports: ['hang', 'corrupt', 'degraded'], outcome: 'corrupt' },
    { reports: ['corrupt', 'fault', 'hang'], outcome: 'fault' },
  ])('of rules that report $reports is $outcome', async ({ reports, outcome }) => {
    const rules = reports.map((each, index) => reporting(`R${index}`, each))
    const { result } = await play({ rules })
    expect(result.outcome).toBe(outcome)
    // The worst is at the top, and gives the reason.
    expect(result.findings).toHaveLength(reports.length)
    expect(result.findings[0]!.message).toMatch(new RegExp(` says ${outcome}$`))
    expect(outcome === 'ok' || result.reason === result.findings[0]!.message).toBe(true)
  })

  test('puts the death first, whatever was found before', async () => {
    const { result } = await play({
      rules: [reporting('R1', 'corrupt')],
      run: (context) => {
        context.boot()
        context.kernel.bootCpu.read64(0x1234n)
      },
    })
    expect(result.outcome).toBe('fault')
    expect(result.findings.map(({ rule }) => rule)).toEqual(['died', 'R1'])
  })

  test('of a service that failed is no better for a rule that found nothing bad', async () => {
    const { result } = await play({ firmware: 'T1', rules: [reporting('R1', 'ok')] })
    expect(result.outcome).toBe('degraded')
    expect(result.reason).toContain('GetTime')
  })
})

describe('findings', () => {
  test('of one rule about one kernel are one, and counted', async () => {
    const chatty = ruleOf('R1', ({ hooks, report }) => {
      hooks.callLeft.tap('R1', (call) => {
        report(call.kernel, { message: 'again', explanation: 'because', call })
      })
    })
    const { result } = await play({
      rules: [chatty],
      run: (context) => {
        askTheTime(context)
        context.call(context.services().getTime())
        context.kexec()
        context.call(context.services().getTime())
      },
    })
    expect(result.findings.map(({ message, kernel }) => [message, kernel])).toEqual([
      ['again (2 times)', 'first kernel'],
      ['again', 'second kernel'],
    ])
  })

  test('of one rule about one kernel are the worst of them', async () => {
    const worsening = ruleOf('R1', ({ hooks, report }) => {
      hooks.phase.tap('R1', (kernel) => {
        const outcome = kernel.phase === 'running' ? 'corrupt' : 'ok'
        report(kernel, { message: kernel.phase, explanation: 'because', outcome })
      })
    })
    const { result } = await play({ rules: [worsening] })
    expect(result.findings.map(({ message }) => message)).toEqual(['running (7 times)'])
    expect(result.outcome).toBe('corrupt')
  })

  test('name the command that repeats them', async () => {
    const { result } = await play({ rules: [reporting('R1', 'ok')] })
    expect(result.findings[0]!.reproduce).toContain('ovmf-q35-4m/none/one-to-one/test')
  })

  test('of a death come from the first rule that knows its cause', async () => {
    const asked: string[] = []
    const knowing = (id: string, knows: boolean): Rule =>
      ruleOf(id, ({ diagnose }) => {
        diagnose(({ error }) => {
          asked.push(id)
          return knows ? { message: `${id}: ${error.message}`, explanation: 'x' } : undefined
        })
      })
    const { result } = await play({
      rules: [knowing('R1', false), knowing('R2', true), knowing('R3', true)],
      run: () => {
        throw new KernelPanic('not syncing')
      },
    })
    expect(asked).toEqual(['R1', 'R2'])
    expect(result.findings).toMatchObject([
      { rule: 'R2', message: 'R2: not syncing', severity: 'error' },
    ])
  })
})

describe('a plugin’s mistake', () => {
  test('in a scenario is an error that names the step and the case', async () => {
    const error = await thrownBy(() =>
      play({
        run: () => {
          throw new TypeError('undefined is not a function')
        },
      }),
    )
    expect(error.code).toBe('HARNESS_PLUGIN_THREW')
    expect(error.expected).toBe(
      'step "the only step" of case ovmf-q35-4m/none/one-to-one/test to run',
    )
    expect(error.found).toBe('TypeError: undefined is not a function')
    expect(error.cause).toBeInstanceOf(TypeError)
  })

  test('may be a scenario that uses a kernel before it boots one', async () => {
    const error = await thrownBy(() => play({ run: (context) => context.services() }))
    expect(error.code).toBe('HARNESS_BAD_PLUGIN')
    expect(error.found).toBe('"test"')
    expect(error.hint).toContain('context.boot()')
  })

  test('in what a rule taps is an error that names the rule and its plugin', async () => {
    const broken = ruleOf('R7', ({ hooks }) => {
      hooks.callEntered.tap('some name', () => {
        throw new RangeError('out of range')
      })
    })
    const error = await thrownBy(() => play({ rules: [broken] }))
    expect(error.code).toBe('HARNESS_PLUGIN_THREW')
    expect(error.expected).toContain('rule R7 of trapdoor-plugin-test')
    expect(error.found).toBe('RangeError: out of range')
  })

  test('in what a rule says of a death is an error that names the rule', async () => {
    const broken = ruleOf('R7', ({ diagnose }) => {
      diagnose(() => {
        throw new RangeError('out of range')
      })
    })
    const error = await thrownBy(() =>
      play({
        rules: [broken],
        run: () => {
          throw new KernelPanic('not syncing')
        },
      }),
    )
    expect(error.code).toBe('HARNESS_PLUGIN_THREW')
    expect(error.expected).toContain('rule R7 of trapdoor-plugin-test')
  })

  test('in a rule’s watch() is an error that names the rule, before any case runs', async () => {
    const broken = ruleOf('R7', () => {
      throw new RangeError('out of range')
    })
    const error = await thrownBy(() => environmentOf({ rules: [broken] }))
    expect(error.code).toBe('HARNESS_PLUGIN_THREW')
    expect(error.expected).toContain('rule R7 of trapdoor-plugin-test')
  })
})

describe('a rule', () => {
  test('that reads what is not mapped is what happened to the machine', async () => {
    const reading = ruleOf('R1', ({ hooks }) => {
      hooks.callLeft.tap('R1', ({ cpu }) => {
        cpu.read64(0x1234n)
      })
    })
    const { result } = await play({ rules: [reading] })
    expect(result.outcome).toBe('fault')
  })
})

describe('results', () => {
  const cells: readonly Cell[] = [
    {},
    { firmware: 'T1' },
    { firmware: 'T5', strategy: 'identity' },
    { strategy: 'refusing' },
    { strategy: 'identity' },
  ]

  test('have the shape that their schema says', async () => {
    const { environment, config } = await environmentOf({ rules: [reporting('R1', 'ok')] })
    const cases = cells.map((cell) => runCase(environment, findCase(config, idOf(cell))))
    const results = collectResults(config, environment.memoryMaps, cases)
    expect(resultsSchema.safeParse(results)).toMatchObject({ success: true })
    expect(parseResults(serializeResults(results))).toEqual(results)
  })

  test('are the same for the same cases, to the last event', async () => {
    expect(await playAll(cells)).toEqual(await playAll(cells))
  })

  test('do not depend on which cases ran before', async () => {
    const { environment, config } = await environmentOf({})
    const specs = cells.map((cell) => findCase(config, idOf(cell)))
    const forwards = specs.map((spec) => runCase(environment, spec))
    const backwards = specs.toReversed().map((spec) => runCase(environment, spec))
    expect(backwards.toReversed()).toEqual(forwards)
  })

  test('summarise the memory map', async () => {
    const { environment } = await environmentOf({})
    expect(environment.memoryMaps).toMatchObject([
      { id: 'ovmf-q35-4m', descriptors: 127, runtimeDescriptors: 5, warnings: [] },
    ])
  })
})

describe('a trace', () => {
  test('has the events, the tables of every kernel, and who owns what', async () => {
    const trace = await play({
      run: (context) => {
        askTheTime(context)
        context.kexec()
      },
    })
    const eras = new Set(trace.events.map(({ era }) => era))
    expect([...eras]).toEqual(['firmware', 'boot loader', 'first kernel', 'second kernel'])
    const tables = trace.surveys.map(({ kernel, name, usedForCalls }) => [
      kernel,
      name,
      usedForCalls,
    ])
    expect(tables).toEqual([
      ['first kernel', 'swapper_pg_dir', false],
      ['first kernel', 'one_to_one', true],
      ['first kernel', 'mm of task 0', false],
      ['second kernel', 'swapper_pg_dir', false],
      ['second kernel', 'one_to_one', false],
      ['second kernel', 'mm of task 0', false],
    ])
    expect(trace.describePhysical(0x7f5e_c000).descriptor).toContain('RuntimeServicesCode')
    expect(trace.describePhysical(0x0600_0000).owner).toBe('page cache of the second kernel')
  })
})

test('the cost of a call is a mean over the calls of the running kernel', async () => {
  const { result } = await play({
    run: (context) => {
      askTheTime(context)
      context.call(context.services().getTime())
      context.inspectTables()
    },
  })
  expect(result.cost).toMatchObject({
    pageZeroMapped: false,
    perCall: { cr3Writes: 2, globalFlushes: 0 },
  })
  // Five runtime regions of the log: 0x102, 0x100, 0x100, 0x84 and 0x400 pages.
  expect(result.cost!.mappedBytes).toBe((0x102 + 0x100 + 0x100 + 0x84 + 0x400) * 4096)
})

test('a map file that is not there is an error that names it', async () => {
  const error = await thrownBy(async () => {
    const config = await loadConfig({
      directory: import.meta.dirname,
      overrides: { memoryMaps: ['no-such-file.txt'] },
    })
    createEnvironment(config)
  })
  expect(error.code).toBe('HARNESS_UNREADABLE_FILE')
  expect(error.file).toMatch(/no-such-file\.txt$/)
})

test('a case on a map that the configuration does not have is an error', async () => {
  const { environment, config } = await environmentOf({})
  const spec = { ...findCase(config, idOf({})), memoryMapId: 'elsewhere' }
  const error = await thrownBy(() => runCase(environment, spec))
  expect(error.code).toBe('HARNESS_NO_MEMORY_MAP')
  expect(error.found).toBe('"elsewhere"')
})
