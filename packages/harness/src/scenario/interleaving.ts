import type { Cpu } from '@trapdoor/core'
import type { EfiServices, PreparedCall } from '@trapdoor/kernel'
import { areDependent, type Execution, type Footprint, oneOfAlike } from './explore.ts'
import type { CpuProgram } from './scenario.ts'

/** The steps of a call that other CPUs' steps may come between. */
const STEPS = ['enter', 'execute', 'leave'] as const
type Step = (typeof STEPS)[number]
/** The place that stands for all page tables: whatever runs under them depends on who changes them. */
const TABLES = 'page tables'

/** What an interleaving runs on. */
export interface InterleavedMachine {
  readonly cpus: readonly Cpu[]
  services(cpu: number): EfiServices
  /** Does a step; returns false where it ended the machine. */
  attempt(name: string, run: () => void): boolean
  /** Takes a call that was left into the results. */
  record(prepared: PreparedCall<unknown>): void
  /** Whether something is wrong so far. */
  isWrong(): boolean
}

/** CPUs that make their calls step by step, in the order in which they are told to. */
export class Interleaving implements Execution {
  /** How many steps it takes for something to be wrong; undefined where nothing is. */
  wrongAfter: number | undefined
  readonly #machine: InterleavedMachine
  readonly #programs: readonly CpuProgram[]
  readonly #position: { call: number; step: number; prepared: PreparedCall<unknown> | undefined }[]
  readonly #done: { name: string; cpu: number; footprint: Footprint }[] = []
  #dead = false
  #wrong = -1

  constructor(machine: InterleavedMachine, programs: readonly CpuProgram[]) {
    this.#machine = machine
    this.#programs = programs
    this.#position = programs.map(() => ({ call: 0, step: 0, prepared: undefined }))
  }

  enabled(): number[] {
    const ready = this.#programs.flatMap((_, cpu) => (this.#mayStep(cpu) ? [cpu] : []))
    // The boot CPU is like no other: kernels do things on it alone.
    return oneOfAlike(ready, (cpu) => {
      const { call, step } = this.#position[cpu]!
      return cpu === 0 || call > 0 || step > 0 ? undefined : this.#programs[cpu]
    })
  }

  isOver(): boolean {
    return this.#dead
  }

  step(cpu: number): Footprint {
    const at = this.#position[cpu]!
    const name = STEPS[at.step]!
    const prepared = this.#prepared(cpu)
    const label = `CPU ${cpu} ${name}`
    const footprint = new Recorder(this.#machine.cpus[cpu]!)
    this.#done.push({ name: label, cpu, footprint })
    const { call } = prepared
    if (call !== undefined) {
      const survived = this.#machine.attempt(label, () => {
        footprint.during(() => call[name]())
      })
      this.#dead = !survived
      for (const { frame, access } of name === 'execute' ? call.touches : []) {
        footprint.add(frame, access)
      }
      if (call.lock !== undefined && name !== 'execute') footprint.lock(call.lock)
    }
    this.#advance(cpu, name, prepared)
    if (this.wrongAfter === undefined && (this.#dead || this.#machine.isWrong())) {
      this.#wrong = this.#done.length - 1
      this.wrongAfter = this.#causesOf(this.#wrong).length
    }
    return footprint
  }

  /** The steps that lead to where something was wrong, such as "CPU 0 enter, CPU 1 enter": those of which the last one is a consequence. Empty where nothing is. */
  describe(): string {
    return this.wrongAfter === undefined ? '' : this.#causesOf(this.#wrong).join(', ')
  }

  /** Names of a step and of all that happened before it, in order: earlier steps of its CPU, and those that it depends on. */
  #causesOf(last: number): string[] {
    const causes = new Set([last])
    for (let step = last - 1; step >= 0; step--) {
      const { cpu, footprint } = this.#done[step]!
      const matters = [...causes].some((cause) => {
        const later = this.#done[cause]!
        return later.cpu === cpu || areDependent(footprint, later.footprint)
      })
      if (matters) causes.add(step)
    }
    return this.#done.filter((_, step) => causes.has(step)).map(({ name }) => name)
  }

  #mayStep(cpu: number): boolean {
    const { call, step } = this.#position[cpu]!
    if (call >= this.#programs[cpu]!.length) return false
    return step > 0 || this.#prepared(cpu).call?.mayEnter !== false
  }

  #prepared(cpu: number): PreparedCall<unknown> {
    const at = this.#position[cpu]!
    at.prepared ??= this.#programs[cpu]![at.call]!(this.#machine.services(cpu))
    return at.prepared
  }

  #advance(cpu: number, name: Step, prepared: PreparedCall<unknown>): void {
    const at = this.#position[cpu]!
    at.step++
    if (name !== 'leave') return
    if (!this.#dead) this.#machine.record(prepared)
    this.#position[cpu] = { call: at.call + 1, step: 0, prepared: undefined }
  }
}

/** Notes what a step of a CPU touches: frames, page tables, and what processors remember of these. */
class Recorder implements Footprint {
  readonly reads: Set<string> = new Set([TABLES])
  readonly writes: Set<string> = new Set()
  readonly #cpu: Cpu

  constructor(cpu: Cpu) {
    this.#cpu = cpu
    this.reads.add(translationsOf(cpu))
  }

  during(run: () => void): void {
    const { cpus, memory } = this.#cpu.machine
    const { epoch, writes } = memory.tables
    const flushes = cpus.map(flushesOf)
    this.#cpu.touchRecorder = (frame, access) => {
      this.add(frame, access)
    }
    try {
      run()
    } finally {
      this.#cpu.touchRecorder = undefined
    }
    // Through a builder, or as memory that somebody has translated through.
    const hasChangedTables = memory.tables.writes !== writes || memory.tables.epoch !== epoch
    if (hasChangedTables) this.writes.add(TABLES)
    for (const [id, cpu] of cpus.entries()) {
      // What it flushes of its own matters to nobody else.
      if (cpu !== this.#cpu && flushesOf(cpu) !== flushes[id]) this.writes.add(translationsOf(cpu))
    }
  }

  add(frame: number, access: 'read' | 'write' | 'execute'): void {
    ;(access === 'write' ? this.writes : this.reads).add(`frame ${frame}`)
  }

  lock(name: string): void {
    this.writes.add(name)
  }
}

/** The place that stands for what a CPU's TLB and paging-structure caches hold. */
function translationsOf(cpu: Cpu): string {
  return `translations of CPU ${cpu.id}`
}

/** How often something was taken from what a CPU's TLB holds. */
function flushesOf({ counters }: Cpu): number {
  return counters.cr3Writes + counters.globalFlushes + counters.invlpgs
}
