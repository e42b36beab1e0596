import { Register } from 'iced-x86'

import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { fromInteger, widen } from '../../floating-point/conversion.ts'
import { exactly } from '../../floating-point/environment.ts'
import { DOUBLE, EXTENDED, SINGLE, unpack } from '../../floating-point/format.ts'
import { join } from '../../halves.ts'
import { RegisterStack } from '../../x87/register-stack.ts'
import { raisePending, requireX87 } from '../sse/availability.ts'

/** What an instruction does, once it is known that it may. */
export type X87Body = (stack: RegisterStack, execution: Execution, general: Int32Array) => void

/** An instruction that waits for pending exceptions, and is noted as the last one, with the address of its memory operand. */
export function arithmeticInstruction(decoded: DecodedInstruction, body: X87Body): Operation {
  const memory = hasMemory(decoded) ? decoded.memory : undefined
  return (general, execution) => {
    requireX87(execution)
    raisePending(execution)
    const state = execution.cpu.floatingPoint
    const stack = new RegisterStack(state)
    const { rip } = execution
    body(stack, execution, general)
    state.lastInstruction = rip
    if (memory !== undefined) {
      const low = execution.address(general, memory)
      state.lastData = join(execution.addressHigh, low)
    }
  }
}

/** An instruction that changes control state alone, and is not noted. `waits` is clear for those whose name begins with FN. */
export function controlInstruction(
  body: X87Body,
  { waits }: { readonly waits: boolean },
): Operation {
  return (general, execution) => {
    requireX87(execution)
    if (waits) raisePending(execution)
    body(new RegisterStack(execution.cpu.floatingPoint), execution, general)
  }
}

function hasMemory(decoded: DecodedInstruction): boolean {
  for (let operand = 0; operand < decoded.operands; operand++) {
    if (decoded.isMemory(operand)) return true
  }
  return false
}

/** The i of an operand ST(i). */
export function stackIndex(decoded: DecodedInstruction, operand: number): number {
  return decoded.instruction.opRegister(operand) - Register.ST0
}

/** A number in memory as an extended one; `isDenormal` says that it was one in its own format, which an operation on it may have to report. */
export interface MemoryNumber {
  readonly bits: bigint
  readonly isDenormal: boolean
}

export type ReadNumber = (general: Int32Array, execution: Execution) => MemoryNumber

/** Reads a memory operand of 4 or 8 bytes that is a floating-point number; a signalling NaN stays one. */
export function floatReader(decoded: DecodedInstruction): ReadNumber {
  const { memory, memoryBytes } = decoded
  const format = memoryBytes === 4 ? SINGLE : DOUBLE
  return (general, execution) => {
    const low = execution.address(general, memory)
    const bits =
      memoryBytes === 4
        ? BigInt(execution.load32(execution.addressHigh, low) >>> 0)
        : join64(execution.load64(execution.addressHigh, low), execution)
    return { bits: widen(format, bits), isDenormal: unpack(format, bits).kind === 'denormal' }
  }
}

/** Reads a memory operand of 2, 4 or 8 bytes that is a signed integer. */
export function integerReader(decoded: DecodedInstruction): ReadNumber {
  const { memory, memoryBytes } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const value =
      memoryBytes === 2
        ? BigInt((execution.load16(high, low) << 16) >> 16)
        : memoryBytes === 4
          ? BigInt(execution.load32(high, low))
          : BigInt.asIntN(64, join64(execution.load64(high, low), execution))
    return { bits: fromInteger(EXTENDED, value, exactly()), isDenormal: false }
  }
}

/** The unsigned number whose low half a 64-bit load has returned. */
export function join64(low: number, { high }: Execution): bigint {
  return join(high, low)
}
