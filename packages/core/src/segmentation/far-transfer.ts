import { isCanonical } from '../address.ts'
import type { Cpu, PrivilegeLevel } from '../cpu/cpu.ts'
import { GeneralProtection } from '../cpu/exception.ts'
import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import { Segment, type SegmentRegister, SegmentRights } from '../cpu/segment-register.ts'
import { CoreError } from '../error.ts'
import {
  type Descriptor,
  isCode,
  isConforming,
  isIa32e,
  isNull,
  isPresent,
  limitOf,
  privilegeOf,
  readDescriptor,
  readSecondHalf,
  selectorFault,
  SystemType,
  systemType,
} from './descriptor.ts'
import {
  accessed,
  checkedStackSegment,
  dropInnerSegments,
  isAmbiguousCode,
  isRealMode,
  nullSegment,
  realModeSegment,
} from './segment-load.ts'
import {
  currentStack,
  movedPointer,
  type OperandBytes,
  peekStack,
  pointerBytesOf,
  pushOn,
  setStackPointer,
  type Stack,
} from './stack.ts'
import { readTaskWord } from './task-register.ts'

/** A far pointer, as JMP and CALL have it. */
export interface FarPointer {
  readonly selector: number
  readonly offset: bigint
}

/** A code segment that may be gone to, and where in it; nothing has changed yet. */
interface Target {
  readonly selector: number
  readonly descriptor: Descriptor
  readonly level: PrivilegeLevel
  readonly offset: bigint
}

/** Where a call through a gate to a more privileged level goes. */
interface GateTarget extends Target {
  readonly operandBytes: OperandBytes
  /** Words of the caller's stack that the callee gets. */
  readonly parameters: number
}

const TSS_RSP0 = 0x04
const CALL_GATE_PARAMETERS = 0x1f

/**
 * JMP far: to a code segment, or through a call gate without a change of privilege (SDM Vol. 2, JMP). Sets CS and RIP. A task gate or a task-state segment is not modelled:
 * CORE_NOT_MODELLED.
 */
export function farJump(cpu: Cpu, pointer: FarPointer): void {
  if (isRealMode(cpu)) {
    jumpInRealMode(cpu, pointer)
    return
  }
  enterCode(cpu, jumpTarget(cpu, pointer))
}

/** CALL far: as {@link farJump}, and pushes CS and `returnRip`. A gate may lead to a more privileged level, on the stack that the TSS has for it. */
export function farCall(
  cpu: Cpu,
  pointer: FarPointer,
  { operandBytes, returnRip }: { readonly operandBytes: OperandBytes; readonly returnRip: bigint },
): void {
  const returnWords = returnPointer(cpu, returnRip)
  if (isRealMode(cpu)) {
    const top = pushOn(cpu, currentStack(cpu), returnWords, operandBytes, { implicit: false })
    jumpInRealMode(cpu, pointer)
    setStackPointer(cpu, top)
    return
  }
  const target = callTarget(cpu, pointer, operandBytes)
  if (target.level < cpu.cpl) {
    callInnerLevel(cpu, target, returnWords)
    return
  }
  const top = pushOn(cpu, currentStack(cpu), returnWords, target.operandBytes, { implicit: false })
  enterCode(cpu, target)
  setStackPointer(cpu, top)
}

/** RET far: pops offset and CS, and releases `release` bytes; to an outer level it pops the stack pointer and SS, too (SDM Vol. 2, RET). */
export function farReturn(
  cpu: Cpu,
  { operandBytes, release }: { readonly operandBytes: OperandBytes; readonly release: number },
): void {
  const words = peekStack(cpu, 2, operandBytes)
  const pointer = { selector: words[2]! & 0xffff, offset: joinHalves(words[1]!, words[0]!) }
  const popped = 2 * operandBytes + release
  if (isRealMode(cpu)) {
    jumpInRealMode(cpu, pointer)
    setStackPointer(cpu, movedPointer(currentStack(cpu), popped))
    return
  }
  // AMD's pop the stack of the caller before they look at CS (APM Vol. 3, RETF): it may fault first, and even where RPL is below CPL.
  if (cpu.machine.features.vendor === 'amd' && (pointer.selector & 3) !== cpu.cpl) {
    peekStack(cpu, 2, operandBytes, popped)
  }
  const target = returnTarget(cpu, pointer)
  if (target.level === cpu.cpl) {
    const top = movedPointer(currentStack(cpu), popped)
    enterCode(cpu, target)
    setStackPointer(cpu, top)
    return
  }
  const [low, high, selector] = peekStack(cpu, 2, operandBytes, popped)
  const stack = returnStack(cpu, selector! & 0xffff, target)
  enterCode(cpu, target)
  cpu.loadSegment(Segment.SS, stack)
  const pointerOfCaller: Stack = { ...currentStack(cpu), high: high!, low: low! }
  setStackPointer(cpu, movedPointer(pointerOfCaller, release))
  dropInnerSegments(cpu, target.level)
}

