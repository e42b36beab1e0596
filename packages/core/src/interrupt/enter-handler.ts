import { isCanonical } from '../address.ts'
import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import type { Cpu, PrivilegeLevel } from '../cpu/cpu.ts'
import { Rflags } from '../cpu/rflags.ts'
import { Segment, type SegmentRegister, SegmentRights } from '../cpu/segment-register.ts'
import { CoreError } from '../error.ts'
import {
  type Descriptor,
  isCode,
  isConforming,
  isIa32e,
  isNull,
  isPresent,
  privilegeOf,
  readDescriptor,
  selectorFault,
} from '../segmentation/descriptor.ts'
import {
  accessed,
  checkedStackSegment,
  isRealMode,
  nullSegment,
  realModeSegment,
} from '../segmentation/segment-load.ts'
import {
  currentStack,
  type OperandBytes,
  pointerBytesOf,
  pushOn,
  setStackPointer,
  type Stack,
} from '../segmentation/stack.ts'
import { readTaskWord } from '../segmentation/task-register.ts'
import { type Delivery, type InterruptEvent, Vector } from './event.ts'
import { type Gate, readGate } from './gate.ts'

/** Where the processor goes and on what stack; nothing has changed yet. */
interface Entry {
  readonly code: SegmentRegister
  readonly level: PrivilegeLevel
  readonly stack: Stack
  /** What SS becomes; undefined where it stays. */
  readonly stackSegment: SegmentRegister | undefined
  readonly offset: bigint
}

/** Exceptions that are no faults, whose frames have RFLAGS.RF as it is (SDM Vol. 3, 18.3.1.1): #DB, #BP, #OF, #DF and #MC. */
const WITHOUT_RESUME_FLAG: ReadonlySet<number> = new Set([
  Vector.DB,
  Vector.BP,
  Vector.OF,
  Vector.DF,
  Vector.MC,
])
/** Flags that a handler starts without (SDM Vol. 3, 6.12.1.3). */
const CLEARED: number = Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM
const TSS_RSP0 = 0x04
const TSS_IST1 = 0x24

/** SDM Vol. 3, 6.12.1 and 6.14: the steps from the gate to the handler. */
export function enterHandler(cpu: Cpu, event: InterruptEvent): Delivery {
  if (isRealMode(cpu)) return enterRealModeHandler(cpu, event)
  const external = event.source === 'software' ? 0 : 1
  const gate = readGate(cpu, event, external)
  if (gate.kind === 'task') throw notModelled('a task gate')
  const entry = isIa32e(cpu) ? enterIa32e(cpu, gate, external) : enterProtected(cpu, gate, external)
  const interrupted = {
    rip: event.returnRip ?? cpu.calls.at(-1)?.rip ?? cpu.rip,
    rsp: cpu.rsp,
    code: cpu.segments[Segment.CS]!,
  }
  const words = frameWords(cpu, event, interrupted, {
    withStack: isIa32e(cpu) || entry.stackSegment !== undefined,
  })
  const top = pushOn(cpu, entry.stack, words, gate.operandBytes, { implicit: true })
  if (entry.stackSegment !== undefined) cpu.loadSegment(Segment.SS, entry.stackSegment)
  cpu.loadSegment(Segment.CS, entry.code)
  cpu.cpl = entry.level
  setStackPointer(cpu, top)
  if (gate.masks) cpu.interruptFlag = false
  cpu.controlFlags &= ~CLEARED
  const frame = frameAddress(entry, top)
  return {
    event,
    handler: entry.offset + (gate.operandBytes === 8 ? 0n : entry.code.base),
    rip: entry.offset,
    frame,
    returnFrame: event.errorCode === undefined ? frame : frame + BigInt(gate.operandBytes),
    interrupted,
  }
}

function frameAddress(
  { stack, stackSegment }: Entry,
  top: { readonly high: number; readonly low: number },
): bigint {
  const pointer = joinHalves(top.high, top.low)
  if (stack.pointerBytes === 8) return pointer
  const { base } = stackSegment ?? stack.segment
  return BigInt.asUintN(32, base + BigInt.asUintN(stack.pointerBytes * 8, pointer))
}

/** What goes on the stack, the first highest, as halves: SS and RSP where the frame has them, RFLAGS, CS, RIP, error code. */
function frameWords(
  cpu: Cpu,
  event: InterruptEvent,
  { rip }: { readonly rip: bigint },
  { withStack }: { readonly withStack: boolean },
): number[] {
  const isFault = event.source === 'exception' && !WITHOUT_RESUME_FLAG.has(event.vector)
  const { rsp } = cpu
  const words = withStack ? [cpu.ss, 0, lowHalf(rsp), highHalf(rsp)] : []
  words.push(cpu.rflags | (isFault ? Rflags.RF : 0), 0, cpu.cs, 0, lowHalf(rip), highHalf(rip))
  if (event.errorCode !== undefined) words.push(event.errorCode, 0)
  return words
}

