import type { AccessOrigin, Cpu } from '../cpu/cpu.ts'
import { Gpr } from '../cpu/general-registers.ts'
import { joinHalves } from '../halves.ts'
import { AccessKind } from '../cpu/permission.ts'
import { Segment, type SegmentRegister, SegmentRights } from '../cpu/segment-register.ts'
import { is64BitMode, selectorFault } from './descriptor.ts'
import { highWithCarry, isPlainAccess } from './system-memory.ts'

/** Bytes of an operand of a far transfer. */
export type OperandBytes = 2 | 4 | 8

/** Where a stack is: its segment, and the halves of its pointer. In 64-bit mode the segment does not count. */
export interface Stack {
  readonly segment: SegmentRegister
  readonly high: number
  readonly low: number
  /** Bytes of the pointer: 8 in 64-bit mode, else 4 or 2 by the segment's B flag. */
  readonly pointerBytes: OperandBytes
  /** Whether its accesses are a user's. */
  readonly user: boolean
  /** Error code of #SS where the segment's limit is violated. */
  readonly limitCode: number
}

const ON_STACK: AccessOrigin = { stack: true }
const IMPLICIT_ON_STACK: AccessOrigin = { implicit: true, stack: true }

/** The stack that the CPU uses now. */
export function currentStack(cpu: Cpu): Stack {
  const segment = cpu.segments[Segment.SS]!
  return {
    segment,
    high: cpu.general[2 * Gpr.RSP + 1]!,
    low: cpu.general[2 * Gpr.RSP]!,
    pointerBytes: is64BitMode(cpu) ? 8 : pointerBytesOf(segment),
    user: cpu.cpl === 3,
    limitCode: 0,
  }
}

export function pointerBytesOf({ rights }: SegmentRegister): 2 | 4 {
  return (rights & SegmentRights.Default32) === 0 ? 2 : 4
}

/**
 * Reads `count` operands of `bytes` bytes from `offset` above the top of the current stack, as pops do, without moving the pointer. Two numbers come for each, its signed halves; what an
 * operand does not have is 0.
 */
export function peekStack(cpu: Cpu, count: number, bytes: OperandBytes, offset = 0): number[] {
  const stack = currentStack(cpu)
  const words: number[] = []
  for (let index = 0; index < count; index++) {
    const at = offset + index * bytes
    if (bytes === 2) {
      words.push(read(cpu, stack, at, 2), 0)
    } else {
      words.push(read(cpu, stack, at, 4), bytes === 8 ? read(cpu, stack, at + 4, 4) : 0)
    }
  }
  return words
}

/**
 * Writes operands below the top of a stack, the first highest, and returns the halves of the new top, which is nobody's yet. `words` holds two numbers for each, its signed halves. `implicit` says
 * that the processor pushes of itself, for an interrupt.
 */
export function pushOn(
  cpu: Cpu,
  stack: Stack,
  words: readonly number[],
  bytes: OperandBytes,
  { implicit }: { readonly implicit: boolean },
): { readonly high: number; readonly low: number } {
  let offset = 0
  for (let index = 0; index < words.length; index += 2) {
    offset -= bytes
    if (bytes === 8) {
      // The low half first: where both are refused, the fault is at the address of the operand.
      write(cpu, stack, offset, 4, words[index]!, implicit)
      write(cpu, stack, offset + 4, 4, words[index + 1]!, implicit)
    } else {
      write(cpu, stack, offset, bytes, words[index]!, implicit)
    }
  }
  return movedPointer(stack, offset)
}

/** The halves of a stack's pointer `offset` bytes away: a pointer of fewer bytes wraps, and what it does not have stays. */
export function movedPointer(
  { high, low, pointerBytes }: Stack,
  offset: number,
): { readonly high: number; readonly low: number } {
  if (pointerBytes === 2) return { high, low: (low & ~0xffff) | ((low + offset) & 0xffff) }
  if (pointerBytes === 4) return { high: 0, low: (low + offset) | 0 }
  const moved = (low + offset) | 0
  if (offset >= 0) return { high: highWithCarry(high, low, offset), low: moved }
  return { high: low >>> 0 < -offset ? (high - 1) | 0 : high, low: moved }
}

/** Sets RSP to halves. */
export function setStackPointer(
  cpu: Cpu,
  { high, low }: { readonly high: number; readonly low: number },
): void {
  cpu.general[2 * Gpr.RSP] = low
  cpu.general[2 * Gpr.RSP + 1] = high
}

function read(cpu: Cpu, stack: Stack, offset: number, size: 2 | 4): number {
  const { high, low } = linear(cpu, stack, offset, size)
  if (size === 4 && isPlainAccess(cpu, high, low)) {
    const kind = stack.user ? AccessKind.UserOffset + AccessKind.Read : AccessKind.Read
    const frame = cpu.translateHalves(high, low, kind)
    return cpu.machine.memory.readByCpu(frame * 4096 + (low & 0xfff), 4) | 0
  }
  const address = joinHalves(high, low)
  return size === 4 ? cpu.read32(address, ON_STACK) | 0 : cpu.read16(address)
}

function write(
  cpu: Cpu,
  stack: Stack,
  offset: number,
  size: 2 | 4,
  value: number,
  implicit: boolean,
): void {
  const { high, low } = linear(cpu, stack, offset, size)
  const isImplicit = implicit && !stack.user
  if (size === 4 && isPlainAccess(cpu, high, low)) {
    const kind = isImplicit
      ? AccessKind.ImplicitOffset + AccessKind.Write
      : stack.user
        ? AccessKind.UserOffset + AccessKind.Write
        : AccessKind.Write
    const frame = cpu.translateHalves(high, low, kind)
    cpu.machine.memory.writeByCpu(frame * 4096 + (low & 0xfff), 4, value)
    return
  }
  const address = joinHalves(high, low)
  const origin = isImplicit ? IMPLICIT_ON_STACK : ON_STACK
  if (size === 4) cpu.write32(address, value >>> 0, origin)
  else cpu.write16(address, value & 0xffff)
}

/** The linear address `offset` bytes from the top. */
function linear(
  cpu: Cpu,
  stack: Stack,
  offset: number,
  size: number,
): { readonly high: number; readonly low: number } {
  const pointer = movedPointer(stack, offset)
  if (stack.pointerBytes === 8) return pointer
  const { segment } = stack
  const at = stack.pointerBytes === 2 ? pointer.low & 0xffff : pointer.low >>> 0
  if (!isWithinLimit(segment, at, size)) throw selectorFault(cpu, '#SS', stack.limitCode)
  return { high: 0, low: (at + Number(BigInt.asIntN(32, segment.base))) | 0 }
}

/** Whether bytes at an offset lie in a data segment; one that expands down has its bytes above the limit (SDM Vol. 3, 5.3). */
export function isWithinLimit(segment: SegmentRegister, offset: number, size: number): boolean {
  const { limit, rights } = segment
  const last = offset + size - 1
  const expandsDown =
    (rights & SegmentRights.Code) === 0 && (rights & SegmentRights.ConformingOrExpandDown) !== 0
  if (!expandsDown) return last <= limit
  return offset > limit && last <= ((rights & SegmentRights.Default32) === 0 ? 0xffff : 0xffff_ffff)
}
