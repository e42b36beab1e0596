import {
  type Cpu,
  CpuException,
  deliverInterrupt,
  exceptionEvent,
  type InterruptEvent,
  Rflags,
  type RunEnd,
  type RunLimits,
  Vector,
} from '@trapdoor/core'
import type { Execution } from '../execution.ts'

/** DR6.BS: the exception comes from single-stepping (SDM Vol. 3, 18.2.3). */
const SINGLE_STEP = 0x4000n

/**
 * Runs a CPU as the processor of a computer: exceptions, NMIs and the interrupts of its local APIC go to the handlers that its IDT names, TF steps, and HLT waits. What comes between
 * instructions comes in the order of SDM Vol. 3, table 6-2: traps of the last instruction, NMI, interrupts. Time is instructions, and the ticks that HLT has waited.
 */
export class EventDelivery {
  readonly cpu: Cpu
  readonly #execution: Execution
  /** Ticks that passed while the CPU was halted. */
  #idle = 0
  #nmiPending = false

  constructor(execution: Execution) {
    this.cpu = execution.cpu
    this.#execution = execution
    execution.attend = () => this.#attend()
    execution.onException = (error) => this.#deliverException(error)
    execution.attention = true
  }

  /** The clock that a timer of this CPU runs by: instructions, and what was waited. */
  get clock(): number {
    return this.cpu.instructions + this.#idle
  }

  /** An NMI for this CPU. */
  requestNmi(): void {
    this.#nmiPending = true
    this.#execution.attention = true
  }

  /**
   * Runs from RIP on. `halted` says that the CPU waits for something that cannot come. A fault in the delivery of a double fault throws {@link TripleFault}; an instruction that is missing, and a reset, are thrown as
   * they are.
   */
  run({ maxInstructions = Infinity }: Pick<RunLimits, 'maxInstructions'> = {}): RunEnd {
    const { cpu } = this
    const apic = cpu.localApic
    if (apic !== undefined) apic.onChange = () => this.#execution.callAttention()
    const target = cpu.instructions + maxInstructions
    for (;;) {
      const end = this.#execution.run({ maxInstructions: target - cpu.instructions })
      if (end !== 'halted' || !this.#wake()) return end
    }
  }

  /** What comes before the next instruction. */
  #attend(): boolean {
    const execution = this.#execution
    const { cpu } = this
    execution.attention = false
    if (execution.singleStepDue) this.#trapSingleStep()
    const isShadowed = execution.shadow !== 'none'
    execution.shadow = 'none'
    if (!isShadowed) this.#takeInterrupt()
    const isTracing = (cpu.controlFlags & Rflags.TF) !== 0
    if (isTracing) execution.singleStepDue = true
    const isAlone = isTracing || isShadowed
    execution.attention = isAlone || this.#isTimerRunning()
    return isAlone
  }

  #trapSingleStep(): void {
    const { cpu } = this
    this.#execution.singleStepDue = false
    cpu.debugRegisters = cpu.debugRegisters.with(6, cpu.debugRegisters[6]! | SINGLE_STEP)
    this.#deliver({ vector: Vector.DB, source: 'exception' })
  }

  #takeInterrupt(): void {
    const { cpu } = this
    if (this.#nmiPending && !this.#execution.nmiBlocked) {
      this.#nmiPending = false
      this.#execution.nmiBlocked = true
      this.#deliver({ vector: Vector.NMI, source: 'nmi' })
      return
    }
    if (!cpu.interruptFlag) return
    const vector = cpu.localApic?.pendingVector() ?? -1
    if (vector < 0) return
    cpu.localApic!.acknowledge(vector)
    this.#deliver({ vector, source: 'external' })
  }

  #deliverException(error: unknown): boolean {
    if (!(error instanceof CpuException)) return false
    this.#execution.singleStepDue = false
    this.#execution.shadow = 'none'
    this.#deliver(exceptionEvent(error))
    return true
  }

  #deliver(event: InterruptEvent): void {
    this.cpu.rip = deliverInterrupt(this.cpu, event).rip
  }

  #isTimerRunning(): boolean {
    const apic = this.cpu.localApic
    return apic !== undefined && apic.nextTimerInterrupt() !== Infinity
  }

  /** Lets time pass until something wakes the halted CPU; returns whether anything does. */
  #wake(): boolean {
    const { cpu } = this
    const apic = cpu.localApic
    this.#execution.attention = true
    if (this.#nmiPending && !this.#execution.nmiBlocked) return true
    if (!cpu.interruptFlag || apic === undefined) return false
    if (apic.pendingVector() < 0) {
      const ticks = apic.nextTimerInterrupt() - this.clock
      if (ticks === Infinity) return false
      this.#idle += ticks
      cpu.msrs = { ...cpu.msrs, timeStampOffset: cpu.msrs.timeStampOffset + BigInt(ticks) }
    }
    return apic.pendingVector() >= 0
  }
}
