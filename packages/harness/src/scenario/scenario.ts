import type { Machine } from '@trapdoor/core'
import type {
  AddressSpaceLayout,
  EfiServices,
  ArgumentPlace,
  Kernel,
  PreparedCall,
} from '@trapdoor/kernel'

/** How a kernel differs from the one that the case names. */
export interface KernelChoice {
  /** Words to add to the case's command line. */
  readonly commandLine?: string
  readonly layout?: AddressSpaceLayout
}

/** What a scenario's steps have in hand. */
export interface ScenarioContext {
  readonly machine: Machine
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
  /**
   * Makes a call and puts its answer into the results. It counts as working where it succeeds, and `isRight` says so of what it gave. Returns that, or undefined.
   */
  call<T>(prepared: PreparedCall<T>, isRight?: (value: T) => boolean): T | undefined
  /** As {@link ScenarioContext.call} for a call that the scenario has made step by step. */
  record<T>(prepared: PreparedCall<T>, isRight?: (value: T) => boolean): T | undefined
  /** Runs `reset`, which has to end in a reset of the machine. Puts into the results whether it did. */
  expectReset(reset: PreparedCall<undefined>): void
  /**
   * What `times` calls like those that `prepare` makes cost, from a few of them that find the caches as the ones before have left them. Puts it into the results and the case's cost.
   */
  priceOf(prepare: () => PreparedCall<unknown>, times: number): void
  /** Looks through all page tables now; the rules on tables see them, and the case gets its cost. */
  inspectTables(): void
}

/** One thing that happens to a machine. */
export interface ScenarioStep {
  readonly name: string
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
