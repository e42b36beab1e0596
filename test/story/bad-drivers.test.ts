// The misbehaving runtime driver of shared/data/observed/bad-drivers, in every variant that was run, ends under the model as it ended under Linux 6.1 and 6.12.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import badDrivers from '@trapdoor/firmware-bad-drivers'
import type { CaseTrace, Scenario, ScenarioContext } from '@trapdoor/harness'
import { type KernelEnding, linesOf, readKernelLogs } from '@trapdoor/intake'
import { Guid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'

const OBSERVED = join(import.meta.dirname, '../../../shared/data/observed/bad-drivers')
const RUNS = existsSync(OBSERVED)
  ? readdirSync(OBSERVED)
      .filter((file) => file.endsWith('.console.log.gz'))
      .map((file) => file.replace('.console.log.gz', ''))
  : []
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

/** How the kernels of a trace ended, in the words of the observed log. */
function endingsOf({ events, result }: CaseTrace, kernels: number): ModelEnding[] {
  const names = ['first kernel', 'second kernel'].slice(0, kernels)
  return names.map((name) => {
    const said = events.flatMap((event) =>
      event.kind === 'message' && event.source === 'kernel' && event.era === name
        ? [event.text]
        : [],
    )
    const phases = events.filter((event) => event.kind === 'phase' && event.era === name)
    const isRunning = phases.some((event) => event.kind === 'phase' && event.name === 'running')
    return {
      dies: !isRunning && result.outcome === 'fault' && phases.length > 0,
      hangs: result.outcome === 'hang',
      svamFails: said.some((text) => text.includes('Unable to switch EFI into virtual mode')),
      survivesFault: said.some((text) => text.includes('Page fault caused by firmware')),
      flagsCorrupted: said.some((text) => text.includes('IRQ flags corrupted')),
    }
  })
}

interface ModelEnding {
  readonly dies: boolean
  readonly hangs: boolean
  readonly svamFails: boolean
  readonly survivesFault: boolean
  readonly flagsCorrupted: boolean
}

function observedEnding(ending: KernelEnding): ModelEnding {
  const dies = ending.panic !== undefined
  const svamFails = ending.svamStatus !== undefined
  return {
    dies,
    // A log that stops without having come to EFI variables, a panic or a refusal is that of a machine that hangs.
    hangs: !dies && !svamFails && !ending.runtimeServices,
    svamFails,
    survivesFault: ending.survivedFaults.length > 0,
    flagsCorrupted: ending.flagsCorruptedBy.length > 0,
  }
}

describe.skipIf(RUNS.length === 0)(
  'the bad driver (skipped where the shared data is absent)',
  () => {
    test.each(RUNS)('%s ends as under the real kernel', (run) => {
      const [, variant = '', ...options] = run.split('-')
      const logs = readKernelLogs(run, linesOf(join(OBSERVED, `${run}.console.log.gz`)))
      // A kernel that got no EFI information from the one before does not know of the driver at all.
      const first = observedEnding(logs[0]!.ending)
      const kernels = first.svamFails ? logs.slice(0, 1) : logs
      const commandLine = options.includes('efidebug') ? 'efi=debug' : ''
      const trace = play(`D${variant}/linux-6.1/observed`, scenarioOf(kernels.length), {
        plugins: [badDrivers],
        commandLine,
      })
      expect(endingsOf(trace, kernels.length)).toEqual(
        kernels.map(({ ending }) => observedEnding(ending)),
      )
    })
  },
)
