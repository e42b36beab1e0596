import type { Cpu, InstructionExecutor, RunEnd, RunLimits } from '@trapdoor/core'
import { CodeCache } from './decode/code-cache.ts'
import { Execution } from './execution.ts'
import { INSTRUCTION_FAMILIES } from './instructions/families.ts'
import { type InstructionFamily, InstructionTable } from './instructions/table.ts'

export interface InterpreterOptions {
  /** The instructions that there are; default all of this package. */
  readonly families?: readonly InstructionFamily[]
}

/**
 * Executes machine code on CPUs, by blocks of instructions that are decoded once for all machines that have the same bytes in memory: set `machine.executor` to one, before machines are
 * forked, and share it among as many as there are.
 */
export class Interpreter implements InstructionExecutor {
  readonly #codes: CodeCache = new CodeCache()
  readonly #table: InstructionTable
  readonly #executions: WeakMap<Cpu, Execution> = new WeakMap()

  constructor({ families = INSTRUCTION_FAMILIES }: InterpreterOptions = {}) {
    this.#table = new InstructionTable(families)
  }

  run(cpu: Cpu, limits: RunLimits = {}): RunEnd {
    return this.execution(cpu).run(limits)
  }

  /** Carries out one instruction; an exception is thrown, as {@link run} does. */
  step(cpu: Cpu): void {
    this.execution(cpu).run({ maxInstructions: 1 })
  }

  /** What is kept of a CPU, made when it is first asked for. */
  execution(cpu: Cpu): Execution {
    const known = this.#executions.get(cpu)
    if (known !== undefined) return known
    const execution = new Execution(cpu, this.#codes, this.#table)
    this.#executions.set(cpu, execution)
    cpu.execution = execution
    cpu.machine.memory.observers.push(execution)
    return execution
  }
}
