import { type PageTableBuilder, phys, virt } from '@trapdoor/core'
import {
  type Kernel,
  type KernelVariable,
  setRuntimeCodeExecutable,
  type StrategyDefinition,
} from '@trapdoor/kernel'
import { descriptorEnd, Guid, isRuntime } from '@trapdoor/uefi'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CaseExecution } from '../src/case/case-execution.ts'
import {
  type CaseEnvironment,
  type CaseSpec,
  type CpuProgram,
  createEnvironment,
  type Execution,
  explore,
  findCase,
  type Footprint,
  loadConfig,
  runCase,
  type Scenario,
  type ScenarioContext,
} from '../src/index.ts'

/** What a kernel does around a call. */
interface Habits {
  /** Where firmware is 1:1: in an entry of swapper_pg_dir that is borrowed for the call, in a root that is there for good, or in one that is filled for each call and emptied after it. */
  readonly identity: 'borrowed' | 'kept' | 'filled'
  readonly saveArea: 'static' | 'per-cpu'
  readonly serialised: boolean
}

/** The regions 1:1 in a root. */
function fill(root: PageTableBuilder, { requireEfi: efi }: Kernel): void {
  for (const region of efi.memoryMap.filter(isRuntime)) {
    const start = region.physicalStart
    const flags = { executable: true, replace: true }
    root.mapRange(virt(start), phys(start), descriptorEnd(region) - start, flags)
  }
}

function empty(root: PageTableBuilder, { requireEfi: efi }: Kernel): void {
  for (const region of efi.memoryMap.filter(isRuntime)) {
    root.unmapRange(virt(region.physicalStart), descriptorEnd(region) - region.physicalStart)
  }
}

function strategyOf({ identity, saveArea, serialised }: Habits): StrategyDefinition {
  return {
    name: 'habits',
    title: 'a test',
    mode: 'physical',
    sources: ['this test'],
    create: () => {
      let own: PageTableBuilder
      let saved: KernelVariable
      return {
        serialised,
        setup: (kernel) => {
          saved = kernel.variable({ perCpu: saveArea === 'per-cpu' })
          own = kernel.newPageTable('own')
          kernel.tables.copyKernelHalf(own)
          if (identity === 'kept') fill(own, kernel)
          if (identity !== 'borrowed') return
          for (const region of kernel.requireEfi.memoryMap.filter(isRuntime)) {
            kernel.tables.initMemoryMapping(region.physicalStart, descriptorEnd(region))
          }
          setRuntimeCodeExecutable(kernel, true)
        },
        enter: ({ cpu, kernel }) => {
          const { swapper } = kernel.tables
          saved.write(cpu, BigInt(cpu.cr3))
          if (identity === 'filled') fill(own, kernel)
          if (identity !== 'borrowed') {
            cpu.writeCr3(own.root)
            return
          }
          const directMap = kernel.tables.rootIndex(kernel.tables.directMapAddress(0))
          swapper.setRootEntry(0, swapper.rootEntry(directMap))
          cpu.writeCr3(swapper.root)
        },
        leave: ({ cpu, kernel }) => {
          if (identity === 'filled') empty(own, kernel)
          if (identity === 'borrowed') kernel.tables.swapper.setRootEntry(0, 0n)
          cpu.writeCr3(Number(saved.read(cpu)))
          kernel.tables.flushLocal(cpu)
        },
      }
    },
  }
}

function bootAndWrite(context: ScenarioContext): void {
  context.boot()
  context.call(context.services().setVariable('Shared', Guid.GLOBAL_VARIABLE, 7, new Uint8Array(3)))
}

const CALLS: Readonly<Record<string, CpuProgram[number]>> = {
  'get-time': (services) => services.getTime(),
  'get-variable': (services) => services.getVariable('Shared', Guid.GLOBAL_VARIABLE),
  'set-variable': (services) =>
    services.setVariable('Shared', Guid.GLOBAL_VARIABLE, 7, new Uint8Array(9)),
}

