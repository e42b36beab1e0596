import type { Cpu } from '@trapdoor/core'
import { Register } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { MemoryOperand } from '../../decode/memory-operand.ts'
import type { Execution } from '../../execution.ts'
import type { Vector } from '../../vector/vector.ts'
import { requireMmx, requireSse } from './availability.ts'

/** How a vector register or memory is read into a vector, whose bytes above the operand's are then 0. */
export type ReadVector = (general: Int32Array, execution: Execution, into: Vector) => void

/** Which alignment a memory operand must have, in bytes. */
export type Alignment = 1 | 16

const EXPONENT_OF_MMX = 0xffff
const ALL_TAGS = 0xff
const TOP = 0x3800

/** The number of an XMM register that an operand is, or undefined. */
export function xmmNumber(decoded: DecodedInstruction, operand: number): number | undefined {
  if (!decoded.isRegister(operand)) return undefined
  const register = decoded.instruction.opRegister(operand)
  return register >= Register.XMM0 && register <= Register.XMM15
    ? register - Register.XMM0
    : undefined
}

/** The number of an MMX register that an operand is, or undefined. */
export function mmxNumber(decoded: DecodedInstruction, operand: number): number | undefined {
  if (!decoded.isRegister(operand)) return undefined
  const register = decoded.instruction.opRegister(operand)
  return register >= Register.MM0 && register <= Register.MM7 ? register - Register.MM0 : undefined
}

/** Whether an instruction has an MMX register, so that x87 state is involved. */
function usesMmx(decoded: DecodedInstruction): boolean {
  return Array.from({ length: decoded.operands }, (_, operand) => operand).some(
    (operand) => mmxNumber(decoded, operand) !== undefined,
  )
}

/** What has to be checked before an instruction: it is an MMX one, or an SSE one. */
export function availability(decoded: DecodedInstruction): (execution: Execution) => void {
  return usesMmx(decoded) ? requireMmx : requireSse
}

/** Reads a vector register or a memory operand of up to 16 bytes. A register gives all its bytes. */
export function vectorReader(
  decoded: DecodedInstruction,
  operand: number,
  alignment: Alignment,
): ReadVector {
  const xmm = xmmNumber(decoded, operand)
  if (xmm !== undefined) {
    return (_general, { cpu }, into) => {
      readXmm(cpu.floatingPoint.xmm, xmm, into)
    }
  }
  const mmx = mmxNumber(decoded, operand)
  if (mmx !== undefined) {
    return (_general, { cpu }, into) => {
      const { registers } = cpu.floatingPoint
      into.words[0] = registers[mmx * 4]!
      into.words[1] = registers[mmx * 4 + 1]!
      into.words[2] = 0
      into.words[3] = 0
    }
  }
  const { memory, memoryBytes } = decoded
  return (general, execution, into) => {
    loadVector(general, execution, { memory, bytes: memoryBytes, alignment }, into)
  }
}

export function readXmm(xmm: Int32Array, number: number, into: Vector): void {
  const { words } = into
  const at = number * 4
  words[0] = xmm[at]!
  words[1] = xmm[at + 1]!
  words[2] = xmm[at + 2]!
  words[3] = xmm[at + 3]!
}

export function writeXmm(xmm: Int32Array, number: number, from: Vector): void {
  xmm.set(from.words, number * 4)
}

/** Writes an MMX register. An MMX instruction makes all x87 registers valid, and R0 the top of the stack (SDM Vol. 3, 12.2). */
export function writeMmx({ cpu }: Execution, number: number, low: number, high: number): void {
  const { registers } = cpu.floatingPoint
  registers[number * 4] = low
  registers[number * 4 + 1] = high
  registers[number * 4 + 2] = EXPONENT_OF_MMX
}

/** Whether a CPU goes over from the x87 to MMX as AMD's processors before Zen 4 do: CVTPI2PS does so with an operand in memory, too, and EMMS leaves the top of the stack alone. */
export function hasEarlyMmx({ machine: { features } }: Cpu): boolean {
  return features.vendor === 'amd' && features.name !== 'zen4' && features.name !== 'zen5'
}

/** What every MMX instruction but EMMS does to the x87 state, whether it writes a register or not. */
export function enterMmxState({ cpu }: Execution): void {
  const state = cpu.floatingPoint
  state.statusWord &= ~TOP
  state.tags = ALL_TAGS
}

interface MemoryVector {
  readonly memory: MemoryOperand
  /** 2, 4, 8 or 16. */
  readonly bytes: number
  readonly alignment: Alignment
}

/** Loads a memory operand. One that is not aligned as it has to be is #GP(0). */
export function loadVector(
  general: Int32Array,
  execution: Execution,
  { memory, bytes, alignment }: MemoryVector,
  { words }: Vector,
): void {
  const low = execution.address(general, memory)
  const high = execution.addressHigh
  checkAlignment(execution, low, alignment)
  words[1] = 0
  words[2] = 0
  words[3] = 0
  if (bytes === 2) words[0] = execution.load16(high, low)
  else if (bytes === 4) words[0] = execution.load32(high, low)
  else {
    words[0] = execution.load64(high, low)
    words[1] = execution.high
    if (bytes === 8) return
    const next = (low + 8) | 0
    words[2] = execution.load64(next >>> 0 < low >>> 0 ? (high + 1) | 0 : high, next)
    words[3] = execution.high
  }
}

/** Stores the low bytes of a vector; all of them or, where one of two pages refuses, none. */
export function storeVector(
  general: Int32Array,
  execution: Execution,
  { memory, bytes, alignment }: MemoryVector,
  { words }: Vector,
): void {
  const low = execution.address(general, memory)
  const high = execution.addressHigh
  checkAlignment(execution, low, alignment)
  if (bytes === 4) execution.store32(high, low, words[0]!)
  else if (bytes === 8) execution.store64(high, low, words[0]!, words[1]!)
  else storeWords(execution, high, low, words)
}

/** Stores words at an address, all of them or none; at least two pages have to be looked at where they lie across them. */
export function storeWords(
  execution: Execution,
  high: number,
  low: number,
  words: Int32Array,
): void {
  const bytes = words.length * 4
  if ((low & 4095) + bytes > 4096) probeForWrite(execution, high, low, bytes)
  let [atLow, atHigh] = [low, high]
  for (let word = 0; word < words.length; word += 2) {
    execution.store64(atHigh, atLow, words[word]!, words[word + 1]!)
    const next = (atLow + 8) | 0
    if (next >>> 0 < atLow >>> 0) atHigh = (atHigh + 1) | 0
    atLow = next
  }
}

/** Raises what a store of so many bytes would raise, at most 4096 of them: the first page comes first. */
export function probeForWrite(
  execution: Execution,
  high: number,
  low: number,
  bytes: number,
): void {
  execution.loadToModify8(high, low)
  const last = (low + bytes - 1) | 0
  if ((last & -4096) === (low & -4096)) return
  const page = last & -4096
  execution.loadToModify8(page >>> 0 < low >>> 0 ? (high + 1) | 0 : high, page)
}

function checkAlignment(execution: Execution, low: number, alignment: Alignment): void {
  if (alignment === 1 || (low & (alignment - 1)) === 0) return
  throw execution.generalProtection(`a memory operand is not aligned to ${alignment} bytes`)
}