/**
 * The code segment that a return goes to: one of the level that its RPL says, which is not below the current one (SDM Vol. 2, RET and IRET). Throws #GP and #NP.
 */
export function returnTarget(cpu: Cpu, { selector, offset }: FarPointer): Target {
  if (isNull(selector)) throw selectorFault(cpu, '#GP', 0)
  const code = selector & 0xfffc
  const descriptor = readDescriptor(cpu, selector)
  const level = (selector & 3) as PrivilegeLevel
  const privilege = privilegeOf(descriptor)
  if (
    !isCode(descriptor) ||
    level < cpu.cpl ||
    (isConforming(descriptor) ? privilege > level : privilege !== level) ||
    isAmbiguousCode(cpu, descriptor)
  ) {
    throw selectorFault(cpu, '#GP', code)
  }
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  return { selector, descriptor, level, offset: checkedOffset(cpu, descriptor, offset) }
}

/** The stack segment of the level that a return goes to; null is allowed for 64-bit code that is not a user's. */
export function returnStack(
  cpu: Cpu,
  selector: number,
  { descriptor, level }: { readonly descriptor: Descriptor; readonly level: PrivilegeLevel },
): SegmentRegister {
  if (!isNull(selector)) {
    return checkedStackSegment(cpu, selector, { level, mnemonic: '#GP', external: 0 })
  }
  if (!isLongCode(cpu, descriptor) || level === 3) throw selectorFault(cpu, '#GP', 0)
  return nullSegment(selector)
}

/** Goes to a target: CS, the privilege level, and RIP. */
export function enterCode(cpu: Cpu, { selector, descriptor, level, offset }: Target): void {
  const segment = accessed(cpu, (selector & 0xfffc) | level, descriptor)
  cpu.loadSegment(Segment.CS, segment)
  if (cpu.cpl !== level) cpu.cpl = level
  cpu.rip = offset
}

/** JMP and its like in real-address mode. */
export function jumpInRealMode(cpu: Cpu, { selector, offset }: FarPointer): void {
  const segment = realModeSegment(selector, cpu.segments[Segment.CS]!)
  if (offset > BigInt(segment.limit)) throw outsideLimit(cpu, offset)
  cpu.loadSegment(Segment.CS, segment)
  cpu.rip = offset
}

/** Whether a code segment is a 64-bit one. */
function isLongCode(cpu: Cpu, { high }: Descriptor): boolean {
  return isIa32e(cpu) && (high & SegmentRights.Long) !== 0
}

/** CS and RIP as they are pushed, as halves. */
function returnPointer(cpu: Cpu, returnRip: bigint): number[] {
  return [cpu.cs, 0, lowHalf(returnRip), highHalf(returnRip)]
}

function jumpTarget(cpu: Cpu, pointer: FarPointer): Target {
  const { selector, offset } = pointer
  if (isNull(selector)) throw selectorFault(cpu, '#GP', 0)
  const descriptor = readDescriptor(cpu, selector)
  if (systemType(descriptor) === undefined) return directTarget(cpu, selector, descriptor, offset)
  const target = gateTarget(cpu, selector, descriptor)
  // A jump does not change the level, whatever the segment's is.
  if (!isConforming(target.descriptor) && privilegeOf(target.descriptor) !== cpu.cpl) {
    throw selectorFault(cpu, '#GP', target.selector & 0xfffc)
  }
  return target
}

function callTarget(cpu: Cpu, pointer: FarPointer, operandBytes: OperandBytes): GateTarget {
  const { selector, offset } = pointer
  if (isNull(selector)) throw selectorFault(cpu, '#GP', 0)
  const descriptor = readDescriptor(cpu, selector)
  if (systemType(descriptor) !== undefined) return gateTarget(cpu, selector, descriptor)
  const target = directTarget(cpu, selector, descriptor, offset)
  return { ...target, operandBytes, parameters: 0 }
}

/** A code segment of the current level, or a conforming one that is no less privileged. */
function directTarget(cpu: Cpu, selector: number, descriptor: Descriptor, offset: bigint): Target {
  const { cpl } = cpu
  const code = selector & 0xfffc
  const privilege = privilegeOf(descriptor)
  const isAllowed = isConforming(descriptor)
    ? privilege <= cpl
    : (selector & 3) <= cpl && privilege === cpl
  if (!isCode(descriptor) || !isAllowed || isAmbiguousCode(cpu, descriptor)) {
    throw selectorFault(cpu, '#GP', code)
  }
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  return { selector, descriptor, level: cpl, offset: checkedOffset(cpu, descriptor, offset) }
}

