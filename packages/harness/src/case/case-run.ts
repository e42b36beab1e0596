import { type Machine, MachineReset, type Rewind } from '@trapdoor/core'
import type { Firmware, PoweredMachine } from '@trapdoor/firmware'
import {
  type ArgumentPlace,
  bootKernel,
  bootToRuntimeServices,
  crashKexec,
  EfiServices,
  finishBoot,
  type HandOff,
  type Injections,
  type Kernel,
  type KernelProfile,
  kernelArchitecture,
  kexec,
  layoutOf,
  type LoaderHabits,
  loadKernel,
  type NextKernel,
  type PreparedCall,
  restoreImage,
  type ServiceResult as Answer,
  type StrategyChoice,
} from '@trapdoor/kernel'
import { type Architecture, EfiStatus, efiStatusName } from '@trapdoor/uefi'
import { type CaseSpec, DEFAULT_SEED, strategyLabel } from '../config/case-spec.ts'
import { HarnessError } from '../error.ts'
import type { ServiceResult, StrategyCost } from '../results/results.ts'
import type { KernelChoice, ScenarioContext } from '../scenario/scenario.ts'
import type { CaseEnvironment } from './environment.ts'
import { surveyTables, tableCost, typeConflicts } from './table-survey.ts'

/** What `virtefi` selects where a case's own strategy is a physical one. */
const VIRTUAL_FALLBACK = 'legacy-virtual'
const ORDINALS = ['first', 'second', 'third', 'fourth', 'fifth'] as const

/** A first kernel that is about to set up its runtime services, for as many boots as are wanted from there on. */
interface HalfBooted {
  readonly machine: Machine
  readonly kernel: Kernel
  readonly rewind: Rewind
}

/** Calls that a price is computed from, after as many that warm the caches up. */
const PRICED_CALLS = 4

/** Who follows a case while it runs. */
export interface CaseFollower {
  /** Whether somebody looks at machines that the case has left. */
  readonly keepsMachines: boolean
  /** The case goes on on this machine. */
  onMachine(machine: Machine, because: 'it was switched on' | 'of a detour'): void
  /** The case goes on with a kernel that has run before. */
  onKernel(kernel: Kernel): void
  /** A kernel that was half booted boots on, as if it had just come that far. */
  onKernelAgain(kernel: Kernel): void
  /** Whether nothing is found and nothing refused while `run` runs. */
  isQuiet(run: () => void): boolean
  /** Does something that leaves no trace in what the follower knows, but for what was found. Returns whether the machine lived. */
  aside(detour: () => void): boolean
  /** Does something that may end the machine, which is a finding, and not the end of the case. Returns whether the machine lived. */
  survives(run: () => void): boolean
}

/** A case while it runs: the machine, its kernels one after the other, and what the services answered. */
export class CaseRun implements ScenarioContext {
  /** What the runtime services answered, in order. */
  readonly answers: ServiceResult[] = []
  /** Roots that firmware was called under. */
  readonly rootsOfCalls: Set<number> = new Set()
  /** Counters of all calls that were made and left, added up. */
  readonly calls: { count: number } & StrategyCost['perCall'] = {
    count: 0,
    cr3Writes: 0,
    globalFlushes: 0,
    tlbMisses: 0,
    walkReferences: 0,
  }
  #tableCost: Omit<StrategyCost, 'perCall' | 'price'> | undefined
  #price: StrategyCost['price'] = null
  readonly #environment: CaseEnvironment
  #spec: CaseSpec
  readonly #follower: CaseFollower
  readonly #firmware: Firmware
  /** Undefined until somebody needs a machine that nobody has loaded a kernel on: most go on from one that is shared. */
  #powered: PoweredMachine | undefined
  /** Whether the machine is as the firmware leaves it when it was switched on for the first time. */
  #isNew = true
  #machine: Machine | undefined
  #kernel: Kernel | undefined
  #kernels = 0
  /** By strategy, name and command line; undefined where it cannot be done. */
  readonly #halfBooted: Map<string, HalfBooted | undefined> = new Map()

  constructor(
    environment: CaseEnvironment,
    spec: CaseSpec,
    firmware: Firmware,
    follower: CaseFollower,
  ) {
    this.#environment = environment
    this.#spec = spec
    this.#firmware = firmware
    this.#follower = follower
  }

  get machine(): Machine {
    return this.#machine ?? this.#power().machine
  }

  get architecture(): Architecture {
    const { name, options } = this.#spec.strategy
    const definition = this.#environment.config.registry.strategy(name)
    return kernelArchitecture(layoutOf({ definition, options }))
  }

