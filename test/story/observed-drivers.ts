// Runs of the misbehaving runtime driver under real kernels, and how such a run and one of the model's are told in the same words.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { CaseTrace } from '@trapdoor/harness'
import { type KernelEnding, type KernelLog, linesOf, readKernelLogs } from '@trapdoor/intake'

/** The driver's source, and what it did when it was run for the shared data. */
export const SHARED_DRIVER: string = join(
  import.meta.dirname,
  '../../../shared/data/observed/bad-drivers',
)
/** Runs for the project, made in the same way: of each the lines of its console that tell how it ended. */
const OWN = join(import.meta.dirname, 'observed/bad-drivers.log.gz')

/** The logs of the kernels of each run, by the run's name: the variant, and what it was run with. */
export type Runs = ReadonlyMap<string, readonly KernelLog[]>

/** Those of the shared data; none where it is absent. */
export function sharedRuns(): Runs {
  if (!existsSync(SHARED_DRIVER)) return new Map()
  const files = readdirSync(SHARED_DRIVER).filter((file) => file.endsWith('.console.log.gz'))
  return new Map(
    files.map((file) => [
      file.replace(/^quirk-(.*)\.console\.log\.gz$/, '$1'),
      readKernelLogs(file, linesOf(join(SHARED_DRIVER, file))),
    ]),
  )
}

/** Those of the project: sections that begin with "== NAME". */
export function ownRuns(): Runs {
  const lines = linesOf(OWN)
  const heads = lines.flatMap(({ text }, index) => (text.startsWith('== ') ? [index] : []))
  return new Map(
    heads.map((head, index) => {
      const name = lines[head]!.text.slice(3)
      return [name, readKernelLogs(name, lines.slice(head + 1, heads[index + 1]))]
    }),
  )
}

/** How a kernel ended, as far as logs and traces can both tell. */
export interface Ending {
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
export function endingsOf({ events, result }: CaseTrace, kernels: number): Ending[] {
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

/** How a kernel of an observed run ended. */
export function observedEnding(ending: KernelEnding): Ending {
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