/** What a call gate leads to (SDM Vol. 3, 5.8.3). */
function gateTarget(cpu: Cpu, gateSelector: number, gate: Descriptor): GateTarget {
  const { cpl } = cpu
  const isLong = isIa32e(cpu)
  const type = systemType(gate)
  const isGate = type === SystemType.CallGate || (type === SystemType.CallGate16 && !isLong)
  const gateCode = gateSelector & 0xfffc
  if (!isGate) throw refusedSystemSegment(cpu, gateCode, type!)
  const gatePrivilege = privilegeOf(gate)
  if (gatePrivilege < cpl || (gateSelector & 3) > gatePrivilege) {
    throw selectorFault(cpu, '#GP', gateCode)
  }
  const second = isLong ? readSecondHalf(cpu, gate) : { low: 0, high: 0 }
  if ((second.high & 0x1f00) !== 0) throw selectorFault(cpu, '#GP', gateCode)
  if (!isPresent(gate)) throw selectorFault(cpu, '#NP', gateCode)
  const selector = gate.low >>> 16
  if (isNull(selector)) throw selectorFault(cpu, '#GP', 0)
  const code = selector & 0xfffc
  const descriptor = readDescriptor(cpu, selector)
  const privilege = privilegeOf(descriptor)
  const isUsable = !isLong || (isLongCode(cpu, descriptor) && !isAmbiguousCode(cpu, descriptor))
  if (!isCode(descriptor) || privilege > cpl || !isUsable) throw selectorFault(cpu, '#GP', code)
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  const is16Bit = type === SystemType.CallGate16
  const low = (gate.low & 0xffff) | (is16Bit ? 0 : gate.high & 0xffff_0000)
  return {
    selector,
    descriptor,
    level: isConforming(descriptor) ? cpl : (privilege as PrivilegeLevel),
    offset: checkedOffset(cpu, descriptor, joinHalves(second.low, low)),
    operandBytes: isLong ? 8 : is16Bit ? 2 : 4,
    parameters: isLong ? 0 : gate.high & CALL_GATE_PARAMETERS,
  }
}

function refusedSystemSegment(cpu: Cpu, code: number, type: number): Error {
  const isTask =
    type === SystemType.TaskGate ||
    type === SystemType.AvailableTss ||
    type === SystemType.AvailableTss16
  if (!isTask || isIa32e(cpu)) return selectorFault(cpu, '#GP', code)
  return new CoreError('CORE_NOT_MODELLED', {
    expected: 'a code segment or a call gate',
    found: `a task switch by selector 0x${code.toString(16)}`,
  })
}

function callInnerLevel(cpu: Cpu, target: GateTarget, returnWords: readonly number[]): void {
  const { level, operandBytes, parameters } = target
  const slot = TSS_RSP0 + level * 8
  const now = currentStack(cpu)
  const copied = peekStack(cpu, parameters, operandBytes)
  const parameterWords: number[] = []
  for (let index = copied.length - 2; index >= 0; index -= 2) {
    parameterWords.push(copied[index]!, copied[index + 1]!)
  }
  const words = [cpu.ss, 0, now.low, now.high, ...parameterWords, ...returnWords]
  let stack: Stack
  let segment: SegmentRegister
  if (isIa32e(cpu)) {
    segment = nullSegment(level)
    const low = readTaskWord(cpu, slot, 0)
    const high = readTaskWord(cpu, slot + 4, 0)
    stack = { segment, high, low, pointerBytes: 8, user: false, limitCode: 0 }
  } else {
    const low = readTaskWord(cpu, slot, 0)
    const selector = readTaskWord(cpu, slot + 4, 0) & 0xffff
    if (isNull(selector)) throw selectorFault(cpu, '#TS', 0)
    segment = checkedStackSegment(cpu, selector, { level, mnemonic: '#TS', external: 0 })
    const pointerBytes = pointerBytesOf(segment)
    stack = { segment, high: 0, low, pointerBytes, user: false, limitCode: selector & 0xfffc }
  }
  const top = pushOn(cpu, stack, words, operandBytes, { implicit: true })
  enterCode(cpu, target)
  cpu.loadSegment(Segment.SS, segment)
  setStackPointer(cpu, top)
}

/** An offset that can be gone to: within the limit, or in 64-bit code canonical; else #GP(0). */
function checkedOffset(cpu: Cpu, descriptor: Descriptor, offset: bigint): bigint {
  if (isLongCode(cpu, descriptor)) {
    if (!isCanonical(offset, cpu.mode.linearBits === 57 ? 57 : 48)) throw outsideLimit(cpu, offset)
    return offset
  }
  const short = BigInt.asUintN(32, offset)
  if (short > BigInt(limitOf(descriptor))) throw outsideLimit(cpu, short)
  return short
}

function outsideLimit(cpu: Cpu, offset: bigint): GeneralProtection {
  return cpu.raise(
    (site) => new GeneralProtection('a far transfer leads outside of its segment', offset, site),
  )
}
