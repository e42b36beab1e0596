import type { Cpu } from '../cpu/cpu.ts'
import { CpuException, TripleFault } from '../cpu/exception.ts'
import { Segment } from '../cpu/segment-register.ts'
import { isIa32e } from '../segmentation/descriptor.ts'
import { enterHandler } from './enter-handler.ts'
import { type Delivery, type InterruptEvent, Vector } from './event.ts'

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
 * Goes back to what a delivery in IA-32e or protected mode interrupted, for a handler that is modelled: what is on its stack is believed, as its own IRET would check what that model does not set up;
 * so is that CS still means the segment that was interrupted, of 64-bit or of compatibility mode. The stack is read with the handler's own rights.
 */
export function returnFromInterrupt(cpu: Cpu, delivery: Delivery): { readonly rip: bigint } {
  const at = delivery.returnFrame
  const isLong = isIa32e(cpu)
  const word = (index: number): bigint =>
    isLong
      ? cpu.read64(at + BigInt(index * 8), { stack: true })
      : BigInt(cpu.read32(at + BigInt(index * 4), { stack: true }))
  const [rip, cs, rflags] = [word(0), word(1), word(2)]
  // Within a privilege level protected mode pushes neither SS nor ESP.
  const hasStack = isLong || Number(cs & 3n) > cpu.cpl
  const [rsp, ss] = hasStack ? [word(3), word(4)] : [at + 12n, BigInt(cpu.ss)]
  cpu.loadSegment(Segment.CS, { ...delivery.interrupted.code, selector: Number(cs & 0xffffn) })
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
