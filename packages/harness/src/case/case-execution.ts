import {
  CpuException,
  EndlessCode,
  type Machine,
  type Rewind,
  TripleFault,
  UNKNOWN_IMAGE,
} from '@trapdoor/core'
import { type Firmware, FirmwareDeadLoop } from '@trapdoor/firmware'
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
import { Interleaving } from '../scenario/interleaving.ts'
import type { CpuProgram, ScenarioStep } from '../scenario/scenario.ts'
import { CaseRun } from './case-run.ts'
import type { CaseEnvironment, CaseListener } from './environment.ts'
import { explainsItself, isHang, isMachineOutcome } from './error-kind.ts'
import { type PlacedFinding, placeFinding } from './finding.ts'
import { surveyTables, type TableSurvey } from './table-survey.ts'

/** What is said where no rule knows the cause of a death. */
const UNEXPLAINED: Rule = {
  id: 'died',
  title: 'The machine died',
  severity: 'error',
  advice: 'read the walk and the timeline; a rule plugin can teach Trapdoor this cause',
  sources: [],
  watch: () => {},
}

/** What is said where machine code is still running when it has taken as many instructions as a call may. */
const ENDLESS: Rule = {
  id: 'endless',
  title: 'Machine code does not return',
  severity: 'error',
  advice:
    'see what the code waits for at this address; where a call does take so long, raise instructionLimit in the configuration, or --instruction-limit',
  sources: [],
  watch: () => {},
}

/** A finding with the outcome that it is worth, and how often it was made. */
interface CountedFinding {
  readonly finding: PlacedFinding
  readonly outcome: Outcome
  times: number
}

/** The finding as the results have it: with what it is worth, how often it was made, and the command that shows it again. */
function asResult({ finding, outcome, times }: CountedFinding, reproduce: string): Finding {
  const message = times === 1 ? finding.message : `${finding.message} (${times} times)`
  return { ...finding, outcome, message, reproduce }
}

/** A case while it runs, with what the rules found and how it ended. Cases that begin alike may share one up to where they part. */
export class CaseExecution {
  readonly firmware: Firmware
  readonly #environment: CaseEnvironment
  #spec: CaseSpec
  readonly #run: CaseRun
  readonly #findings: Map<string, CountedFinding> = new Map()
  readonly #calls: Map<number, RuntimeCall> = new Map()
  readonly #keptSurveys: TableSurvey[] = []
  readonly #keepTables: boolean
  /** Name of the step that is played. */
  #step = ''
  #kernel: Kernel | undefined
  #convertedBy: Kernel | undefined
  #refusal: string | undefined
  /** Names of the strategies that kernels chose, in order. */
  #ran: readonly string[] = []
  #death: Outcome | undefined
  /** How often rules and kernels had something to say. */
  #told = 0

