import type { Machine } from '@trapdoor/core'
import type {
  AddressSpaceLayout,
  EfiServices,
  ArgumentPlace,
  Kernel,
  PreparedCall,
} from '@trapdoor/kernel'
import type { Architecture } from '@trapdoor/uefi'

/** How a kernel differs from the one that the case names. */
export interface KernelChoice {
  /** Words to add to the case's command line. */
  readonly commandLine?: string
  readonly layout?: AddressSpaceLayout
  /** Name of the strategy that this kernel has in place of the case's own, as kernels of other versions have. */
  readonly strategy?: string
  /** The allocation of those for the runtime services that fails: 1 for the first. */
  readonly failedAllocation?: number
  /** Runs before the runtime services are set up, with memory up: the place of early calls. The kernel of the context is this one. */
  readonly early?: (context: ScenarioContext) => void
  /** The loader allocates a page between GetMemoryMap and ExitBootServices, so that the map key is out of date. Of a first kernel only. */
  readonly allocatesLate?: boolean
}

/** What a scenario's steps have in hand. */
export interface ScenarioContext {
  readonly machine: Machine
  /** What the case's own kernel is built for. */
  readonly architecture: Architecture
  /**
   * Switches on a machine with this firmware in place of the one before, and runs `run` on it, which shares nothing with what was. Where that ends the machine, it is a finding of the case, and
   * the scenario goes on: with {@link ScenarioContext.afresh} or {@link ScenarioContext.note}, as there is no machine to go on with. Returns whether the machine lived.
   */
  afresh(run: () => void): boolean
  /** The machine starts again after a reset: the NV store and CMOS are kept, and memory where it says so, as in a warm reset. */
  restart(memory?: 'lost' | 'kept'): void
  /**
   * Hibernates: the running kernel is saved, the machine is switched off and on, another kernel boots with the same strategy and brings the first back. With `drift` the
   * firmware has its runtime memory elsewhere in the second boot. False where the kernel does not take the image: then the other one runs on.
   */
  hibernate(options?: { readonly drift?: boolean }): boolean
  /** Runs `run` on a copy of the machine as it is now, and goes on as if nothing had happened. What `run` finds wrong is kept, its end too where it has one. Returns whether the copy lived. */
  detour(run: () => void): boolean
  /** The kernel that runs now. Throws HARNESS_BAD_PLUGIN before the first boot. */
  readonly kernel: Kernel
  /** Powers the machine's boot loader on: boots the first kernel. */
  boot(choice?: KernelChoice): Kernel
  /** kexec from the running kernel; the next one runs from then on. */
  kexec(choice?: KernelChoice): Kernel
  /** kdump: the running kernel has crashed, and the crash kernel boots. */
  crashKexec(choice?: KernelChoice): Kernel
  /** The runtime services as seen from a CPU (default 0), with arguments in `place` (default the stack). */
  services(place?: ArgumentPlace, cpu?: number): EfiServices
  /** The runtime services before the kernel has set them up, for {@link KernelChoice.early}. */
  earlyServices(): EfiServices
  /**
   * Makes a call and puts its answer into the results. It counts as working where it succeeds, and `isRight` says so of what it gave. Returns that, or undefined.
   */
  call<T>(prepared: PreparedCall<T>, isRight?: (value: T) => boolean): T | undefined
  /** As {@link ScenarioContext.call} for a service that a platform may do without, as it may without capsules (UEFI 2.10, 8.5.3): EFI_UNSUPPORTED is right, too. */
  callIfSupported(prepared: PreparedCall<unknown>): void
  /** As {@link ScenarioContext.call} for a call that the scenario has made step by step. */
  record<T>(prepared: PreparedCall<T>, isRight?: (value: T) => boolean): T | undefined
  /** Runs `reset`, which has to end in a reset of the machine. Puts into the results whether it did. */
  expectReset(reset: PreparedCall<undefined>): void
  /**
   * What `times` calls like those that `prepare` makes cost, from a few of them that find the caches as the ones before have left them. Puts it into the results and the case's cost.
   */
  priceOf(prepare: () => PreparedCall<unknown>, times: number): void
  /** Puts a line into the results: what was done that is no call. Where `ok` is false (default true) the case is no longer ok, either. */
  note(name: string, status: string, options?: { readonly ok: boolean }): void
  /** Looks through all page tables now; the rules on tables see them, and the case gets its cost. */
  inspectTables(): void
}

/** One thing that happens to a machine. */
export interface ScenarioStep {
  readonly name: string
  /**
   * Whether the step does the same whatever the strategy of the case is, given the machine and the kernel that it finds and the architecture of the case's kernel. A scenario that begins with such
   * steps shares them among strategies; one whose first kernel is the case's own does not. Default false.
   */
  readonly anyStrategy?: boolean
  run(context: ScenarioContext): void
}

/** What a machine goes through in a case, step by step. */
export interface Scenario {
  readonly name: string
  readonly title: string
  /** CPUs of the machine, default 1. */
  readonly cpus?: number
  readonly steps: readonly ScenarioStep[]
  /**
   * The calls that each CPU makes after {@link steps}, in order: each is entered, executed and left as steps of its own, and every order of these steps among the CPUs that
   * can make a difference is run on a fresh machine.
   */
  readonly programs?: readonly CpuProgram[]
}

/** The calls of one CPU, each prepared when its turn comes. */
export type CpuProgram = readonly ((services: EfiServices) => PreparedCall<unknown>)[]
