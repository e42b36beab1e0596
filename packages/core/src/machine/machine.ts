import { GateRegistry } from '../calls/call-gate.ts'
import { Cpu } from '../cpu/cpu.ts'
import type { InstructionExecutor } from '../cpu/executor.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import type { MmuPolicy } from '../cpu/mmu.ts'
import { NEHALEM } from '../cpu/models.ts'
import { chipset, type ChipsetOptions } from '../devices/chipset.ts'
import type { MtrrRanges } from '../memory/memory-type.ts'
import { PhysicalMemory } from '../memory/physical-memory.ts'
import type { Rewind } from '../rewind.ts'
import { EventLog, type StaleTranslation } from './event-log.ts'
import type { IoPorts } from './ports.ts'

/** What a machine is made of; what is left out is that of a PC of 2010 with one CPU. */
export interface MachineOptions extends Partial<MmuPolicy> {
  /** Number of CPUs, default 1. */
  readonly cpus?: number
  readonly features?: CpuFeatures
  readonly mtrrs?: MtrrRanges
  /** See {@link PhysicalMemory}. */
  readonly flatWindow?: number
  /** How CPUs start: in 64-bit mode with 4-level paging, as firmware hands over (the default), or as RESET leaves them, with paging off. */
  readonly start?: 'long-mode' | 'reset'
  /** What is behind the ports; by default a board of type `pc`. */
  readonly chipset?: ChipsetOptions
}

/** An x86-64 machine: memory, CPUs, ports, and the log of what happened to them. */
export class Machine {
  readonly memory: PhysicalMemory
  readonly features: CpuFeatures
  readonly policy: MmuPolicy
  readonly start: 'long-mode' | 'reset'
  readonly cpus: readonly Cpu[]
  readonly gates: GateRegistry
  readonly log: EventLog
  readonly ports: IoPorts
  /** Who executes machine code; without one, bytes that are no gate are #UD. Forks share it. */
  executor: InstructionExecutor | undefined
  /** Instructions of one call after which machine code is taken for a program that does not end. Default: none. */
  instructionLimit: number
  /** Names of functions in machine code, by physical address, for whoever tells what was called. Forks share them. */
  readonly functionNames: Map<number, string>
  /** The variable and fixed range MTRRs, the same on all CPUs. */
  mtrrs: MtrrRanges
  /** Whose code runs: the innermost gate that was called and has not returned. */
  #running: Cpu | undefined

  /** A machine that was just switched on; with `parent`, what {@link fork} returns. */
  constructor(options: MachineOptions = {}, parent?: Machine) {
    this.features = parent?.features ?? options.features ?? NEHALEM
    this.memory =
      parent?.memory.fork() ?? new PhysicalMemory({ flatWindow: options.flatWindow ?? 0 })
    this.policy = parent?.policy ?? {
      accessedFlags: options.accessedFlags ?? 'lazy',
      structureCaches: options.structureCaches ?? true,
      auditTranslations: options.auditTranslations ?? true,
    }
    this.start = parent?.start ?? options.start ?? 'long-mode'
    this.memory.tables.author = () => this.#author()
    this.executor = parent?.executor
    this.instructionLimit = parent?.instructionLimit ?? Infinity
    this.functionNames = parent?.functionNames ?? new Map()
    this.gates = parent?.gates ?? new GateRegistry()
    this.log = parent?.log.fork() ?? new EventLog()
    this.mtrrs = parent?.mtrrs ?? options.mtrrs ?? []
    this.ports = parent?.ports.fork() ?? chipset(options.chipset ?? { board: 'pc' })
    const cpus = parent?.cpus.length ?? options.cpus ?? 1
    this.cpus = Array.from({ length: cpus }, (_, id) => new Cpu(this, id, parent?.cpus[id]))
  }

  /** The CPU that booted the machine. */
  get bootCpu(): Cpu {
    return this.cpus[0]!
  }

  /** Runs code of a CPU: what it changes in page tables is laid at its door. */
  runAs<Result>(cpu: Cpu, code: () => Result): Result {
    const before = this.#running
    this.#running = cpu
    try {
      return code()
    } finally {
      this.#running = before
    }
  }

  /** Has every CPU carry out `invalidate`, the others by an interrupt from `initiator`, as after a change of a mapping that they may hold. */
  shootdown(initiator: Cpu, invalidate: (cpu: Cpu) => void): void {
    const targets = this.cpus.filter((cpu) => cpu !== initiator)
    if (targets.length > 0) {
      const ids = targets.map(({ id }) => id)
      this.log.emit({ kind: 'shootdown', cpu: initiator.id, targets: ids })
    }
    for (const cpu of [initiator, ...targets]) invalidate(cpu)
  }

  /**
   * Finds every translation that a CPU still holds though its page tables no longer give it: mappings that were changed and never flushed. Each is
   * an event too. Of other contexts than the current one of a CPU only those are looked at whose root it still knows.
   */
  reportUnflushed(): StaleTranslation[] {
    const found = this.cpus.flatMap((cpu) => cpu.staleTranslations())
    for (const stale of found) this.log.emit({ kind: 'unflushed-change', ...stale })
    return found
  }

  /** A machine in the same state that goes its own way: memory is copied on write, TLBs start empty. */
  fork(): Machine {
    return new Machine({}, this)
  }

  /** Remembers the machine as it is: memory, caches of translations and events included. What is called by nobody can be rewound, so no code of the machine may be under way. */
  checkpoint(): Rewind {
    const { mtrrs } = this
    const rewinds = [this.memory, this.log, this.ports, ...this.cpus].map((part) =>
      part.checkpoint(),
    )
    return () => {
      this.mtrrs = mtrrs
      for (const rewind of rewinds) rewind()
    }
  }

  #author(): string {
    const call = this.#running?.calls.at(-1)
    if (call === undefined) return this.log.era
    return `${call.gate.image}: ${call.gate.name} on CPU ${this.#running?.id}`
  }
}
