// The misbehaving runtime driver of shared/data/observed/bad-drivers, in every variant, ends under the model as it ended under Linux 6.1 and 6.12. What is in this folder's
// observed/bad-drivers.log.gz was run for the project in the same way: of each run the lines of its console that tell how it ended.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import badDrivers from '@trapdoor/firmware-bad-drivers'
import type { CaseTrace, Scenario, ScenarioContext } from '@trapdoor/harness'
import { type KernelEnding, type KernelLog, linesOf, readKernelLogs } from '@trapdoor/intake'
import { Guid } from '@trapdoor/uefi'
import { describe, expect, test } from 'vitest'
import { play } from './cases.ts'

const SHARED = join(import.meta.dirname, '../../../shared/data/observed/bad-drivers')
const OWN = join(import.meta.dirname, 'observed/bad-drivers.log.gz')
/** NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS. */
const KEPT = 0x7

/** The logs of the kernels of each run, by the run's name: the variant, and what it was run with. */
type Runs = ReadonlyMap<string, readonly KernelLog[]>

function sharedRuns(): Runs {
  if (!existsSync(SHARED)) return new Map()
  const files = readdirSync(SHARED).filter((file) => file.endsWith('.console.log.gz'))
  return new Map(
    files.map((file) => [
      file.replace(/^quirk-(.*)\.console\.log\.gz$/, '$1'),
      readKernelLogs(file, linesOf(join(SHARED, file))),
    ]),
  )
}

/** Sections that begin with "== NAME". */
function ownRuns(): Runs {
  const lines = linesOf(OWN)
  const heads = lines.flatMap(({ text }, index) => (text.startsWith('== ') ? [index] : []))
  return new Map(
    heads.map((head, index) => {
      const name = lines[head]!.text.slice(3)
      return [name, readKernelLogs(name, lines.slice(head + 1, heads[index + 1]))]
    }),
  )
}

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

/** How a kernel ended, as far as logs and traces can both tell. */
interface Ending {
  /** It panics, or its thread for EFI calls dies of an exception, and whoever called waits for ever. */
  readonly dies: boolean
  /** It comes to nothing without a word. */
  readonly hangs: boolean
  readonly boots: boolean
  readonly svamFails: boolean
  readonly survivesFault: boolean
  readonly flagsCorrupted: boolean
}

/** How the kernels of a trace ended, in the words of the observed log. Only the last that ran can have died. */
function endingsOf({ events, result }: CaseTrace, kernels: number): Ending[] {
  const names = ['first kernel', 'second kernel'].slice(0, kernels)
  const phasesOf = (name: string): string[] =>
    events.flatMap((event) => (event.kind === 'phase' && event.era === name ? [event.name] : []))
  const last = names.findLast((name) => phasesOf(name).length > 0)
  return names.map((name) => {
    const said = events.flatMap((event) =>
      event.kind === 'message' && event.source === 'kernel' && event.era === name
        ? [event.text]
        : [],
    )
    return {
      dies: name === last && result.outcome === 'fault',
      hangs: name === last && result.outcome === 'hang',
      boots: phasesOf(name).includes('running'),
      svamFails: said.some((text) => text.includes('Unable to switch EFI into virtual mode')),
      survivesFault: said.some((text) => text.includes('Page fault caused by firmware')),
      flagsCorrupted: said.some((text) => text.includes('IRQ flags corrupted')),
    }
  })
}

function observedEnding(ending: KernelEnding): Ending {
  const dies = ending.panic !== undefined || (ending.oops !== undefined && !ending.stopped)
  const svamFails = ending.svamStatus !== undefined
  return {
    dies,
    hangs: !dies && !ending.stopped,
    boots: ending.runtimeServices || svamFails,
    svamFails,
    survivesFault: ending.survivedFaults.length > 0,
    flagsCorrupted: ending.flagsCorruptedBy.length > 0,
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
