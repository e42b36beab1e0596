import type { Cpu } from './cpu.ts'

/** Where and when an executor stops. */
export interface RunLimits {
  /** Stops before the instruction at this address with this stack pointer: where a call that is run returns to. */
  readonly until?: { readonly rip: bigint; readonly rsp: bigint }
  /** Stops after so many instructions. */
  readonly maxInstructions?: number
}

/** Why an executor stopped. */
export type RunEnd = 'returned' | 'instruction-limit' | 'halted'

/** Executes machine code on the CPUs of a machine and of all its forks. */
export interface InstructionExecutor {
  /**
   * Runs `cpu` from its RIP on. An exception is thrown, with the CPU as it was before the instruction that raised it, so that running again repeats it; what stays
   * pending is RIP and the registers alone.
   */
  run(cpu: Cpu, limits: RunLimits): RunEnd
}

/** What an executor keeps of a CPU, in a form of its own, from the first instruction on. */
export interface CpuExecution {
  /** The address of the instruction that is carried out, or that comes next. */
  rip: bigint
  /** Whether it carries out instructions now, or a gate that they have called runs. */
  readonly isRunning: boolean
  /** CF, PF, AF, ZF, SF and OF, at their places in RFLAGS. */
  statusFlags: number
  /** Instructions carried out so far; each iteration of a repeated string instruction counts. */
  readonly instructions: number
  /** Something changed that decides what an address translates to, what it may be used for, or how bytes are decoded. */
  translationsChanged(): void
  /** The translations of the page around an address, whatever its size, may be held no longer. */
  pageDropped(high: number, low: number): void
  /** A segment register other than CS was loaded. */
  segmentLoaded(): void
  /** The privilege level has changed: accesses are a user's from now on, or no longer. */
  privilegeChanged(): void
}
