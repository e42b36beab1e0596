import { kernelArchitecture, layoutOf } from '@trapdoor/kernel'
import { type CaseSpec, strategyLabel } from '../config/case-spec.ts'
import type { ResolvedConfig } from '../config/resolved-config.ts'
import type { CaseResult } from '../results/results.ts'
import type { Scenario, ScenarioStep } from '../scenario/scenario.ts'
import { CaseExecution } from './case-execution.ts'
import type { CaseEnvironment } from './environment.ts'
import { runCase } from './run-case.ts'
import { exploreSchedules } from './schedules.ts'

/** Scenarios step by step: those that begin with the same steps share them. */
interface Branch {
  readonly step: ScenarioStep
  /** The strategy of all cases that go through the step; undefined where it does the same for any, and so did all before it. */
  readonly strategy: string | undefined
  /** Cases whose scenario ends with this step, its programs apart. */
  readonly ends: CaseSpec[]
  readonly branches: Branch[]
}

/**
 * As {@link runCase} for each of `specs`, in their order, and with the same results. Cases on one machine whose scenarios begin with the same steps run these once: where they part, machine,
 * kernel and all that is known so far are remembered, and taken back to that for the next one. Which cases have a machine in common {@link machineOf} tells.
 */
export function runCases(environment: CaseEnvironment, specs: readonly CaseSpec[]): CaseResult[] {
  const results = new Map<CaseSpec, CaseResult>()
  const take = (spec: CaseSpec, result: CaseResult): void => {
    results.set(spec, result)
  }
  for (const group of Map.groupBy(specs, (spec) => machineOf(environment.config, spec)).values()) {
    for (const branch of branchesOf(environment, group)) {
      const execution = new CaseExecution(environment, specsOf(branch)[0]!)
      playBranch(environment, execution, branch, take)
      execution.discard()
    }
  }
  return specs.map((spec) => results.get(spec)!)
}

/**
 * What a case has in common with those that it may share its first steps with: firmware, CPUs, and the strategy, or where its scenario begins with a kernel that is the same for any strategy
 * (`anyStrategy`) only the architecture of the strategy's kernels.
 */
export function machineOf({ registry }: ResolvedConfig, spec: CaseSpec): string {
  const { memoryMapId, quirks, strategy, scenario, seed } = spec
  const { cpus = 1, steps } = registry.scenario(scenario)
  const { name, options } = strategy
  const kernel =
    steps[0]?.anyStrategy === true
      ? kernelArchitecture(layoutOf({ definition: registry.strategy(name), options })).name
      : strategyLabel(strategy)
  return [memoryMapId, quirks.join('+'), kernel, seed, cpus].join('/')
}

function branchesOf({ config }: CaseEnvironment, specs: readonly CaseSpec[]): Branch[] {
  const first: Branch[] = []
  for (const spec of specs) {
    let branches = first
    let last: Branch | undefined
    let strategy: string | undefined
    for (const step of config.registry.scenario(spec.scenario).steps) {
      if (step.anyStrategy !== true) strategy = strategyLabel(spec.strategy)
      last = branches.find(
        (each) =>
          each.step.run === step.run && each.step.name === step.name && each.strategy === strategy,
      )
      if (last === undefined) {
        last = { step, strategy, ends: [], branches: [] }
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
  execution.goOnAs(specsOf(branch)[0]!)
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
