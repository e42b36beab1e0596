import type { Cpu, InstructionExecutor, RunEnd, RunLimits } from '@trapdoor/core'
import { CodeCache } from './decode/code-cache.ts'
import { Execution } from './execution.ts'
import { INSTRUCTION_FAMILIES } from './instructions/families.ts'
import { type InstructionFamily, InstructionTable } from './instructions/table.ts'

/** How an interpreter works; what machine code sees is the same, but for instructions that are left out. */
export interface InterpreterOptions {
  /** The instructions that there are; default all of this package. */
  readonly families?: readonly InstructionFamily[]
  /** Runs after which the operations of a block are made one function, which takes V8 some hundred microseconds to compile; default 4000, which take it about as long. */
  readonly hotAfter?: number
}

const HOT_AFTER = 4000

/**
 * Executes machine code on CPUs, by blocks of instructions that are decoded once for all machines that have the same bytes in memory: set `machine.executor` to one, before machines are
 * forked, and share it among as many as there are.
 */
export class Interpreter implements InstructionExecutor {
  readonly #codes: CodeCache = new CodeCache()
  readonly #table: InstructionTable
  readonly #executions: WeakMap<Cpu, Execution> = new WeakMap()

  readonly #hotAfter: number

  constructor({ families = INSTRUCTION_FAMILIES, hotAfter = HOT_AFTER }: InterpreterOptions = {}) {
    this.#hotAfter = hotAfter
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
    const execution = new Execution(cpu, this.#codes, this.#table, this.#hotAfter)
    this.#executions.set(cpu, execution)
    cpu.execution = execution
    cpu.machine.memory.observers.push(execution)
    return execution
  }
}
