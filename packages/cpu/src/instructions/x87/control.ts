import { Gpr } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { EXTENDED, unpack } from '../../floating-point/format.ts'
import { reader, writer } from '../../operands.ts'
import { Fsw, type RegisterStack } from '../../x87/register-stack.ts'
import { raisePending, requireWait } from '../sse/availability.ts'
import { probeForWrite } from '../sse/operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import {
  arithmeticInstruction,
  controlInstruction,
  stackIndex,
  type X87Body,
} from './instruction.ts'

const EXCEPTIONS = 0xff
const ALL_MASKED = 0x3f
const AX_WORD = Gpr.RAX * 2
/** Bits of FCW that software can change; bit 6 reads as set. */
const FCW_BITS = 0x1f3f
const FCW_FIXED = 0x40
/** Bytes of the environment in 32-bit format, which 64-bit mode has too, and of what FNSAVE stores. */
const ENVIRONMENT_BYTES = 28
const STATE_BYTES = ENVIRONMENT_BYTES + 80

/** Instructions on the x87 itself: control and status words, environment, stack (SDM Vol. 2). */
export const X87_CONTROL: InstructionFamily = {
  name: 'x87 control',
  translators: new Map<Mnemonic, Translator>([
    ...both(Mnemonic.Fninit, Mnemonic.Finit, () => initialise),
    ...both(Mnemonic.Fnclex, Mnemonic.Fclex, () => clearExceptions),
    ...both(Mnemonic.Fnstcw, Mnemonic.Fstcw, (decoded) =>
      storeWord(decoded, ({ state }) => state.controlWord),
    ),
    ...both(Mnemonic.Fnstsw, Mnemonic.Fstsw, (decoded) =>
      storeWord(decoded, ({ state }) => state.statusWord),
    ),
    ...both(Mnemonic.Fnstenv, Mnemonic.Fstenv, storeEnvironment),
    ...both(Mnemonic.Fnsave, Mnemonic.Fsave, storeState),
    [Mnemonic.Fldcw, loadControlWord],
    [Mnemonic.Fldenv, loadEnvironment],
    [Mnemonic.Frstor, loadState],
    [Mnemonic.Wait, wait],
    [Mnemonic.Fnop, (decoded) => arithmeticInstruction(decoded, () => undefined)],
    [Mnemonic.Ffree, free],
    [Mnemonic.Fincstp, (decoded) => moveTop(decoded, 1)],
    [Mnemonic.Fdecstp, (decoded) => moveTop(decoded, -1)],
  ]),
}

/** An instruction that does not wait, and the same with WAIT before it, which assemblers and iced-x86 have as one. */
function both(
  plain: Mnemonic,
  waiting: Mnemonic,
  bodyOf: (decoded: DecodedInstruction) => X87Body | undefined,
): (readonly [Mnemonic, Translator])[] {
  const translator =
    (waits: boolean): Translator =>
    (decoded) => {
      const body = bodyOf(decoded)
      return body === undefined ? undefined : controlInstruction(body, { waits })
    }
  return [
    [plain, translator(false)],
    [waiting, translator(true)],
  ]
}

function initialise({ state }: RegisterStack): void {
  state.controlWord = 0x37f
  state.statusWord = 0
  state.tags = 0
  state.lastOpcode = 0
  state.lastInstruction = 0n
  state.lastData = 0n
}

function clearExceptions({ state }: RegisterStack): void {
  state.statusWord &= ~(EXCEPTIONS | Fsw.Busy)
}

function storeWord(decoded: DecodedInstruction, word: (stack: RegisterStack) => number): X87Body {
  if (!decoded.isMemory(0)) {
    return (stack, _execution, general) => {
      general[AX_WORD] = (general[AX_WORD]! & ~0xffff) | word(stack)
    }
  }
  const write = writer(decoded, 0, 2)
  return (stack, execution, general) => {
    write(general, execution, word(stack))
  }
}

function loadControlWord(decoded: DecodedInstruction): ReturnType<Translator> {
  const read = reader(decoded, 0, 2)
  return controlInstruction(
    (stack, execution, general) => {
      setControlWord(stack, read(general, execution))
    },
    { waits: true },
  )
}

function setControlWord(stack: RegisterStack, value: number): void {
  stack.state.controlWord = (value & FCW_BITS) | FCW_FIXED
  stack.summarise()
}

function wait(): ReturnType<Translator> {
  return (_general, execution) => {
    requireWait(execution)
    raisePending(execution)
  }
}

function free(decoded: DecodedInstruction): ReturnType<Translator> {
  const index = stackIndex(decoded, 0)
  return arithmeticInstruction(decoded, (stack) => {
    stack.setConditions(Fsw.C1, 0)
    stack.free(index)
  })
}

