import { type CaseSpec, strategyLabel } from '../config/case-spec.ts'
import type { CaseResult } from '../results/results.ts'
import type { Scenario, ScenarioStep } from '../scenario/scenario.ts'
import { CaseExecution } from './case-execution.ts'
import type { CaseEnvironment } from './environment.ts'
import { runCase } from './run-case.ts'
import { exploreSchedules } from './schedules.ts'

/** Scenarios step by step: those that begin with the same steps share them. */
interface Branch {
  readonly step: ScenarioStep
  /** Cases whose scenario ends with this step, its programs apart. */
  readonly ends: CaseSpec[]
  readonly branches: Branch[]
}

/**
 * As {@link runCase} for each of `specs`, in their order, and with the same results. Cases on one firmware, with one strategy and as many CPUs, whose scenarios begin with the
 * same steps run these once: where they part, machine, kernel and all that is known so far are remembered, and taken back to that for the next one.
 */
export function runCases(environment: CaseEnvironment, specs: readonly CaseSpec[]): CaseResult[] {
  const results = new Map<CaseSpec, CaseResult>()
  const take = (spec: CaseSpec, result: CaseResult): void => {
    results.set(spec, result)
  }
  for (const group of Map.groupBy(specs, (spec) => machineOf(environment, spec)).values()) {
    for (const branch of branchesOf(environment, group)) {
      const execution = new CaseExecution(environment, specsOf(branch)[0]!)
      playBranch(environment, execution, branch, take)
      execution.discard()
    }
  }
  return specs.map((spec) => results.get(spec)!)
}

/** What cases have to have in common to run on one machine. */
function machineOf({ config }: CaseEnvironment, spec: CaseSpec): string {
  const { memoryMapId, quirks, strategy, scenario, seed } = spec
  const { cpus = 1 } = config.registry.scenario(scenario)
  return [memoryMapId, quirks.join('+'), strategyLabel(strategy), seed, cpus].join('/')
}

function branchesOf({ config }: CaseEnvironment, specs: readonly CaseSpec[]): Branch[] {
  const first: Branch[] = []
  for (const spec of specs) {
    let branches = first
    let last: Branch | undefined
    for (const step of config.registry.scenario(spec.scenario).steps) {
      last = branches.find((each) => each.step.run === step.run && each.step.name === step.name)
      if (last === undefined) {
        last = { step, ends: [], branches: [] }
        branches.push(last)
      }
      branches = last.branches
    }
    last?.ends.push(spec)
  }
  return first
}

/** Plays a step and all that follows it. */
function playBranch(
  environment: CaseEnvironment,
  execution: CaseExecution,
  branch: Branch,
  take: (spec: CaseSpec, result: CaseResult) => void,
): void {
  const { step, ends, branches } = branch
  if (!execution.play(step)) {
    for (const spec of specsOf(branch)) take(spec, execution.finish(spec))
    return
  }
  const programsOf = ({ scenario }: CaseSpec): Scenario['programs'] =>
    environment.config.registry.scenario(scenario).programs
  for (const spec of ends) {
    if (programsOf(spec) === undefined) take(spec, execution.finish(spec))
  }
  const explored = ends.filter((spec) => programsOf(spec) !== undefined)
  if (explored.length === 0 && branches.length < 2) {
    for (const next of branches) playBranch(environment, execution, next, take)
    return
  }
  const rewind = execution.checkpoint()
  if (rewind === undefined) {
    for (const spec of [...explored, ...branches.flatMap(specsOf)]) {
      take(spec, runCase(environment, spec))
    }
    return
  }
  let isThere = true
  const getBack = (): CaseExecution => {
    if (!isThere) rewind()
    isThere = false
    return execution
  }
  for (const spec of explored) {
    const { result } = exploreSchedules(getBack, programsOf(spec)!, (each) => each.finish(spec))
    take(spec, result)
  }
  for (const next of branches) playBranch(environment, getBack(), next, take)
}

/** The cases that go through a step. */
function specsOf({ ends, branches }: Branch): CaseSpec[] {
  return [...ends, ...branches.flatMap(specsOf)]
}
