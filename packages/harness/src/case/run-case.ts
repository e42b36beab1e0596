import { CpuException, type Machine, type MachineEvent, TripleFault } from '@trapdoor/core'
import type { Firmware } from '@trapdoor/firmware'
import type { Kernel, RuntimeCall } from '@trapdoor/kernel'
import { descriptorEnd, type MemoryDescriptor } from '@trapdoor/uefi'
import { type CaseSpec, strategyLabel } from '../config/case-spec.ts'
import { HarnessError } from '../error.ts'
import {
  type CaseResult,
  type Finding,
  type Outcome,
  OUTCOMES,
  type ServiceResult,
} from '../results/results.ts'
import type { Death, FindingDraft, Rule } from '../rules/rule.ts'
import { CaseRun } from './case-run.ts'
import type { CaseEnvironment, CaseListener } from './environment.ts'
import { completeFinding, describePhysical } from './finding.ts'
import { explainsItself, isHang, isMachineOutcome } from './error-kind.ts'
import { explore } from '../scenario/explore.ts'
import { Interleaving } from '../scenario/interleaving.ts'
import type { CpuProgram } from '../scenario/scenario.ts'
import { surveyTables, type TableSurvey } from './table-survey.ts'

/** A case with everything that happened in it. */
export interface CaseTrace {
  readonly result: CaseResult
  readonly events: readonly MachineEvent[]
  /** What each root of each kernel mapped: of a kernel that was left when it was left, of the last one at the end. */
  readonly surveys: readonly TableSurvey[]
  /** What lies at a physical address at the end. */
  readonly describePhysical: (physical: number) => {
    readonly descriptor: string | null
    readonly owner: string | null
  }
}

/** Schedules that are run of one case at most. */
const MOST_SCHEDULES = 2000

/**
 * Runs a case; one with programs under every schedule that can make a difference. The result is that of the schedule in which something goes wrong after the fewest steps, or
 * of the first where nothing does.
 */
function explored(
  environment: CaseEnvironment,
  spec: CaseSpec,
  options: { keepTables?: boolean },
): { execution: CaseExecution; result: CaseResult } {
  const { programs, steps } = environment.config.registry.scenario(spec.scenario)
  if (programs === undefined) {
    const execution = new CaseExecution(environment, spec, options)
    return { execution, result: execution.run(() => execution.play(steps)) }
  }
  let best: { execution: CaseExecution; interleaving: Interleaving } | undefined
  let schedules = 0
  const begin = (): Interleaving & { execution: CaseExecution } => {
    const execution = new CaseExecution(environment, spec, options)
    return Object.assign(execution.interleave(steps, programs), { execution })
  }
  for (const { run } of explore(begin, MOST_SCHEDULES)) {
    schedules++
    const wrong = run.wrongAfter ?? Infinity
    if (best === undefined || wrong < (best.interleaving.wrongAfter ?? Infinity)) {
      best = { execution: run.execution, interleaving: run }
    }
  }
  const { execution, interleaving } = best!
  const result = execution.finish()
  const all = schedules === 1 ? 'the one schedule' : `all ${schedules} schedules`
  const count = schedules < MOST_SCHEDULES ? all : `the first ${schedules} schedules`
  const how =
    interleaving.wrongAfter === undefined
      ? `${count} that can make a difference`
      : `shortest schedule: ${interleaving.describe()}`
  return { execution, result: { ...result, reason: `${result.reason}; ${how}` } }
}

/** What is said where no rule knows the cause of a death. */
const UNEXPLAINED: Rule = {
  id: 'died',
  title: 'The machine died',
  severity: 'error',
  advice: 'read the walk and the timeline; a rule plugin can teach Trapdoor this cause',
  sources: [],
  watch: () => {},
}

/** Runs a case on a fresh fork of its firmware. What goes wrong on the machine is in the result; what is thrown is wrong with a plugin or the input. */
export function runCase(environment: CaseEnvironment, spec: CaseSpec): CaseResult {
  return explored(environment, spec, {}).result
}

