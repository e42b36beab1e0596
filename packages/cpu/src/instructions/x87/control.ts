import { Gpr, isRealMode } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { reader, writer } from '../../operands.ts'
import {
  ENVIRONMENT_WORDS,
  type EnvironmentFormat,
  environmentWords,
  setControlWord,
  takeEnvironment,
} from '../../x87/environment-image.ts'
import { Fsw, type RegisterStack } from '../../x87/register-stack.ts'
import { initialiseX87Controls } from '../../x87/state-image.ts'
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
/** Instructions on the x87 itself: control and status words, environment, stack (SDM Vol. 2). */
export const X87_CONTROL: InstructionFamily = {
  name: 'x87 control',
  translators: new Map<Mnemonic, Translator>([
    ...both(Mnemonic.Fninit, Mnemonic.Finit, () => ({ state }) => {
      initialiseX87Controls(state)
    }),
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
  bodyOf: (decoded: DecodedInstruction) => X87Body,
): (readonly [Mnemonic, Translator])[] {
  const translator =
    (waits: boolean): Translator =>
    (decoded) =>
      controlInstruction(bodyOf(decoded), { waits })
  return [
    [plain, translator(false)],
    [waiting, translator(true)],
  ]
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
      setControlWord(stack.state, read(general, execution))
    },
    { waits: true },
  )
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

/** Bytes of ST(0) to ST(7) in the image of FNSAVE. */
const REGISTER_BYTES = 80

/** How the CPU lays an environment out for an instruction, whose operand is one, or one with the registers behind it. */
function formatOf(wordBytes: 2 | 4, { cpu }: Execution): EnvironmentFormat {
  return { wordBytes, isReal: isRealMode(cpu) }
}

/** FNSTENV: then all exceptions are masked. */
function storeEnvironment(decoded: DecodedInstruction): X87Body {
  const { memory } = decoded
  const wordBytes = decoded.memoryBytes === ENVIRONMENT_WORDS * 2 ? 2 : 4
  return (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    probeForWrite(execution, high, low, ENVIRONMENT_WORDS * wordBytes)
    const words = environmentWords(stack.state, formatOf(wordBytes, execution))
    storeWords(execution, { high, low, wordBytes }, words)
    stack.state.controlWord |= ALL_MASKED
    stack.summarise()
  }
}

/** FNSAVE: the environment and the registers, and the x87 is initialised. */
function storeState(decoded: DecodedInstruction): X87Body {
  const { memory } = decoded
  const wordBytes = decoded.memoryBytes === ENVIRONMENT_WORDS * 2 + REGISTER_BYTES ? 2 : 4
  return (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    probeForWrite(execution, high, low, ENVIRONMENT_WORDS * wordBytes + REGISTER_BYTES)
    const bytes = new DataView(new ArrayBuffer(REGISTER_BYTES))
    for (let at = 0; at < 8; at++) {
      const value = stack.read(at)
      bytes.setBigUint64(at * 10, BigInt.asUintN(64, value), true)
      bytes.setUint16(at * 10 + 8, Number(value >> 64n), true)
    }
    const registers = wordBytes === 4 ? new Int32Array(bytes.buffer) : new Uint16Array(bytes.buffer)
    const environment = environmentWords(stack.state, formatOf(wordBytes, execution))
    storeWords(execution, { high, low, wordBytes }, [...environment, ...registers])
    initialiseX87Controls(stack.state)
  }
}

function loadEnvironment(decoded: DecodedInstruction): ReturnType<Translator> {
  const { memory } = decoded
  const wordBytes = decoded.memoryBytes === ENVIRONMENT_WORDS * 2 ? 2 : 4
  return controlInstruction(
    ({ state }, execution, general) => {
      const low = execution.address(general, memory)
      const place = { high: execution.addressHigh, low, wordBytes } as const
      const words = loadWords(execution, place, ENVIRONMENT_WORDS)
      takeEnvironment(state, words, formatOf(wordBytes, execution))
    },
    { waits: true },
  )
}

function loadState(decoded: DecodedInstruction): ReturnType<Translator> {
  const { memory } = decoded
  const wordBytes = decoded.memoryBytes === ENVIRONMENT_WORDS * 2 + REGISTER_BYTES ? 2 : 4
  return controlInstruction(
    (stack, execution, general) => {
      const low = execution.address(general, memory)
      const place = { high: execution.addressHigh, low, wordBytes } as const
      const count = ENVIRONMENT_WORDS + REGISTER_BYTES / wordBytes
      const words = loadWords(execution, place, count)
      const registers = words.slice(ENVIRONMENT_WORDS)
      const { buffer } = wordBytes === 4 ? Int32Array.from(registers) : Uint16Array.from(registers)
      const view = new DataView(buffer)
      takeEnvironment(stack.state, words, formatOf(wordBytes, execution))
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

/** Where words lie, and how wide they are. */
interface Place {
  readonly high: number
  readonly low: number
  readonly wordBytes: 2 | 4
}

function storeWords(
  execution: Execution,
  { high, low, wordBytes }: Place,
  words: readonly number[],
): void {
  for (const [at, word] of words.entries()) {
    const place = (low + at * wordBytes) | 0
    const placeHigh = place >>> 0 < low >>> 0 ? (high + 1) | 0 : high
    if (wordBytes === 4) execution.store32(placeHigh, place, word)
    else execution.store16(placeHigh, place, word)
  }
}

function loadWords(execution: Execution, { high, low, wordBytes }: Place, count: number): number[] {
  return Array.from({ length: count }, (_, at) => {
    const place = (low + at * wordBytes) | 0
    const placeHigh = place >>> 0 < low >>> 0 ? (high + 1) | 0 : high
    return wordBytes === 4 ? execution.load32(placeHigh, place) : execution.load16(placeHigh, place)
  })
}
