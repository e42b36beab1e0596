import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { MXCSR_MASK, XMM_WORD } from '../../x87/state-image.ts'

/** #GP(0) for a bit that MXCSR does not have. */
export function checkMxcsr(execution: Execution, value: number): void {
  if ((value & ~MXCSR_MASK) === 0) return
  throw execution.generalProtection('MXCSR has no such bits', BigInt(value >>> 0))
}

/** #GP(0) for the area of a state that is not aligned to so many bytes. */
export function checkAlignment(execution: Execution, low: number, alignment: 16 | 64): void {
  if ((low & (alignment - 1)) === 0) return
  throw execution.generalProtection(`a state area is not aligned to ${alignment} bytes`)
}

/** Words of the XMM registers that a mode has. */
export function vectorWords({ bits }: DecodedInstruction): number {
  return bits === 64 ? 64 : 32
}

/** Takes the XMM registers that a mode has over from an FXSAVE image. */
export function loadVectors(
  decoded: DecodedInstruction,
  { cpu }: Execution,
  image: Int32Array,
): void {
  cpu.floatingPoint.xmm.set(image.subarray(XMM_WORD, XMM_WORD + vectorWords(decoded)))
}

/** Loads as many words as fit into `into`, an even number of them. */
export function loadWords(execution: Execution, high: number, low: number, into: Int32Array): void {
  let [atLow, atHigh] = [low, high]
  for (let word = 0; word < into.length; word += 2) {
    into[word] = execution.load64(atHigh, atLow)
    into[word + 1] = execution.high
    const next = (atLow + 8) | 0
    if (next >>> 0 < atLow >>> 0) atHigh = (atHigh + 1) | 0
    atLow = next
  }
}