/** As {@link runCase}, with the events, the page tables and the memory of the end. */
export function traceCase(environment: CaseEnvironment, spec: CaseSpec): CaseTrace {
  const { execution, result } = explored(environment, spec, { keepTables: true })
  return {
    result,
    events: execution.machine.log.events,
    surveys: execution.surveys(),
    describePhysical: (physical) => {
      const { descriptor, owner } = describePhysical(execution, physical)
      return { descriptor, owner }
    },
  }
}

/** A finding with the outcome that it is worth, and how often it was made. */
interface CountedFinding {
  readonly finding: Finding
  readonly outcome: Outcome
  times: number
}

/** The finding as the results have it, with how often it was made. */
function withCount({ finding, times }: CountedFinding): Finding {
  return times === 1 ? finding : { ...finding, message: `${finding.message} (${times} times)` }
}

class CaseExecution {
  readonly firmware: Firmware
  readonly #environment: CaseEnvironment
  readonly #spec: CaseSpec
  readonly #run: CaseRun
  readonly #findings: Map<string, CountedFinding> = new Map()
  readonly #calls: Map<number, RuntimeCall> = new Map()
  readonly #keptSurveys: TableSurvey[] = []
  readonly #keepTables: boolean
  #kernel: Kernel | undefined
  #convertedBy: Kernel | undefined
  #refusal: string | undefined
  #death: Outcome | undefined

