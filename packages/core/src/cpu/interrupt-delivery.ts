import { isCanonical } from '../address.ts'
import { CoreError } from '../error.ts'
import { Efer } from './control.ts'
import type { AccessOrigin, Cpu } from './cpu.ts'
import { CpuException, DescriptorFault, TripleFault } from './exception.ts'

/** GDTR and IDTR. */
export interface DescriptorTable {
  /** Linear address of the first byte. */
  readonly base: bigint
  /** Offset of the last byte, as the SDM counts limits. */
  readonly limit: number
}

/** TR: the selector of the task-state segment, and what LTR read from its descriptor. */
export interface TaskRegister extends DescriptorTable {
  readonly selector: number
}

/** What interrupts a processor. */
export interface InterruptEvent {
  /** 0 to 255. */
  readonly vector: number
  /** Pushed on the stack, for the exceptions that have one. */
  readonly errorCode?: number
  /** `software` is INT n, which needs the gate's privilege; what the processor or a device raises does not. */
  readonly source: 'exception' | 'external' | 'nmi' | 'software'
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

export const Vector = { NMI: 2, DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14 } as const

/** Table 6-5 of SDM Vol. 3: #DE, #TS, #NP, #SS and #GP. */
const CONTRIBUTORY: ReadonlySet<number> = new Set([0, 10, 11, 12, 13])
const IMPLICIT: AccessOrigin = { implicit: true }
const ON_STACK: AccessOrigin = { implicit: true, stack: true }
const GATE_BYTES = 16
const INTERRUPT_GATE = 0xe
const TRAP_GATE = 0xf
const AVAILABLE_TSS = 0x9
const BUSY = 0x2
const TSS_RSP0 = 0x04
const TSS_IST1 = 0x24

/**
 * Enters the handler of an event, as the processor does in IA-32e mode (SDM Vol. 3, 6.14): gate, code segment and stack are read, and the frame is written, by implicit
 * supervisor accesses through the page tables. A fault on the way is delivered in the event's place, or as a double fault where table 6-5 says so; one that happens while a double fault is
 * delivered throws {@link TripleFault}. Other modes are not modelled: CORE_BAD_CONTROL_REGISTER.
 */
export function deliverInterrupt(cpu: Cpu, event: InterruptEvent): Delivery {
  if ((cpu.efer & Efer.LMA) === 0) {
    throw new CoreError('CORE_BAD_CONTROL_REGISTER', {
      expected: 'a CPU in IA-32e mode, the only one whose interrupts are modelled',
      found: `EFER 0x${cpu.efer.toString(16)}`,
    })
  }
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

/** IRETQ: goes back to what a delivery interrupted. The stack is read with the handler's own rights. */
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

/** LTR: reads the descriptor of a 64-bit task-state segment from the GDT, marks it busy, and loads TR (SDM Vol. 2, LTR). */
export function loadTaskRegister(cpu: Cpu, selector: number): void {
  const offset = selector & ~7
  if (offset === 0) throw descriptorFault(cpu, '#GP', 0)
  if (offset + 15 > cpu.gdtr.limit) throw descriptorFault(cpu, '#GP', offset)
  const address = cpu.gdtr.base + BigInt(offset)
  const low = cpu.read64(address, IMPLICIT)
  const high = cpu.read64(address + 8n, IMPLICIT)
  if (Number((low >> 40n) & 0x1fn) !== AVAILABLE_TSS) throw descriptorFault(cpu, '#GP', offset)
  if (((low >> 47n) & 1n) === 0n) throw descriptorFault(cpu, '#NP', offset)
  cpu.write64(address, low | (BigInt(BUSY) << 40n), IMPLICIT)
  const isInPages = ((low >> 55n) & 1n) === 1n
  const limit = Number((low & 0xffffn) | ((low >> 32n) & 0xf_0000n))
  cpu.taskRegister = {
    selector,
    base:
      ((low >> 16n) & 0xff_ffffn) | ((low >> 32n) & 0xff00_0000n) | ((high & 0xffff_ffffn) << 32n),
    limit: isInPages ? limit * 4096 + 4095 : limit,
  }
}

/** SDM Vol. 3, 6.12.1 and 6.14: the steps from the gate to the handler. */
function enterHandler(cpu: Cpu, event: InterruptEvent): Delivery {
  const external = event.source === 'software' ? 0 : 1
  const gate = readGate(cpu, event, external)
  const { selector, level } = readCodeSegment(cpu, gate.selector, external)
  const isInner = level < cpu.cpl
  const top =
    gate.ist !== 0
      ? readTss(cpu, TSS_IST1 + (gate.ist - 1) * 8, external)
      : isInner
        ? readTss(cpu, TSS_RSP0, external)
        : cpu.rsp
  if (!isCanonical(gate.offset, cpu.mode.linearBits === 57 ? 57 : 48)) {
    throw descriptorFault(cpu, '#GP', external)
  }
  const interrupted = { rip: cpu.calls.at(-1)?.rip ?? cpu.rip, rsp: cpu.rsp }
  const words = [
    BigInt(cpu.ss),
    interrupted.rsp,
    BigInt(cpu.rflags),
    BigInt(cpu.cs),
    interrupted.rip,
    ...(event.errorCode === undefined ? [] : [BigInt(event.errorCode)]),
  ]
  let rsp = top & ~0xfn
  for (const word of words) {
    rsp = BigInt.asUintN(64, rsp - 8n)
    cpu.write64(rsp, word, ON_STACK)
  }
  if (isInner) cpu.ss = level
  cpu.cs = selector
  cpu.cpl = level
  cpu.rsp = rsp
  if (gate.type === INTERRUPT_GATE) cpu.interruptFlag = false
  return {
    event,
    handler: gate.offset,
    frame: rsp,
    returnFrame: event.errorCode === undefined ? rsp : rsp + 8n,
    interrupted,
  }
}

interface Gate {
  readonly offset: bigint
  readonly selector: number
  /** 0 for none, 1 to 7. */
  readonly ist: number
  readonly type: number
}

/** SDM Vol. 3, figure 6-8. */
function readGate(cpu: Cpu, event: InterruptEvent, external: number): Gate {
  const code = event.vector * 8 + 2 + external
  if (event.vector * GATE_BYTES + GATE_BYTES - 1 > cpu.idtr.limit) {
    throw descriptorFault(cpu, '#GP', code)
  }
  const address = cpu.idtr.base + BigInt(event.vector * GATE_BYTES)
  const low = cpu.read64(address, IMPLICIT)
  const high = cpu.read64(address + 8n, IMPLICIT)
  const type = Number((low >> 40n) & 0x1fn)
  if (type !== INTERRUPT_GATE && type !== TRAP_GATE) throw descriptorFault(cpu, '#GP', code)
  const privilege = Number((low >> 45n) & 3n)
  if (event.source === 'software' && privilege < cpu.cpl) throw descriptorFault(cpu, '#GP', code)
  if (((low >> 47n) & 1n) === 0n) throw descriptorFault(cpu, '#NP', code)
  return {
    offset: (low & 0xffffn) | ((low >> 32n) & 0xffff_0000n) | ((high & 0xffff_ffffn) << 32n),
    selector: Number((low >> 16n) & 0xffffn),
    ist: Number((low >> 32n) & 7n),
    type,
  }
}

/** The code segment that a gate leads to, which must be a present 64-bit one that is no less privileged. */
function readCodeSegment(
  cpu: Cpu,
  gateSelector: number,
  external: number,
): { readonly selector: number; readonly level: 0 | 3 } {
  const offset = gateSelector & ~7
  if (offset === 0) throw descriptorFault(cpu, '#GP', external)
  if (offset + 7 > cpu.gdtr.limit) throw descriptorFault(cpu, '#GP', offset + external)
  const descriptor = cpu.read64(cpu.gdtr.base + BigInt(offset), IMPLICIT)
  const isCode = ((descriptor >> 43n) & 3n) === 3n
  const isLong = ((descriptor >> 53n) & 3n) === 1n
  const privilege = Number((descriptor >> 45n) & 3n)
  if (!isCode || !isLong || privilege > cpu.cpl) {
    throw descriptorFault(cpu, '#GP', offset + external)
  }
  if (((descriptor >> 47n) & 1n) === 0n) throw descriptorFault(cpu, '#NP', offset + external)
  const isConforming = ((descriptor >> 42n) & 1n) === 1n
  const level = isConforming || privilege !== 0 ? cpu.cpl : 0
  return { selector: offset | level, level }
}

function readTss(cpu: Cpu, offset: number, external: number): bigint {
  const { base, limit, selector } = cpu.taskRegister
  if (offset + 7 > limit) throw descriptorFault(cpu, '#TS', (selector & ~7) + external)
  return cpu.read64(base + BigInt(offset), IMPLICIT)
}

function descriptorFault(
  cpu: Cpu,
  mnemonic: '#TS' | '#NP' | '#GP',
  errorCode: number,
): CpuException {
  return cpu.raise((site) => new DescriptorFault(mnemonic, errorCode, site))
}

/** SDM Vol. 3, table 6-5: whether an exception while another is delivered makes a double fault. */
function isDoubleFault(first: InterruptEvent, second: number): boolean {
  if (first.source !== 'exception') return false
  const isContributory = CONTRIBUTORY.has(second)
  if (CONTRIBUTORY.has(first.vector)) return isContributory
  return first.vector === Vector.PF && (isContributory || second === Vector.PF)
}
