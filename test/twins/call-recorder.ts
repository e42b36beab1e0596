import {
  type Cpu,
  CpuException,
  Efer,
  type InstructionExecutor,
  MachineReset,
  type PhysicalMemory,
  type RunEnd,
  type RunLimits,
} from '@trapdoor/core'
import type { Interpreter } from '@trapdoor/cpu'

import type { CodeMode, Ended, Entry, VectorState } from './call-state.ts'
import type { NotedPorts, PortAccess } from './noted-ports.ts'

/** How a call ended here, with the memory of that moment. */
export interface Exit {
  readonly ended: Ended
  readonly memory: PhysicalMemory
  readonly general: readonly bigint[]
  readonly rflags: number
  readonly vectors: VectorState
  /** What it did at ports, in order. */
  readonly ports: readonly PortAccess[]
}

/** Lets an interpreter run, and notes how the next call of machine code begins and ends once it is armed, on the machine with the ports that it is given. `onInstruction` is told of each instruction of such a call, before it. */
export class CallRecorder implements InstructionExecutor {
  entry: Entry | undefined
  exit: Exit | undefined
  readonly #interpreter: Interpreter
  readonly #onInstruction: ((cpu: Cpu) => void) | undefined
  #armed: NotedPorts | undefined

  constructor(interpreter: Interpreter, onInstruction?: (cpu: Cpu) => void) {
    this.#interpreter = interpreter
    this.#onInstruction = onInstruction
  }

  /** Forgets what was noted, and notes the next call. */
  arm(ports: NotedPorts): void {
    this.entry = undefined
    this.exit = undefined
    this.#armed = ports
  }

  run(cpu: Cpu, limits: RunLimits): RunEnd {
    const ports = this.#armed
    if (ports === undefined) return this.#interpreter.run(cpu, limits)
    this.#armed = undefined
    // QEMU begins without translations. Ours may still have global ones of the kernel's, which a write to CR3 leaves (SDM Vol. 3, 4.10.4.1) and which hide what the call's own tables lack.
    cpu.mmu.flushAll()
    this.entry = entryOf(cpu, ports.time)
    const noted = ports.accesses.length
    const finish = (ended: Ended): void => {
      const { memory } = cpu.machine
      const accesses = ports.accesses.slice(noted)
      this.exit = {
        ended,
        memory: memory.fork(),
        general: generalOf(cpu),
        rflags: cpu.rflags,
        vectors: vectorsOf(cpu),
        ports: accesses,
      }
    }
    const execution = this.#interpreter.execution(cpu)
    execution.tracer = this.#onInstruction
    try {
      const end = this.#interpreter.run(cpu, limits)
      finish({ kind: 'returned', rax: generalOf(cpu)[0]! })
      return end
    } catch (error) {
      const ended = endingOf(error, cpu)
      if (ended !== undefined) finish(ended)
      throw error
    } finally {
      execution.tracer = undefined
    }
  }
}

function entryOf(cpu: Cpu, clock: string): Entry {
  const returnSlot = cpu.peekPhysical(cpu.rsp)
  if (returnSlot === undefined) throw new Error('the stack of the call is not mapped')
  return {
    memory: cpu.machine.memory.fork(),
    general: generalOf(cpu),
    rip: cpu.rip,
    rflags: cpu.rflags,
    vectors: vectorsOf(cpu),
    cr0: cpu.cr0,
    cr3: cpu.cr3,
    cr4: cpu.cr4,
    efer: cpu.efer,
    mode: modeOf(cpu),
    returnSlot,
    clock,
  }
}

/** Undefined for an error that is none of the machine's. */
function endingOf(error: unknown, { cr2 }: Cpu): Ended | undefined {
  if (error instanceof MachineReset) return { kind: 'reset' }
  if (!(error instanceof CpuException)) return undefined
  const { vector, pushedCode, site } = error
  return { kind: 'exception', vector, errorCode: pushedCode ?? 0, cr2, rip: site.rip ?? 0n }
}

function modeOf({ codeSegmentLong, efer }: Cpu): CodeMode {
  if ((efer & Efer.LMA) === 0) return 'legacy'
  return codeSegmentLong ? 'long' : 'compatible'
}

/** What code of the current segment sees: where that has 32 bits, eight registers of as many. */
function generalOf(cpu: Cpu): bigint[] {
  return cpu.codeSegmentLong
    ? [...cpu.general64.subarray(0, 16)]
    : Array.from(cpu.general64.subarray(0, 8), (value) => BigInt.asUintN(32, value))
}

function vectorsOf(cpu: Cpu): VectorState {
  const { floatingPoint, mxcsr } = cpu
  const xmm = modeOf(cpu) === 'legacy' ? floatingPoint.xmm.subarray(0, 32) : floatingPoint.xmm
  return { fcw: floatingPoint.controlWord, mxcsr, xmm: [...xmm] }
}