  get kernel(): Kernel {
    if (this.#kernel !== undefined) return this.#kernel
    throw new HarnessError('HARNESS_BAD_PLUGIN', {
      expected: 'a scenario that boots a kernel before it uses one',
      found: `"${this.#spec.scenario}"`,
      hint: 'begin with a step that calls context.boot()',
    })
  }

  /** Mean cost of a call, and what the tables cost where the scenario looked; null before both. */
  get cost(): StrategyCost | null {
    const { count, cr3Writes, globalFlushes, tlbMisses, walkReferences } = this.calls
    if (this.#tableCost === undefined || count === 0) return null
    return {
      ...this.#tableCost,
      price: this.#price,
      perCall: {
        cr3Writes: cr3Writes / count,
        globalFlushes: globalFlushes / count,
        tlbMisses: tlbMisses / count,
        walkReferences: walkReferences / count,
      },
    }
  }

  /** Remembers everything as it is now; undefined where there is no kernel, or one that cannot be rewound. */
  checkpoint(): Rewind | undefined {
    const kernel = this.#kernel
    if (kernel === undefined || !this.#environment.isRewindable(kernel)) return undefined
    const answers = [...this.answers]
    const rootsOfCalls = [...this.rootsOfCalls]
    const calls = { ...this.calls }
    const [costOfTables, price, powered] = [this.#tableCost, this.#price, this.#powered]
    const [isNew, machine, kernels] = [this.#isNew, this.machine, this.#kernels]
    const rewinds = [machine.checkpoint(), kernel.checkpoint()]
    return () => {
      this.answers.splice(0, Infinity, ...answers)
      this.rootsOfCalls.clear()
      for (const root of rootsOfCalls) this.rootsOfCalls.add(root)
      Object.assign(this.calls, calls)
      this.#tableCost = costOfTables
      this.#price = price
      this.#powered = powered
      this.#isNew = isNew
      this.#machine = machine
      this.#kernels = kernels
      this.#kernel = kernel
      for (const rewind of rewinds) rewind()
    }
  }

  /** From now on kernels are those of this case. */
  goOnAs(spec: CaseSpec): void {
    this.#spec = spec
  }

  /** The case is over: what its machines hold is not looked at any more. */
  discard(): void {
    for (const half of this.#halfBooted.values()) half?.machine.memory.discard()
    this.#machine?.memory.discard()
  }

  afresh(run: () => void): boolean {
    this.#kernels = 0
    this.#powered = undefined
    this.#machine = undefined
    this.#kernel = undefined
    this.#isNew = true
    return this.#follower.survives(run)
  }

  restart(memory: 'lost' | 'kept' = 'lost'): void {
    this.#switchOn(this.#firmware.afterReset(this.machine, { memory }))
  }

  boot(choice: KernelChoice = {}): Kernel {
    return this.#boot(choice, this.#nextName())
  }

  kexec(choice: KernelChoice = {}): Kernel {
    return this.#came(kexec(this.kernel, this.#next(choice, this.#nextName())))
  }

  crashKexec(choice: KernelChoice = {}): Kernel {
    const next = this.#next(choice, 'crash kernel')
    return this.#came(crashKexec(this.kernel, next, this.machine))
  }

  hibernate({ drift = false }: { readonly drift?: boolean } = {}): boolean {
    const image = this.kernel
    const saved = this.machine
    const firmware = drift ? this.#firmware.drifted() : this.#firmware
    this.#switchOn(firmware.afterReset(saved, { before: this.#firmware }))
    const booted = this.#boot({}, 'resume kernel')
    if (!restoreImage(image, booted)) return false
    this.#machine = saved
    this.#came(image)
    this.#follower.onMachine(saved, 'of a detour')
    this.#follower.onKernel(image)
    return true
  }

  detour(run: () => void): boolean {
    const [machine, kernel, answers] = [this.machine, this.#kernel, this.answers.length]
    const copy = machine.fork()
    this.#machine = copy
    const lived = this.#follower.aside(() => {
      this.#follower.onMachine(copy, 'of a detour')
      run()
    })
    if (!this.#follower.keepsMachines) copy.memory.discard()
    this.#machine = machine
    this.#kernel = kernel
    this.#follower.onMachine(machine, 'of a detour')
    // What went well there need not be told.
    this.answers.splice(answers, Infinity, ...this.answers.slice(answers).filter(({ ok }) => !ok))
    return lived
  }

  services(place: ArgumentPlace = 'stack', cpu = 0): EfiServices {
    return new EfiServices(this.kernel, this.machine.cpus[cpu]!, place)
  }

  earlyServices(): EfiServices {
    return new EfiServices(this.kernel, this.kernel.bootCpu, 'stack', 'early')
  }

  note(name: string, status: string, { ok }: { readonly ok: boolean } = { ok: true }): void {
    this.#answer(name, status, ok)
  }

  call<T>(prepared: PreparedCall<T>, isRight?: (value: T) => boolean): T | undefined {
    prepared.call?.run()
    return this.record(prepared, isRight)
  }

  callIfSupported(prepared: PreparedCall<unknown>): void {
    prepared.call?.run()
    if (prepared.call?.status !== EfiStatus.UNSUPPORTED) {
      this.record(prepared)
      return
    }
    prepared.finish()
    this.note(prepared.service, efiStatusName(EfiStatus.UNSUPPORTED))
  }

  record<T>(prepared: PreparedCall<T>, isRight: (value: T) => boolean = () => true): T | undefined {
    const { service } = prepared
    const { status, value }: Answer<T> = prepared.finish()
    // Where the kernel does without EFI there is nothing to judge.
    if (prepared.call === undefined) return undefined
    const succeeded = status === EfiStatus.SUCCESS
    const right = succeeded && isRight(value as T)
    this.#answer(
      service,
      succeeded && !right ? 'EFI_SUCCESS with a wrong result' : efiStatusName(status),
      right,
    )
    return value
  }

  expectReset(reset: PreparedCall<undefined>): void {
    if (reset.call === undefined) return
    try {
      reset.call.run()
    } catch (error) {
      if (!(error instanceof MachineReset)) throw error
      this.#answer(reset.service, `machine reset (${error.type})`, true)
      return
    }
    this.#answer(reset.service, 'it returned', false)
  }

  priceOf(prepare: () => PreparedCall<unknown>, times: number): void {
    for (let warmUp = 0; warmUp < PRICED_CALLS; warmUp++) prepare().run()
    const price = { times, cr3Writes: 0, globalFlushes: 0, tlbMisses: 0, walkReferences: 0 }
    let service = ''
    for (let counted = 0; counted < PRICED_CALLS; counted++) {
      const prepared = prepare()
      prepared.run()
      if (prepared.call === undefined) return
      const { counters } = prepared.call
      service = prepared.service
      price.cr3Writes += (counters.cr3Writes * times) / PRICED_CALLS
      price.globalFlushes += (counters.globalFlushes * times) / PRICED_CALLS
      price.tlbMisses += (counters.tlbMisses * times) / PRICED_CALLS
      price.walkReferences += (counters.walkReferences * times) / PRICED_CALLS
    }
    this.#price = price
    const amounts = [
      [price.cr3Writes, 'CR3 writes'],
      [price.globalFlushes, 'global flushes'],
      [price.tlbMisses, 'TLB misses'],
      [price.walkReferences, 'page-table reads'],
    ] as const
    this.#answer(
      `${service} × ${times.toLocaleString('en')}`,
      amounts.map(([amount, noun]) => `${amount.toLocaleString('en')} ${noun}`).join(', '),
      true,
    )
  }

  inspectTables(): void {
    const { kernel } = this
    const surveys = surveyTables(kernel, this.rootsOfCalls)
    const conflicts = typeConflicts(kernel, surveys)
    this.#tableCost = tableCost(kernel, surveys, conflicts)
    this.#environment.hooks.tablesInspected.call({ kernel, surveys, conflicts })
  }

  #answer(name: string, status: string, ok: boolean): void {
    this.answers.push({ name, status, ok, kernel: this.#kernel?.name ?? this.machine.log.era })
  }

  #switchOn(powered: PoweredMachine): void {
    this.#kernel = undefined
    this.#isNew = false
    this.#goOnWith(powered)
  }

  #power(): PoweredMachine {
    return this.#powered ?? this.#goOnWith(this.#firmware.powerOn())
  }

  #goOnWith(powered: PoweredMachine): PoweredMachine {
    this.#powered = powered
    this.#machine = powered.machine
    this.#follower.onMachine(powered.machine, 'it was switched on')
    return powered
  }

  #boot(choice: KernelChoice, name: string): Kernel {
    const half = this.#halfBoot(choice, name)
    if (half !== undefined) {
      finishBoot(half.kernel, this.#injections(choice))
      return this.#came(half.kernel)
    }
    const handOff = this.#load(this.#commandLine(choice), {
      allocatesLate: choice.allocatesLate === true,
    })
    return this.#came(
      bootKernel(handOff, {
        name,
        profile: this.#profile(choice),
        hooks: this.#environment.hooks,
        injections: this.#injections(choice),
      }),
    )
  }

  /** Where only what happens from the runtime services on differs from boot to boot, what comes before is done once. */
  #halfBoot(choice: KernelChoice, name: string): HalfBooted | undefined {
    const { failedAllocation, ...others } = choice
    const isPlain = Object.keys(others).length === 0 && this.#isNew
    if (failedAllocation === undefined || !isPlain || !this.#environment.sharesBoots) {
      return undefined
    }
    const commandLine = this.#commandLine(choice)
    const key = `${strategyLabel(this.#spec.strategy)} ${name} ${commandLine}`
    if (!this.#halfBooted.has(key)) {
      this.#halfBooted.set(key, this.#newHalfBoot(choice, name))
      this.#isNew = true
    }
    const half = this.#halfBooted.get(key)
    if (half === undefined) return undefined
    this.#isNew = false
    this.#machine = half.machine
    this.#follower.onMachine(half.machine, 'it was switched on')
    half.rewind()
    this.#follower.onKernelAgain(half.kernel)
    return half
  }

  #newHalfBoot(choice: KernelChoice, name: string): HalfBooted | undefined {
    let half: HalfBooted | undefined
    const isQuiet = this.#follower.isQuiet(() => {
      const handOff = this.#load(this.#commandLine(choice), {})
      const kernel = bootToRuntimeServices(handOff, {
        name,
        profile: this.#profile(choice),
        hooks: this.#environment.hooks,
      })
      if (!this.#environment.isRewindable(kernel)) return
      const { machine } = handOff
      const rewinds = [machine, kernel, this.#environment.rules].map((part) => part.checkpoint())
      const rewind = (): void => {
        for (const each of rewinds) each()
      }
      half = { machine, kernel, rewind }
    })
    return isQuiet ? half : undefined
  }

  #load(commandLine: string, habits: LoaderHabits): HandOff {
    const shared = this.#isNew
      ? this.#environment.loaded(this.#firmware, commandLine, habits)
      : undefined
    this.#isNew = false
    if (shared === undefined) return loadKernel(this.#power(), commandLine, habits)
    this.#machine = shared.machine
    this.#follower.onMachine(shared.machine, 'it was switched on')
    return shared
  }

  #injections({ failedAllocation, early }: KernelChoice): Injections {
    return {
      ...(failedAllocation === undefined ? {} : { failedAllocation }),
      ...(early === undefined
        ? {}
        : {
            beforeRuntimeServices: (kernel: Kernel) => {
              this.#came(kernel)
              early(this)
            },
          }),
    }
  }

  #came(kernel: Kernel): Kernel {
    this.#kernel = kernel
    return kernel
  }

  #nextName(): string {
    const ordinal = ORDINALS[this.#kernels] ?? `${this.#kernels + 1}th`
    this.#kernels++
    return `${ordinal} kernel`
  }

  #next(choice: KernelChoice, name: string): NextKernel {
    return {
      name,
      profile: this.#profile(choice),
      commandLine: this.#commandLine(choice),
      hooks: this.#environment.hooks,
      injections: this.#injections(choice),
    }
  }

  #commandLine({ commandLine = '' }: KernelChoice): string {
    return [this.#environment.config.commandLine, commandLine]
      .filter((words) => words !== '')
      .join(' ')
  }

  /**
   * The case's strategy, with those beside it that the command line may choose: one of the other mode, as the kernel of the patch had, and what it names itself. A seed
   * other than the default one is that of KASLR too.
   */
  #profile(choice: KernelChoice): KernelProfile {
    const { registry } = this.#environment.config
    const { name, options } =
      choice.strategy === undefined ? this.#spec.strategy : { name: choice.strategy, options: {} }
    const own: StrategyChoice = { definition: registry.strategy(name), options }
    const layout = choice.layout ?? layoutOf(own)
    const fallback = registry.strategies.get(VIRTUAL_FALLBACK)
    const beside = own.definition.mode === 'virtual' ? [] : [fallback]
    const alternatives = (own.definition.alternatives ?? []).map((each) =>
      registry.strategies.get(each),
    )
    const strategies = [...beside, ...alternatives]
      .filter((definition) => definition !== undefined)
      .map((definition): StrategyChoice => ({ definition }))
    const { seed } = this.#spec
    const kaslr = seed === DEFAULT_SEED ? {} : { kaslrSeed: seed }
    return { layout, strategies: [own, ...strategies], ...kaslr }
  }
}
