// The misbehaving runtime driver of shared/data/observed/bad-drivers, in every variant, ends under the model as it ended under Linux 6.1 and 6.12.
import badDrivers from '@trapdoor/firmware-bad-drivers'
import type { Scenario, ScenarioContext } from '@trapdoor/harness'
import type { KernelLog } from '@trapdoor/intake'
import { Guid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'
import { type Ending, endingsOf, observedEnding, ownRuns, sharedRuns } from './observed-drivers.ts'

/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 0x7

/** What the observed machine's test did: a few services, among them SetVariable for a name that begins with P. */
function callServices(context: ScenarioContext): void {
  const services = context.services('kmalloc')
  const data = new Uint8Array([1, 2, 3, 4])
  context.call(services.getTime())
  context.call(services.setVariable('ProbeVariable', Guid.GLOBAL_VARIABLE, KEPT, data))
  context.call(context.services('kmalloc').queryVariableInfo(KEPT))
}

function scenarioOf(kernels: number): Scenario {
  const kexec = {
    name: 'kexec',
    run: (context: ScenarioContext): void => {
      context.kexec()
      callServices(context)
    },
  }
  const boot = {
    name: 'boot',
    run: (context: ScenarioContext): void => {
      context.boot()
      // The observed runs with kexec did not call anything before it.
      if (kernels === 1) callServices(context)
    },
  }
  return {
    name: 'observed',
    title: 'what was done under the real kernel',
    steps: kernels === 1 ? [boot] : [boot, kexec],
  }
}

/** How the kernels of a run ended, under the model and as observed. */
function bothEndings(
  run: string,
  logs: readonly KernelLog[],
): { readonly model: readonly Ending[]; readonly observed: readonly Ending[] } {
  const [variant = '', ...options] = run.split('-')
  // A kernel that got no EFI information from the one before does not know of the driver at all.
  const first = observedEnding(logs[0]!.ending)
  const kernels = first.svamFails ? logs.slice(0, 1) : logs
  const trace = play(`D${variant}/linux-6.1/observed`, scenarioOf(kernels.length), {
    plugins: [badDrivers],
    // A driver that kills the kernel in its boot does so on both sides.
    comesUp: false,
    commandLine: options.includes('efidebug') ? 'efi=debug' : '',
  })
  return {
    model: endingsOf(trace, kernels.length),
    observed: kernels.map(({ ending }) => observedEnding(ending)),
  }
}

describe('the bad driver, as it was run for the project', () => {
  const runs = ownRuns()

  test.each([...runs.keys()])('%s ends as under the real kernel', (run) => {
    const { model, observed } = bothEndings(run, runs.get(run)!)
    expect(model).toEqual(observed)
  })

  test('was run in every variant', () => {
    const variants = new Set([...runs.keys()].map((run) => `D${run.split('-')[0]}`))
    expect(badDrivers.quirks?.map(({ id }) => id).filter((id) => !variants.has(id))).toEqual([])
  })
})

const SHARED_RUNS = sharedRuns()

describe.skipIf(SHARED_RUNS.size === 0)(
  'the bad driver, as it was observed (skipped where the shared data is absent)',
  () => {
    test.each([...SHARED_RUNS.keys()])('%s ends as under the real kernel', (run) => {
      const { model, observed } = bothEndings(run, SHARED_RUNS.get(run)!)
      expect(model).toEqual(observed)
    })
  },
)