  constructor(
    environment: CaseEnvironment,
    spec: CaseSpec,
    options: { keepTables?: boolean } = {},
  ) {
    this.#environment = environment
    this.#spec = spec
    this.#keepTables = options.keepTables === true
    const scenario = environment.config.registry.scenario(spec.scenario)
    this.firmware = environment.firmware(spec, scenario.cpus ?? 1)
    const listener: CaseListener = {
      finding: (rule, kernel, draft) => {
        this.#accept(rule, kernel, draft)
      },
      phase: (kernel) => {
        if (this.#kernel === kernel) return
        this.#keepLeftTables()
        // What was under way in the kernel before will not come back, and its roots may be the next one's for something else.
        this.#calls.clear()
        this.#run.rootsOfCalls.clear()
        this.#kernel = kernel
      },
      entered: (call) => {
        this.#calls.set(call.cpu.id, call)
        // SetVirtualAddressMap may run on tables that no call sees again.
        if (call.kernel.phase === 'running') this.#run.rootsOfCalls.add(call.cpu.cr3)
        if (call.service === 'SetVirtualAddressMap') this.#convertedBy = call.kernel
      },
      left: (call) => {
        this.#calls.delete(call.cpu.id)
        // SetVirtualAddressMap is part of the boot: what a call costs is what it costs ever after.
        if (call.kernel.phase !== 'running') return
        const { counters } = call
        const { calls } = this.#run
        calls.count++
        calls.cr3Writes += counters.cr3Writes
        calls.globalFlushes += counters.globalFlushes
        calls.tlbMisses += counters.tlbMisses
        calls.walkReferences += counters.walkReferences
      },
      refused: (_kernel, reason) => {
        this.#refusal ??= reason
      },
    }
    this.#run = new CaseRun(environment, spec, this.firmware, {
      onMachine: (machine, because) => {
        environment.listen(machine, listener)
        if (because === 'it was switched on') this.#convertedBy = undefined
      },
      onKernel: (kernel) => {
        this.#kernel = kernel
        if (kernel.efi?.virtualMode === true) this.#convertedBy = kernel
      },
      aside: (detour) => {
        this.#aside(detour)
      },
    })
  }

  /** The machine that the case is on. */
  get machine(): Machine {
    return this.#run.machine
  }

  /** Runs, and tells how it ended. */
  run(play: () => void): CaseResult {
    play()
    return this.finish()
  }

  /** What has come of it. */
  finish(): CaseResult {
    const { commandLine } = this.#environment.config
    const spec = this.#spec
    const death = this.#death
    const findings = [...this.#findings.values()]
    const failed = this.#run.answers.filter((answer) => !answer.ok)
    const outcomes = new Set<Outcome>([
      death ?? 'ok',
      ...findings.map(({ outcome }) => outcome),
      failed.length > 0 ? 'degraded' : 'ok',
      this.#refusal === undefined ? 'ok' : 'refused',
    ])
    const outcome = OUTCOMES.find((each) => outcomes.has(each)) ?? 'ok'
    const worst = findings.find((each) => each.outcome === outcome)
    const reason =
      outcome === 'ok'
        ? this.#quietReason(findings)
        : (worst?.finding.message ??
          (outcome === 'refused'
            ? `${this.#kernel?.name ?? 'the kernel'} goes without EFI runtime services: ${this.#refusal}`
            : describeFailures(failed)))
    return {
      id: spec.id,
      memoryMap: spec.memoryMapId,
      quirks: [...spec.quirks],
      strategy: strategyLabel(spec.strategy),
      kernel: {
        profile: `Linux ${this.#kernel?.tables.layout.name ?? 'none'}`,
        commandLine,
      },
      scenario: spec.scenario,
      seed: spec.seed,
      outcome,
      reason,
      // The worst first, so that the reason is explained at the top.
      findings: findings
        .toSorted((a, b) => OUTCOMES.indexOf(a.outcome) - OUTCOMES.indexOf(b.outcome))
        .map(withCount),
      services: this.#run.answers,
      cost: this.#run.cost,
    }
  }

  /** The tables of the kernels that were left and of the one that runs. */
  surveys(): TableSurvey[] {
    return this.#kernel === undefined
      ? this.#keptSurveys
      : [...this.#keptSurveys, ...surveyTables(this.#kernel, this.#run.rootsOfCalls)]
  }

  /** Plays steps until one ends the machine. */
  play(steps: readonly { name: string; run: (context: CaseRun) => void }[]): void {
    for (const step of steps) {
      if (!this.#attempt(step.name, () => step.run(this.#run))) return
    }
  }

  /** Plays steps, and gets ready for the CPUs' calls. */
  interleave(
    steps: readonly { name: string; run: (context: CaseRun) => void }[],
    programs: readonly CpuProgram[],
  ): Interleaving {
    this.play(steps)
    return new Interleaving(
      {
        cpus: this.machine.cpus,
        services: (cpu) => this.#run.services('stack', cpu),
        attempt: (name, run) => this.#attempt(name, run),
        record: (prepared) => {
          this.#run.record(prepared)
        },
        isWrong: () =>
          [...this.#findings.values()].some(({ outcome }) => outcome !== 'ok') ||
          this.#run.answers.some(({ ok }) => !ok),
      },
      this.#death === undefined ? programs : [],
    )
  }

  /** Where the detour comes back, all is known that was known before, and nothing else but what the rules found. */
  #aside(detour: () => void): void {
    const [kernel, convertedBy] = [this.#kernel, this.#convertedBy]
    const calls = [...this.#calls]
    const roots = [...this.#run.rootsOfCalls]
    detour()
    this.#kernel = kernel
    this.#convertedBy = convertedBy
    this.#calls.clear()
    for (const [cpu, call] of calls) this.#calls.set(cpu, call)
    this.#run.rootsOfCalls.clear()
    for (const root of roots) this.#run.rootsOfCalls.add(root)
  }

  /** Runs something on the machine; false where that ended it. */
  #attempt(name: string, run: () => void): boolean {
    try {
      run()
      return true
    } catch (error) {
      if (!(error instanceof Error)) throw error
      if (!isMachineOutcome(error)) throw named(error, name, this.#spec)
      this.#explainDeath(error, name)
      this.#death = isHang(error) ? 'hang' : 'fault'
      return false
    }
  }

  #explainDeath(error: Error, step: string): void {
    // A triple fault is the end of what the first fault began.
    const cause = error instanceof TripleFault ? error.failures[0] : error
    const exception = cause instanceof CpuException ? cause : undefined
    const cpu = this.machine.cpus[exception?.site.cpu ?? 0]!
    cpu.touchRecorder = undefined
    const call = this.#calls.get(cpu.id)
    const image = cpu.calls.at(-1)?.gate.image
    const death: Death = {
      error,
      site: exception?.site,
      cpu,
      kernel: this.#kernel,
      call,
      image,
      convertedBefore: this.#convertedBy !== undefined && this.#convertedBy !== this.#kernel,
      descriptorAt: (physical) => descriptorAt(this.firmware.memoryMap, physical),
    }
    const diagnosis = this.#environment.diagnose(death)
    const rule = diagnosis?.rule ?? UNEXPLAINED
    const draft: FindingDraft = diagnosis?.draft ?? {
      message: error.message,
      explanation: `${error.name} in step "${step}", which nothing in this kernel catches.`,
    }
    const outcome: Outcome = isHang(error) ? 'hang' : 'fault'
    const finding = completeFinding(
      rule,
      { ...draft, severity: 'error', ...(call === undefined ? {} : { call }) },
      {
        machine: this.machine,
        firmware: this.firmware,
        kernel: this.#kernel,
        reproduce: this.#environment.reproduce(this.#spec),
        exception,
        image,
      },
    )
    // The death comes first whatever else was found.
    const earlier = [...this.#findings]
    this.#findings.clear()
    this.#findings.set('death', { finding, outcome, times: 1 })
    for (const [key, counted] of earlier) this.#findings.set(key, counted)
  }

  #accept(rule: Rule, kernel: Kernel, draft: FindingDraft): void {
    const key = `${rule.id}/${kernel.name}`
    const outcome = draft.outcome ?? 'ok'
    const known = this.#findings.get(key)
    // Of what a rule says of one kernel the first stays, unless something worse comes.
    if (known !== undefined && OUTCOMES.indexOf(known.outcome) <= OUTCOMES.indexOf(outcome)) {
      known.times++
      return
    }
    const finding = completeFinding(rule, draft, {
      machine: this.machine,
      firmware: this.firmware,
      kernel,
      reproduce: this.#environment.reproduce(this.#spec),
    })
    this.#findings.set(key, { finding, outcome, times: (known?.times ?? 0) + 1 })
  }

  #keepLeftTables(): void {
    if (!this.#keepTables || this.#kernel === undefined) return
    this.#keptSurveys.push(...surveyTables(this.#kernel, this.#run.rootsOfCalls))
  }

  #quietReason(findings: readonly CountedFinding[]): string {
    const works = `${this.#run.answers.length} calls answered as expected`
    const latent = findings.filter(({ finding }) => finding.severity !== 'info')
    if (latent.length === 0) return works
    const rules = latent.map(({ finding }) => finding.rule)
    return `${works}; did no harm this time: ${[...new Set(rules)].join(', ')}`
  }
}

/** The services that failed, by what they answered. */
function describeFailures(failed: readonly ServiceResult[]): string {
  const byStatus = Map.groupBy(failed, ({ status }) => status)
  return [...byStatus]
    .map(([status, answers]) => {
      const names = new Set(answers.map(({ name }) => name))
      return `${[...names].join(', ')}: ${status}`
    })
    .join('; ')
}

/** Errors with a code explain themselves; any other is a plugin's mistake, and gets the case's name. */
function named(error: Error, step: string, spec: CaseSpec): Error {
  if (explainsItself(error)) return error
  return new HarnessError('HARNESS_PLUGIN_THREW', {
    expected: `step "${step}" of case ${spec.id} to run`,
    found: `${error.name}: ${error.message}`,
    hint: 'the stack of the cause names the plugin’s file',
    cause: error,
  })
}

function descriptorAt(
  map: readonly MemoryDescriptor[],
  physical: number,
): MemoryDescriptor | undefined {
  return map.find((each) => physical >= each.physicalStart && physical < descriptorEnd(each))
}