function enterIa32e(cpu: Cpu, gate: Gate, external: number): Entry {
  const descriptor = readHandlerCode(cpu, gate.selector, external)
  const isLong =
    (descriptor.high & (SegmentRights.Long | SegmentRights.Default32)) === SegmentRights.Long
  if (!isLong) throw selectorFault(cpu, '#GP', (gate.selector & 0xfffc) + external)
  const level = levelOf(cpu, descriptor)
  const isInner = level < cpu.cpl
  const slot =
    gate.ist !== 0 ? TSS_IST1 + (gate.ist - 1) * 8 : isInner ? TSS_RSP0 + level * 8 : undefined
  const now = currentStack(cpu)
  const low = slot === undefined ? now.low : readTaskWord(cpu, slot, external)
  const high = slot === undefined ? now.high : readTaskWord(cpu, slot + 4, external)
  const bits = cpu.mode.linearBits === 57 ? 57 : 48
  if (!isCanonical(joinHalves(high, low), bits)) throw selectorFault(cpu, '#SS', external)
  const offset = joinHalves(gate.offsetHigh, gate.offsetLow)
  if (!isCanonical(offset, bits)) throw selectorFault(cpu, '#GP', external)
  return {
    code: accessed(cpu, (gate.selector & 0xfffc) | level, descriptor),
    level,
    stack: {
      segment: now.segment,
      high,
      low: low & ~0xf,
      pointerBytes: 8,
      user: level === 3,
      limitCode: external,
    },
    stackSegment: isInner ? nullSegment(level) : undefined,
    offset,
  }
}

function enterProtected(cpu: Cpu, gate: Gate, external: number): Entry {
  const descriptor = readHandlerCode(cpu, gate.selector, external)
  const level = levelOf(cpu, descriptor)
  const offset = BigInt(gate.offsetLow >>> 0)
  const code = accessed(cpu, (gate.selector & 0xfffc) | level, descriptor)
  const entry = { code, level, offset }
  let result: Entry
  if (level < cpu.cpl) {
    const pointer = readTaskWord(cpu, TSS_RSP0 + level * 8, external)
    const selector = readTaskWord(cpu, TSS_RSP0 + 4 + level * 8, external) & 0xffff
    if (isNull(selector)) throw selectorFault(cpu, '#TS', external)
    const check = { level, mnemonic: '#TS', external } as const
    const segment = checkedStackSegment(cpu, selector, check)
    const limitCode = (selector & 0xfffc) + external
    const pointerBytes = pointerBytesOf(segment)
    const stack = { segment, high: 0, low: pointer, pointerBytes, user: false, limitCode }
    result = { ...entry, stack, stackSegment: segment }
  } else {
    result = {
      ...entry,
      stack: { ...currentStack(cpu), limitCode: external },
      stackSegment: undefined,
    }
  }
  if (offset > BigInt(code.limit)) throw selectorFault(cpu, '#GP', external)
  return result
}

/** The code segment that a gate leads to, which must be a present one that is no less privileged. */
function readHandlerCode(cpu: Cpu, selector: number, external: number): Descriptor {
  if (isNull(selector)) throw selectorFault(cpu, '#GP', external)
  const descriptor = readDescriptor(cpu, selector, '#GP', external)
  if (!isCode(descriptor) || privilegeOf(descriptor) > cpu.cpl) {
    throw selectorFault(cpu, '#GP', (selector & 0xfffc) + external)
  }
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', (selector & 0xfffc) + external)
  return descriptor
}

function levelOf(cpu: Cpu, descriptor: Descriptor): PrivilegeLevel {
  return isConforming(descriptor) ? cpu.cpl : (privilegeOf(descriptor) as PrivilegeLevel)
}

/** SDM Vol. 3, 20.1.4: the IDT holds far pointers, and FLAGS, CS and IP are pushed. */
function enterRealModeHandler(cpu: Cpu, event: InterruptEvent): Delivery {
  if ((cpu.controlFlags & Rflags.VM) !== 0) throw notModelled('an interrupt in virtual-8086 mode')
  const { base, limit } = cpu.idtr
  const at = event.vector * 4
  if (at + 3 > limit) throw selectorFault(cpu, '#GP', event.vector * 8 + 2)
  const pointer = cpu.read32(base + BigInt(at))
  const code = cpu.segments[Segment.CS]!
  const interrupted = { rip: event.returnRip ?? cpu.rip, rsp: cpu.rsp, code }
  const words = [cpu.rflags & 0xffff, 0, cpu.cs, 0, lowHalf(interrupted.rip), 0]
  const bytes: OperandBytes = 2
  const stack = currentStack(cpu)
  const top = pushOn(cpu, stack, words, bytes, { implicit: true })
  setStackPointer(cpu, top)
  const handlerCode = realModeSegment(pointer >>> 16, code)
  cpu.loadSegment(Segment.CS, handlerCode)
  cpu.interruptFlag = false
  cpu.controlFlags &= ~(Rflags.TF | Rflags.RF)
  cpu.alignmentCheck = false
  const frame = BigInt.asUintN(32, stack.segment.base + BigInt(top.low & 0xffff))
  return {
    event,
    handler: handlerCode.base + BigInt(pointer & 0xffff),
    rip: BigInt(pointer & 0xffff),
    frame,
    returnFrame: frame,
    interrupted,
  }
}

function notModelled(found: string): CoreError {
  return new CoreError('CORE_NOT_MODELLED', {
    expected: 'an interrupt gate, a trap gate or a far pointer of real-address mode',
    found,
  })
}