function moveTop(decoded: DecodedInstruction, by: 1 | -1): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    stack.setConditions(Fsw.C1, 0)
    stack.top = stack.top + by
  })
}

/** FNSTENV: then all exceptions are masked. The format of 16 bits is not there. */
function storeEnvironment(decoded: DecodedInstruction): X87Body | undefined {
  const { memory } = decoded
  if (decoded.memoryBytes !== ENVIRONMENT_BYTES) return undefined
  return (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    probeForWrite(execution, high, low, ENVIRONMENT_BYTES)
    storeWords(execution, high, low, environmentWords(stack))
    stack.state.controlWord |= ALL_MASKED
    stack.summarise()
  }
}

/** FNSAVE: the environment and the registers, and the x87 is initialised. */
function storeState(decoded: DecodedInstruction): X87Body | undefined {
  const { memory } = decoded
  if (decoded.memoryBytes !== STATE_BYTES) return undefined
  return (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    probeForWrite(execution, high, low, STATE_BYTES)
    const bytes = new Uint8Array(80)
    const view = new DataView(bytes.buffer)
    for (let at = 0; at < 8; at++) {
      const value = stack.read(at)
      view.setBigUint64(at * 10, BigInt.asUintN(64, value), true)
      view.setUint16(at * 10 + 8, Number(value >> 64n), true)
    }
    const words = [...environmentWords(stack), ...new Int32Array(bytes.buffer)]
    storeWords(execution, high, low, words)
    initialise(stack)
  }
}

/** FCW, FSW and full tags, then FIP, FOP with the selector of CS, FDP and the selector of DS. */
function environmentWords(stack: RegisterStack): number[] {
  const { state } = stack
  return [
    0xffff_0000 | state.controlWord,
    0xffff_0000 | state.statusWord,
    0xffff_0000 | fullTags(stack),
    Number(BigInt.asIntN(32, state.lastInstruction)),
    state.lastOpcode << 16,
    Number(BigInt.asIntN(32, state.lastData)),
    0xffff_0000,
  ].map((word) => word | 0)
}

/** Two bits for each of R0 to R7: valid, zero, special, empty (SDM Vol. 1, 8.1.7). */
function fullTags(stack: RegisterStack): number {
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

function loadEnvironment(decoded: DecodedInstruction): ReturnType<Translator> {
  const { memory } = decoded
  if (decoded.memoryBytes !== ENVIRONMENT_BYTES) return undefined
  return controlInstruction(
    (stack, execution, general) => {
      const low = execution.address(general, memory)
      const words = loadWords(execution, execution.addressHigh, low, ENVIRONMENT_BYTES / 4)
      takeEnvironment(stack, words)
    },
    { waits: true },
  )
}

function loadState(decoded: DecodedInstruction): ReturnType<Translator> {
  const { memory } = decoded
  if (decoded.memoryBytes !== STATE_BYTES) return undefined
  return controlInstruction(
    (stack, execution, general) => {
      const low = execution.address(general, memory)
      const words = loadWords(execution, execution.addressHigh, low, STATE_BYTES / 4)
      const view = new DataView(Int32Array.from(words).buffer, ENVIRONMENT_BYTES)
      takeEnvironment(stack, words)
      const { tags } = stack.state
      for (let at = 0; at < 8; at++) {
        const upper = BigInt(view.getUint16(at * 10 + 8, true))
        stack.write(at, (upper << 64n) | view.getBigUint64(at * 10, true))
      }
      stack.state.tags = tags
    },
    { waits: true },
  )
}

function takeEnvironment(stack: RegisterStack, words: readonly number[]): void {
  const { state } = stack
  state.statusWord = words[1]! & 0xffff
  state.tags = 0
  for (let register = 0; register < 8; register++) {
    if (((words[2]! >> (register * 2)) & 3) !== 3) state.tags |= 1 << register
  }
  state.lastInstruction = BigInt(words[3]! >>> 0)
  state.lastOpcode = (words[4]! >>> 16) & 0x7ff
  state.lastData = BigInt(words[5]! >>> 0)
  setControlWord(stack, words[0]! & 0xffff)
}

function storeWords(
  execution: Execution,
  high: number,
  low: number,
  words: readonly number[],
): void {
  for (const [at, word] of words.entries()) {
    const place = (low + at * 4) | 0
    execution.store32(place >>> 0 < low >>> 0 ? (high + 1) | 0 : high, place, word)
  }
}

function loadWords(execution: Execution, high: number, low: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => {
    const place = (low + at * 4) | 0
    return execution.load32(place >>> 0 < low >>> 0 ? (high + 1) | 0 : high, place)
  })
}
