import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type CaseResult,
  createEnvironment,
  loadConfig,
  OUTCOMES,
  type Plugin,
  runCase,
  type Scenario,
} from '@trapdoor/harness'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import plugin from '../src/index.ts'

const MACHINE = join(import.meta.dirname, '../../../configs/demo/ovmf-q35-4m.txt')
const { options = {} } = plugin.strategies![0]!

/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 0x7

/** Boots, calls from two CPUs one after the other, and once more after kexec. */
const scenario: Scenario = {
  name: 'test',
  title: 'a test',
  cpus: 2,
  steps: [
    {
      name: 'test',
      run: (context) => {
        context.boot()
        context.call(context.services('stack', 0).getTime())
        context.call(context.services('vmalloc', 1).getNextVariableName())
        context.call(context.services('module').queryVariableInfo(KEPT))
        context.inspectTables()
        context.kexec()
        context.call(context.services().getTime())
      },
    },
  ],
}

/** Firmware that reads where nobody has mapped anything. */
const faulting: NonNullable<Plugin['quirks']>[number] = {
  id: 'F1',
  name: 'faulting-time',
  title: 'GetTime reads where nothing is mapped',
  sources: ['this test'],
  hooks: {
    beforeService: (call) => {
      if (call.service === 'GetTime') call.read64(0x7000_0000_0000n)
      return undefined
    },
  },
}

const extra: Plugin = { name: 'test', apiVersion: 1, scenarios: [scenario], quirks: [faulting] }
const config = await loadConfig({
  directory: import.meta.dirname,
  builtIn: [plugin, extra],
  overrides: { memoryMaps: [MACHINE] },
})
const environment = createEnvironment({
  ...config,
  memoryMaps: [{ ...config.memoryMaps[0]!, bytes: readFileSync(MACHINE) }],
})

function run(
  positions: Readonly<Record<string, string>>,
  quirks: readonly string[] = [],
): CaseResult {
  return runCase(environment, {
    id: 'ovmf-q35-4m/none/switches/test',
    memoryMapId: 'ovmf-q35-4m',
    quirks,
    strategy: { name: 'switches', options: positions },
    scenario: 'test',
    seed: 1,
  })
}

describe('the switches', () => {
  test('make a strategy that works where nobody touches them', () => {
    const result = run({})
    expect(result.outcome).toBe('ok')
    expect(result.services.every(({ ok }) => ok)).toBe(true)
    expect(result.cost).toMatchObject({ writableExecutableBytes: 0, bootServicesBytes: 4096 })
  })

  test('have a default among their values, and at least one other', () => {
    for (const option of Object.values(options)) {
      expect(option.values).toContain(option.default)
      expect(option.values.length).toBeGreaterThan(1)
    }
  })

  test('in any positions make something that ends as machines end', () => {
    const positions = fc.record(
      Object.fromEntries(
        Object.entries(options).map(([name, { values }]) => [name, fc.constantFrom(...values)]),
      ),
    )
    fc.assert(
      fc.property(positions, (chosen) => {
        const { outcome, reason } = run(chosen)
        expect(OUTCOMES).toContain(outcome)
        expect(reason).not.toBe('')
      }),
      { numRuns: 150 },
    )
  })
})

describe('one switch', () => {
  test.each([
    ['addresses', 'none', 'ok'],
    ['addresses', 'identity', 'ok'],
    ['addresses', 'constant', 'ok'],
    ['addresses', 'direct-map', 'degraded'],
    ['identity', 'off', 'ok'],
    ['page0', 'unmapped', 'ok'],
    ['root', 'static', 'ok'],
    ['root', 'current', 'refused'],
  ])('%s=%s: %s', (name, value, outcome) => {
    expect(run({ [name]: value }).outcome).toBe(outcome)
  })

  test.each([
    // The kernel's stack is not there when it comes to push what the firmware returns to.
    ['kernelHalf', 'none', { kernel: 'first kernel', service: 'SetVirtualAddressMap' }],
    // The next kernel takes virtual addresses in the system table for physical ones.
    ['handOver', 'nothing', { kernel: 'second kernel', phase: 'efi_init', service: null }],
  ])('%s=%s is fatal: %o', (name, value, where) => {
    const { outcome, findings } = run({ [name]: value })
    expect(outcome).toBe('fault')
    expect(findings[0]).toMatchObject({ ...where, actor: 'kernel' })
  })

  test('page0 and executable decide what is writable and executable', () => {
    const bytes = [
      { page0: 'executable' },
      {},
      { tighten: 'none' },
      { tighten: 'none', executable: 'everything' },
    ].map((positions) => run(positions).cost!.writableExecutableBytes)
    expect(bytes[0]).toBe(4096)
    expect(bytes[1]).toBe(0)
    expect(bytes[2]).toBeGreaterThan(0)
    expect(bytes[3]).toBeGreaterThan(bytes[2]!)
  })

  test.each([
    [{ flush: 'on-both' }, { cr3Writes: 2, globalFlushes: 4 }],
    [{ flush: 'on-leave' }, { cr3Writes: 2, globalFlushes: 2 }],
    [
      { addresses: 'direct-map', root: 'current' },
      { cr3Writes: 0, globalFlushes: 0 },
    ],
  ])('%o decides what a call costs', (positions, cost) => {
    expect(run(positions).cost!.perCall).toMatchObject(cost)
  })

  test.each([
    ['none', 'fault'],
    ['abort-call', 'degraded'],
  ])('faultRecovery=%s decides what a fault in firmware does: %s', (faultRecovery, outcome) => {
    const { findings, ...result } = run({ faultRecovery }, ['F1'])
    expect(result.outcome).toBe(outcome)
    if (outcome !== 'fault') return
    expect(findings[0]).toMatchObject({
      service: 'GetTime',
      access: { address: '0x0000700000000000' },
    })
  })

  test('faultRecovery=disable lets no call through after a fault', () => {
    const { services } = run({ faultRecovery: 'disable' }, ['F1'])
    expect(services[0]).toMatchObject({ name: 'GetTime', status: 'EFI_ABORTED', ok: false })
    expect(services.filter(({ kernel }) => kernel === 'first kernel')).toHaveLength(1)
  })
})