  constructor(
    environment: CaseEnvironment,
    spec: CaseSpec,
    options: { keepTables?: boolean } = {},
  ) {
    this.#environment = environment
    this.#spec = spec
    this.#keepTables = options.keepTables === true
    environment.rules.forget()
    const scenario = environment.config.registry.scenario(spec.scenario)
    this.firmware = environment.firmware(spec, scenario.cpus ?? 1)
    const listener: CaseListener = {
      finding: (rule, kernel, draft) => {
        this.#told++
        this.#accept(rule, kernel, draft)
      },
      phase: (kernel) => {
        if (kernel.phase === 'efi_init') this.#noteStrategy(kernel)
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
        if (call.service === 'SetVirtualAddressMap') this.#convertedBy ??= call.kernel
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
      refused: ({ name }, reason) => {
        this.#told++
        this.#refusal ??= `${name} goes without EFI runtime services: ${reason}`
      },
    }
    this.#run = new CaseRun(environment, spec, this.firmware, {
      keepsMachines: this.#keepTables,
      onMachine: (machine, because) => {
        environment.listen(machine, listener)
        if (because === 'it was switched on') this.#convertedBy = undefined
      },
      onKernel: (kernel) => {
        this.#kernel = kernel
        if (kernel.efi?.virtualMode === true) this.#convertedBy = kernel
      },
      onKernelAgain: (kernel) => {
        this.#kernel = kernel
        this.#noteStrategy(kernel)
        this.#calls.clear()
        this.#run.rootsOfCalls.clear()
      },
      isQuiet: (run) => {
        const before = this.#told
        run()
        return this.#told === before
      },
      aside: (detour) => this.#aside(detour),
      survives: (run) => this.#survives(run),
    })
  }

  /** The machine that the case is on. */
  get machine(): Machine {
    return this.#run.machine
  }

  /**
   * Remembers everything as it is now, so that another case can go on from here; undefined where that cannot be done: between two kernels, after the machine has died, and
   * with a strategy or a rule that does not say that it can.
   */
  checkpoint(): Rewind | undefined {
    if (this.#death !== undefined) return undefined
    const rewindRun = this.#run.checkpoint()
    if (rewindRun === undefined) return undefined
    const [kernel, convertedBy, refusal] = [this.#kernel, this.#convertedBy, this.#refusal]
    const ran = this.#ran
    const findings = [...this.#findings].map(([key, counted]) => [key, { ...counted }] as const)
    const calls = [...this.#calls]
    const rewindRules = this.#environment.rules.checkpoint()
    return () => {
      rewindRun()
      rewindRules()
      this.#kernel = kernel
      this.#convertedBy = convertedBy
      this.#refusal = refusal
      this.#ran = ran
      this.#death = undefined
      this.#findings.clear()
      for (const [key, counted] of findings) this.#findings.set(key, { ...counted })
      this.#calls.clear()
      for (const [cpu, call] of calls) this.#calls.set(cpu, call)
    }
  }

  /** Gives back what machines took, once all is known. */
  discard(): void {
    this.#run.discard()
  }

  /** What has come of it, as the case `spec`, which is the execution's own or one that began like it. */
  finish(spec: CaseSpec = this.#spec): CaseResult {
    const { commandLine } = this.#environment.config
    const reproduce = this.#environment.reproduce(spec)
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
          (outcome === 'refused' ? this.#refusal! : describeFailures(failed)))
    return {
      id: spec.id,
      memoryMap: spec.memoryMapId,
      quirks: [...spec.quirks],
      strategy: strategyLabel(spec.strategy),
      kernel: {
        profile: `Linux ${this.#kernel?.tables.layout.name ?? 'none'}`,
        commandLine,
        ran: [...this.#ran],
      },
      scenario: spec.scenario,
      seed: spec.seed,
      outcome,
      reason,
      // The worst first, so that the reason is explained at the top.
      findings: findings
        .toSorted((a, b) => OUTCOMES.indexOf(a.outcome) - OUTCOMES.indexOf(b.outcome))
        .map((counted) => asResult(counted, reproduce)),
      services: [...this.#run.answers],
      cost: this.#run.cost,
    }
  }

  /** The tables of the kernels that were left and of the one that runs. */
  surveys(): TableSurvey[] {
    return this.#kernel === undefined
      ? this.#keptSurveys
      : [...this.#keptSurveys, ...surveyTables(this.#kernel, this.#run.rootsOfCalls)]
  }

  /** What comes next is of this case, which began like all that the execution was for so far. */
  goOnAs(spec: CaseSpec): void {
    this.#spec = spec
    this.#run.goOnAs(spec)
  }

  /** Plays a step; false where it ends the machine. */
  play(step: ScenarioStep): boolean {
    return this.#attempt(step.name, () => {
      step.run(this.#run)
    })
  }

  /** Gets ready for the CPUs' calls. */
  interleave(programs: readonly CpuProgram[]): Interleaving {
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
      programs,
    )
  }

  /** Where the detour comes back, all is known that was known before, and nothing else but what the rules found. */
  #aside(detour: () => void): boolean {
    const [kernel, convertedBy] = [this.#kernel, this.#convertedBy]
    const calls = [...this.#calls]
    const roots = [...this.#run.rootsOfCalls]
    const lived = this.#survives(detour)
    this.#kernel = kernel
    this.#convertedBy = convertedBy
    this.#calls.clear()
    for (const [cpu, call] of calls) this.#calls.set(cpu, call)
    this.#run.rootsOfCalls.clear()
    for (const root of roots) this.#run.rootsOfCalls.add(root)
    return lived
  }

  /** Runs something on the machine; false where that ended it, and the case. */
  #attempt(name: string, run: () => void): boolean {
    this.#step = name
    const death = this.#deathIn(run)
    if (death === undefined) return true
    // It comes first whatever else was found.
    const earlier = [...this.#findings]
    this.#findings.clear()
    this.#findings.set('death', death)
    for (const [key, counted] of earlier) this.#findings.set(key, counted)
    this.#death = death.outcome
    return false
  }

  /** Runs something on a machine that the case can do without; false where that ended it. Of the deaths that one rule explains of one kernel the first is told, and the others are counted. */
  #survives(run: () => void): boolean {
    const death = this.#deathIn(run)
    if (death === undefined) return true
    const { finding, outcome } = death
    const key = `${outcome} ${finding.rule}/${finding.kernel}`
    const known = this.#findings.get(key)
    if (known === undefined) this.#findings.set(key, death)
    else known.times++
    return false
  }

  /** What ended the machine while `run` ran. */
  #deathIn(run: () => void): CountedFinding | undefined {
    try {
      run()
      return undefined
    } catch (error) {
      if (!(error instanceof Error)) throw error
      if (!isMachineOutcome(error)) throw named(error, this.#step, this.#spec)
      return this.#explainDeath(error, this.#step)
    }
  }

  #explainDeath(error: Error, step: string): CountedFinding {
    // A triple fault is the end of what the first fault began.
    const cause = error instanceof TripleFault ? error.failures[0] : error
    const exception = cause instanceof CpuException ? cause : undefined
    const endless = error instanceof EndlessCode ? error : undefined
    const hanging = error instanceof FirmwareDeadLoop ? error : endless
    const cpu = this.machine.cpus[exception?.site.cpu ?? hanging?.cpu ?? 0]!
    cpu.touchRecorder = undefined
    const call = this.#calls.get(cpu.id)
    const handling = this.#kernel?.handling.get(cpu.id)
    const running = cpu.calls.at(-1)?.gate.image
    const image = running === UNKNOWN_IMAGE || handling !== undefined ? undefined : running
    const death: Death = {
      error,
      site: exception?.site,
      cpu,
      kernel: this.#kernel,
      call,
      image,
      handling,
      convertedBefore: this.#convertedBy !== undefined && this.#convertedBy !== this.#kernel,
      descriptorAt: (physical) => descriptorAt(this.firmware.memoryMap, physical),
    }
    const diagnosis = this.#environment.diagnose(death)
    const rule = diagnosis?.rule ?? (endless === undefined ? UNEXPLAINED : ENDLESS)
    const draft: FindingDraft = diagnosis?.draft ?? {
      message: error.message,
      explanation: `${error.name} in step "${step}", which nothing in this kernel catches.`,
      ...(endless === undefined ? {} : { address: endless.rip, access: 'execute' }),
    }
    const outcome: Outcome = isHang(error) ? 'hang' : 'fault'
    const finding = placeFinding(
      rule,
      {
        ...(handling === undefined ? {} : { actor: `kernel (${handling} handler)` }),
        ...draft,
        severity: 'error',
        ...(call === undefined ? {} : { call }),
      },
      {
        machine: this.machine,
        firmware: this.firmware,
        kernel: this.#kernel,
        exception,
        image,
      },
    )
    return { finding, outcome, times: 1 }
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
    const finding = placeFinding(rule, draft, {
      machine: this.machine,
      firmware: this.firmware,
      kernel,
    })
    this.#findings.set(key, { finding, outcome, times: (known?.times ?? 0) + 1 })
  }

  /** What the kernel's command line has chosen, in setup_arch(). */
  #noteStrategy({ strategy }: Kernel): void {
    const name = strategy?.definition.name
    if (name !== undefined && !this.#ran.includes(name)) this.#ran = [...this.#ran, name]
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
