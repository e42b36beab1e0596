import type { Cpu } from '../cpu/cpu.ts'
import { CpuException, TripleFault } from '../cpu/exception.ts'
import { enterHandler } from './enter-handler.ts'

/** GDTR and IDTR. */
export interface DescriptorTable {
  /** Linear address of the first byte. */
  readonly base: bigint
  /** Offset of the last byte, as the SDM counts limits. */
  readonly limit: number
}

/** What interrupts a processor. */
export interface InterruptEvent {
  /** 0 to 255. */
  readonly vector: number
  /** Pushed on the stack, for the exceptions that have one. */
  readonly errorCode?: number
  /** `software` is INT n, INT3 and INTO, which need the gate's privilege; what the processor or a device raises does not. */
  readonly source: 'exception' | 'external' | 'nmi' | 'software'
  /** Where the handler returns to, if not to the CPU's RIP: the instruction behind INT n. */
  readonly returnRip?: bigint
}

/** A processor that has entered a handler, and has not run any of it. */
export interface Delivery {
  /** The event whose handler was entered: a double fault where the delivery of another failed. */
  readonly event: InterruptEvent
  /** Linear address of the handler. */
  readonly handler: bigint
  /** Linear address of the frame on the handler's stack: its error code where it has one, else RIP. */
  readonly frame: bigint
  /** Where IRET finds RIP. */
  readonly returnFrame: bigint
  /** What was interrupted: where the handler returns to. */
  readonly interrupted: { readonly rip: bigint; readonly rsp: bigint }
}

export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
  VE: 20,
  CP: 21,
} as const

/** Table 6-5 of SDM Vol. 3: #DE, #TS, #NP, #SS and #GP; #CP is one too (6.15, interrupt 21). */
const CONTRIBUTORY: ReadonlySet<number> = new Set([
  Vector.DE,
  Vector.TS,
  Vector.NP,
  Vector.SS,
  Vector.GP,
  Vector.CP,
])

/**
 * Enters the handler of an event through the IDT, in IA-32e mode, in protected mode and in real-address mode (SDM Vol. 3, chapter 6, 20.1.4): gate, code segment and stack are read, and the frame
 * is written, through the page tables. A fault on the way is delivered in the event's place, or as a double fault where table 6-5 says so; one that happens while a double fault is
 * delivered throws {@link TripleFault}. Task gates and virtual-8086 mode are not modelled: CORE_NOT_MODELLED.
 */
export function deliverInterrupt(cpu: Cpu, event: InterruptEvent): Delivery {
  const failures: CpuException[] = []
  let current = event
  for (;;) {
    try {
      const delivery = enterHandler(cpu, current)
      cpu.machine.log.emit({
        kind: 'interrupt',
        cpu: cpu.id,
        vector: current.vector,
        errorCode: current.errorCode,
        handler: delivery.handler,
      })
      return delivery
    } catch (error) {
      if (!(error instanceof CpuException)) throw error
      failures.push(error)
      if (current.vector === Vector.DF && current.source === 'exception') {
        cpu.machine.log.emit({ kind: 'triple-fault', cpu: cpu.id, vector: event.vector })
        throw new TripleFault(event.vector, failures)
      }
      current = isDoubleFault(current, error.vector)
        ? { vector: Vector.DF, errorCode: 0, source: 'exception' }
        : { vector: error.vector, errorCode: error.pushedCode ?? 0, source: 'exception' }
    }
  }
}

/** The event that an exception is, for {@link deliverInterrupt}. */
export function exceptionEvent(exception: CpuException): InterruptEvent {
  const { vector, pushedCode } = exception
  return {
    vector,
    source: 'exception',
    ...(pushedCode === undefined ? {} : { errorCode: pushedCode }),
  }
}

/**
 * Goes back to what a delivery in IA-32e mode interrupted, for a handler that is modelled: what is on its stack is believed, as its own IRETQ would check what that model does not set up.
 * The stack is read with the handler's own rights.
 */
export function returnFromInterrupt(cpu: Cpu, delivery: Delivery): { readonly rip: bigint } {
  const at = delivery.returnFrame
  const word = (index: number): bigint => cpu.read64(at + BigInt(index * 8), { stack: true })
  const [rip, cs, rflags, rsp, ss] = [word(0), word(1), word(2), word(3), word(4)]
  cpu.cs = Number(cs & 0xffffn)
  cpu.ss = Number(ss & 0xffffn)
  cpu.cpl = (cpu.cs & 3) === 3 ? 3 : 0
  cpu.rsp = rsp
  cpu.rflags = Number(BigInt.asUintN(32, rflags))
  return { rip }
}

/** SDM Vol. 3, table 6-5: whether an exception while another is delivered makes a double fault. */
function isDoubleFault(first: InterruptEvent, second: number): boolean {
  if (first.source !== 'exception') return false
  const isContributory = CONTRIBUTORY.has(second)
  if (CONTRIBUTORY.has(first.vector)) return isContributory
  return first.vector === Vector.PF && (isContributory || second === Vector.PF)
}
