import { GateRegistry } from '../cpu/call-gate.ts'
import { Cpu } from '../cpu/cpu.ts'
import { type CpuFeatures, NEHALEM } from '../cpu/features.ts'
import type { MtrrRanges } from '../memory/memory-type.ts'
import { PhysicalMemory } from '../memory/physical-memory.ts'
import { EventLog } from './event-log.ts'
import { CmosClock, IoPorts } from './ports.ts'
import { ResetControl } from './reset.ts'

export interface MachineOptions {
  /** Number of CPUs, default 1. */
  readonly cpus?: number
  readonly features?: CpuFeatures
  readonly mtrrs?: MtrrRanges
  /** See {@link PhysicalMemory}. */
  readonly flatWindow?: number
}

/** An x86-64 machine: memory, CPUs, ports, and the log of what happened to them. */
export class Machine {
  readonly memory: PhysicalMemory
  readonly features: CpuFeatures
  readonly cpus: readonly Cpu[]
  readonly gates: GateRegistry
  readonly log: EventLog
  readonly ports: IoPorts
  /** The variable and fixed range MTRRs, the same on all CPUs. */
  mtrrs: MtrrRanges

  /** A machine that was just switched on; with `parent`, what {@link fork} returns. */
  constructor(options: MachineOptions = {}, parent?: Machine) {
    this.features = parent?.features ?? options.features ?? NEHALEM
    this.memory =
      parent?.memory.fork() ?? new PhysicalMemory({ flatWindow: options.flatWindow ?? 0 })
    this.gates = parent?.gates ?? new GateRegistry()
    this.log = parent?.log.fork() ?? new EventLog()
    this.mtrrs = parent?.mtrrs ?? options.mtrrs ?? []
    this.ports = parent?.ports.fork() ?? defaultPorts()
    const cpus = parent?.cpus.length ?? options.cpus ?? 1
    this.cpus = Array.from({ length: cpus }, (_, id) => new Cpu(this, id, parent?.cpus[id]))
  }

  /** The CPU that booted the machine. */
  get bootCpu(): Cpu {
    return this.cpus[0]!
  }

  /** A machine in the same state that goes its own way: memory is copied on write, TLBs start empty. */
  fork(): Machine {
    return new Machine({}, this)
  }
}

function defaultPorts(): IoPorts {
  const ports = new IoPorts()
  ports.attach(new CmosClock())
  ports.attach(new ResetControl())
  return ports
}
