import { DEBUG_PORT, DebugPort, type MachineEvent } from '@trapdoor/core'
import type { CaseSpec } from '../config/case-spec.ts'
import type { CaseResult } from '../results/results.ts'
import { CaseExecution } from './case-execution.ts'
import type { CaseEnvironment } from './environment.ts'
import { describePhysical } from './finding.ts'
import { exploreSchedules } from './schedules.ts'
import type { TableSurvey } from './table-survey.ts'

/** A case with everything that happened in it. */
export interface CaseTrace {
  readonly result: CaseResult
  readonly events: readonly MachineEvent[]
  /** What each root of each kernel mapped: of a kernel that was left when it was left, of the last one at the end. */
  readonly surveys: readonly TableSurvey[]
  /** What was printed to the debug port of the last machine since it was switched on, as images in machine code do. */
  readonly debugText: string
  /** What lies at a physical address at the end. */
  readonly describePhysical: (physical: number) => {
    readonly descriptor: string | null
    readonly owner: string | null
  }
}

/** Runs a case on a fresh fork of its firmware. What goes wrong on the machine is in the result; what is thrown is wrong with a plugin or the input. */
export function runCase(environment: CaseEnvironment, spec: CaseSpec): CaseResult {
  return playAlone(environment, spec, {}).result
}

/** As {@link runCase}, with the events, the page tables and the memory of the end. */
export function traceCase(environment: CaseEnvironment, spec: CaseSpec): CaseTrace {
  const { execution, result } = playAlone(environment, spec, { keepTables: true })
  const debugPort = execution.machine.ports.deviceAt(DEBUG_PORT)
  return {
    result,
    events: execution.machine.log.events,
    surveys: execution.surveys(),
    debugText: debugPort instanceof DebugPort ? debugPort.text : '',
    describePhysical: (physical) => {
      const { descriptor, owner } = describePhysical(execution, physical)
      return { descriptor, owner }
    },
  }
}

/** Runs a case that shares nothing with others; one with programs on a machine of its own for each schedule. */
function playAlone(
  environment: CaseEnvironment,
  spec: CaseSpec,
  options: { keepTables?: boolean },
): { execution: CaseExecution; result: CaseResult } {
  const { programs, steps } = environment.config.registry.scenario(spec.scenario)
  const begin = (): { execution: CaseExecution; isAlive: boolean } => {
    const execution = new CaseExecution(environment, spec, options)
    return { execution, isAlive: steps.every((step) => execution.play(step)) }
  }
  const { execution, isAlive } = begin()
  if (!isAlive || programs === undefined) return { execution, result: execution.finish() }
  let first: CaseExecution | undefined = execution
  return exploreSchedules(
    () => {
      const next = first ?? begin().execution
      first = undefined
      return next
    },
    programs,
    (each) => each.finish(),
  )
}
