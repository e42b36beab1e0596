import type { FloatingPointState } from '@trapdoor/core'

import { EXTENDED, unpack } from '../floating-point/format.ts'
import { RegisterStack } from './register-stack.ts'

/** Words of an environment: FCW, FSW, the tags, and the pointers in four of them. */
export const ENVIRONMENT_WORDS = 7
/** Bits of FCW that software can change; bit 6 reads as set. */
const FCW_BITS = 0x1f3f
const FCW_FIXED = 0x40
const FOP_BITS = 0x7ff

/** How FNSTENV and FNSAVE lay the environment out (SDM Vol. 1, figures 8-9 to 8-12). */
export interface EnvironmentFormat {
  /** 2 with an operand of 16 bits, else 4. */
  readonly wordBytes: 2 | 4
  /** Real-address mode has linear addresses where protected mode has selectors and offsets. */
  readonly isReal: boolean
}

/** The words of an environment. Selectors are 0, as processors since Haswell store them (SDM Vol. 1, 8.1.8). */
export function environmentWords(
  state: FloatingPointState,
  { wordBytes, isReal }: EnvironmentFormat,
): number[] {
  const upper = wordBytes === 4 ? 0xffff_0000 : 0
  const controls = [state.controlWord, state.statusWord, fullTags(state)].map(
    (word) => word | upper,
  )
  const instruction = Number(BigInt.asUintN(32, state.lastInstruction))
  const data = Number(BigInt.asUintN(32, state.lastData))
  if (isReal) {
    const pointer = (address: number): number =>
      wordBytes === 4 ? (address >>> 16) << 12 : (address >>> 4) & 0xf000
    return [
      ...controls,
      (instruction & 0xffff) | upper,
      pointer(instruction) | state.lastOpcode,
      (data & 0xffff) | upper,
      pointer(data),
    ]
  }
  return wordBytes === 4
    ? [...controls, instruction | 0, state.lastOpcode << 16, data | 0, upper | 0]
    : [...controls, instruction & 0xffff, 0, data & 0xffff, 0]
}

/** Takes an environment over from its words. */
export function takeEnvironment(
  state: FloatingPointState,
  words: readonly number[],
  { wordBytes, isReal }: EnvironmentFormat,
): void {
  state.statusWord = words[1]! & 0xffff
  state.tags = 0
  for (let register = 0; register < 8; register++) {
    if (((words[2]! >> (register * 2)) & 3) !== 3) state.tags |= 1 << register
  }
  const address = (offset: number, rest: number): bigint => {
    if (!isReal) return BigInt(offset >>> 0)
    const upper = wordBytes === 4 ? ((rest >>> 12) & 0xffff) << 16 : (rest & 0xf000) << 4
    return BigInt(((offset & 0xffff) | upper) >>> 0)
  }
  state.lastInstruction = address(words[3]!, words[4]!)
  state.lastData = address(words[5]!, words[6]!)
  state.lastOpcode = isReal ? words[4]! & FOP_BITS : (words[4]! >>> 16) & FOP_BITS
  setControlWord(state, words[0]!)
}

/** Loads FCW, as far as it has bits: exceptions that are not masked any more are pending. */
export function setControlWord(state: FloatingPointState, value: number): void {
  state.controlWord = (value & FCW_BITS) | FCW_FIXED
  new RegisterStack(state).summarise()
}

/** Two bits for each of R0 to R7: valid, zero, special, empty (SDM Vol. 1, 8.1.7). */
function fullTags(state: FloatingPointState): number {
  const stack = new RegisterStack(state)
  let tags = 0
  for (let at = 0; at < 8; at++) {
    const register = (stack.top + at) & 7
    tags |= (stack.isEmpty(at) ? 3 : tagOf(stack.read(at))) << (register * 2)
  }
  return tags
}

function tagOf(bits: bigint): number {
  const { kind } = unpack(EXTENDED, bits)
  return kind === 'finite' ? 0 : kind === 'zero' ? 1 : 2
}