/** A case of a kernel with these habits, one CPU for each list of calls. */
async function caseOf(
  habits: Habits,
  calls: readonly (readonly string[])[],
): Promise<{ environment: CaseEnvironment; spec: CaseSpec; programs: readonly CpuProgram[] }> {
  const programs = calls.map((names) => names.map((name) => CALLS[name]!))
  const scenario: Scenario = {
    name: 'calls',
    title: 'a test',
    cpus: calls.length,
    steps: [{ name: 'boot', run: bootAndWrite }],
    programs,
  }
  const config = await loadConfig({
    directory: import.meta.dirname,
    builtIn: [
      { name: 'test', apiVersion: 1, strategies: [strategyOf(habits)], scenarios: [scenario] },
    ],
    overrides: { memoryMaps: ['../../../configs/demo/ovmf-q35-4m.txt'] },
  })
  const spec = findCase(config, 'ovmf-q35-4m/none/habits/calls')
  return { environment: createEnvironment(config), spec, programs }
}

/** How the case ends under each schedule that is run, and how many these are. */
function violationsOf(
  { environment, spec, programs }: Awaited<ReturnType<typeof caseOf>>,
  footprintOf: (footprint: Footprint) => Footprint,
): { violations: Set<string>; schedules: number } {
  const violations = new Set<string>()
  let schedules = 0
  const start = (): Execution & { readonly execution: CaseExecution } => {
    const execution = new CaseExecution(environment, spec)
    for (const step of environment.config.registry.scenario(spec.scenario).steps) {
      expect(execution.play(step)).toBe(true)
    }
    const interleaving = execution.interleave(programs)
    return {
      execution,
      enabled: () => interleaving.enabled(),
      isOver: () => interleaving.isOver(),
      step: (cpu) => footprintOf(interleaving.step(cpu)),
    }
  }
  for (const { run } of explore(start)) {
    schedules++
    const { outcome, findings } = run.execution.finish()
    const messages = findings.map(({ rule, message }) => `${rule}: ${message}`)
    violations.add([outcome, ...messages.toSorted()].join('; '))
    run.execution.discard()
  }
  return { violations, schedules }
}

/** As if every step depended on every other. */
const EVERYTHING: Footprint = { reads: new Set(), writes: new Set(['everything']) }

describe('schedules', () => {
  test('that differ in nothing but page-table changes are run: a borrowed entry is given back under the other CPU', async () => {
    // Neither CPU writes a byte that the other reads, but for the entry.
    const { environment, spec } = await caseOf(
      { identity: 'borrowed', saveArea: 'per-cpu', serialised: false },
      [['get-time'], ['get-variable']],
    )
    const { outcome, reason } = runCase(environment, spec)
    expect(outcome).toBe('fault')
    expect(reason).toMatch(/shortest schedule: .*CPU [01] leave, CPU [01] execute$/)
  })

  test('that differ in nothing else are run: a root of firmware’s own is emptied under the other CPU', async () => {
    const { environment, spec } = await caseOf(
      { identity: 'filled', saveArea: 'per-cpu', serialised: false },
      [['get-time'], ['get-variable']],
    )
    expect(runCase(environment, spec).outcome).toBe('fault')
  })

  test('of kernels that change nothing of each other’s are few', async () => {
    const played = await caseOf({ identity: 'kept', saveArea: 'per-cpu', serialised: false }, [
      ['get-variable'],
      ['get-variable'],
    ])
    expect(violationsOf(played, (footprint) => footprint)).toEqual({
      violations: new Set(['ok']),
      schedules: 1,
    })
  })

  test('that the reduction leaves out go wrong in no other way than those that it runs', async () => {
    const name = fc.constantFrom(...Object.keys(CALLS))
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          identity: fc.constantFrom('borrowed', 'kept', 'filled'),
          saveArea: fc.constantFrom('static', 'per-cpu'),
          serialised: fc.boolean(),
        }),
        fc.tuple(fc.array(name, { minLength: 1, maxLength: 2 }), fc.tuple(name)),
        async (habits, calls) => {
          const played = await caseOf(habits, calls)
          const reduced = violationsOf(played, (footprint) => footprint)
          const full = violationsOf(played, () => EVERYTHING)
          expect(reduced.violations).toEqual(full.violations)
          expect(reduced.schedules).toBeLessThanOrEqual(full.schedules)
        },
      ),
      { numRuns: 12, seed: 1 },
    )
  })
})
