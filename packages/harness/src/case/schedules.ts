import type { CaseResult } from '../results/results.ts'
import { explore } from '../scenario/explore.ts'
import type { Interleaving } from '../scenario/interleaving.ts'
import type { CpuProgram } from '../scenario/scenario.ts'
import type { CaseExecution } from './case-execution.ts'

/** Schedules that are run of one case at most. */
const MOST_SCHEDULES = 2000

/**
 * Runs programs under every schedule that can make a difference; `begin` brings an execution to where they begin. The result is that of the schedule in which something goes
 * wrong after the fewest steps, or of the first where nothing does.
 */
export function exploreSchedules(
  begin: () => CaseExecution,
  programs: readonly CpuProgram[],
  finish: (execution: CaseExecution) => CaseResult,
): { execution: CaseExecution; result: CaseResult } {
  let best: { execution: CaseExecution; interleaving: Interleaving; result: CaseResult } | undefined
  let schedules = 0
  const start = (): Interleaving & { execution: CaseExecution } => {
    const execution = begin()
    return Object.assign(execution.interleave(programs), { execution })
  }
  for (const { run } of explore(start, MOST_SCHEDULES)) {
    schedules++
    const wrong = run.wrongAfter ?? Infinity
    if (best === undefined || wrong < (best.interleaving.wrongAfter ?? Infinity)) {
      // At once: the execution may be rewound for the next schedule.
      best = { execution: run.execution, interleaving: run, result: finish(run.execution) }
    }
  }
  const { execution, interleaving, result } = best!
  const all = schedules === 1 ? 'the one schedule' : `all ${schedules} schedules`
  const count = schedules < MOST_SCHEDULES ? all : `the first ${schedules} schedules`
  const how =
    interleaving.wrongAfter === undefined
      ? `${count} that can make a difference`
      : `shortest schedule: ${interleaving.describe()}`
  return { execution, result: { ...result, reason: `${result.reason}; ${how}` } }
}
