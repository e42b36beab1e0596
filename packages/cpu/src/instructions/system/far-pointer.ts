import type { FarPointer } from '@trapdoor/core'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { join } from '../../halves.ts'

/** Reads a far pointer from memory: 2, 4 or 8 bytes of offset, which on AMD's processors are 4 where they would be 8 (APM Vol. 3, CALL (Far)), and the selector behind them. */
export function readFarPointer(
  decoded: DecodedInstruction,
  operand: number,
): (general: Int32Array, execution: Execution) => FarPointer {
  if (!decoded.isMemory(operand)) throw new RangeError('a far pointer lies in memory')
  const { memory } = decoded
  const encodedBytes = farOffsetBytes(decoded)
  return (general, execution) => {
    const offsetBytes = supportedOffsetBytes(execution, encodedBytes)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const selectorLow = (low + offsetBytes) | 0
    const selectorHigh = selectorLow >>> 0 < low >>> 0 ? (high + 1) | 0 : high
    if (offsetBytes === 8) {
      const offsetLow = execution.load64(high, low)
      const offset = join(execution.high, offsetLow)
      return { offset, selector: execution.load16(selectorHigh, selectorLow) }
    }
    const offset = offsetBytes === 4 ? execution.load32(high, low) : execution.load16(high, low)
    return { offset: join(0, offset), selector: execution.load16(selectorHigh, selectorLow) }
  }
}

/** What a CPU makes of the size of an offset. */
export function supportedOffsetBytes({ cpu }: Execution, encoded: 2 | 4 | 8): 2 | 4 | 8 {
  return encoded === 8 && cpu.machine.features.vendor === 'amd' ? 4 : encoded
}

/** Bytes of the offset of the far pointer in memory. */
export function farOffsetBytes(decoded: DecodedInstruction): 2 | 4 | 8 {
  return (decoded.memoryBytes - 2) as 2 | 4 | 8
}
