import {
  type Cpu,
  Efer,
  Machine,
  type MachineOptions,
  PAGE_SIZE,
  PageTableBuilder,
  phys,
  QEMU_TCG,
  virt,
} from '@trapdoor/core'
import { Interpreter, type InterpreterOptions } from '../src/index.ts'

export const CODE = 0x40_0000n
export const CODE_PHYSICAL = 0x20_0000
export const DATA = 0x50_0000n
export const DATA_PHYSICAL = 0x30_0000
export const STACK_TOP = 0x60_8000n

export interface CodeMachine {
  readonly machine: Machine
  readonly interpreter: Interpreter
  readonly cpu: Cpu
  readonly tables: PageTableBuilder
}

/** A machine with 16 pages of code at {@link CODE}, 16 of data at {@link DATA}, and 8 of stack below {@link STACK_TOP}. */
export function codeMachine(
  options: MachineOptions = {},
  interpreterOptions: InterpreterOptions = {},
): CodeMachine {
  const machine = new Machine({ features: QEMU_TCG, ...options })
  const interpreter = new Interpreter(interpreterOptions)
  machine.executor = interpreter
  let next = 0x11
  const tables = new PageTableBuilder(machine.memory, phys(0x10 * PAGE_SIZE), () => next++)
  tables.mapRange(virt(CODE), phys(CODE_PHYSICAL), 16 * PAGE_SIZE, { executable: true })
  tables.mapRange(virt(DATA), phys(DATA_PHYSICAL), 16 * PAGE_SIZE)
  tables.mapRange(virt(STACK_TOP - 0x8000n), phys(0x10_0000), 8 * PAGE_SIZE)
  for (const cpu of machine.cpus) {
    cpu.writeEfer(cpu.efer | Efer.NXE)
    cpu.writeCr3(tables.root)
    cpu.rsp = STACK_TOP
  }
  return { machine, interpreter, cpu: machine.bootCpu, tables }
}

/** Puts code at {@link CODE}, and RIP on it. */
function placeCode({ machine, cpu }: CodeMachine, ...bytes: readonly number[]): void {
  machine.memory.write(CODE_PHYSICAL, Uint8Array.from(bytes))
  cpu.rip = CODE
}

/** Carries out one instruction of these bytes. */
export function execute(target: CodeMachine, ...bytes: readonly number[]): void {
  placeCode(target, ...bytes)
  target.interpreter.step(target.cpu)
}
