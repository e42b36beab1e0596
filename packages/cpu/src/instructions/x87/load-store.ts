import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { convertFormat, toInteger } from '../../floating-point/conversion.ts'
import {
  type FloatEnvironment,
  FloatException,
  Rounding,
} from '../../floating-point/environment.ts'
import { DOUBLE, EXTENDED, indefinite, SINGLE } from '../../floating-point/format.ts'
import { Fsw, type RegisterStack } from '../../x87/register-stack.ts'
import { probeForWrite } from '../sse/operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import {
  arithmeticInstruction,
  floatReader,
  integerReader,
  join64,
  stackIndex,
} from './instruction.ts'

/** Condition codes as instructions encode them: below, equal, below or equal, parity. */
const CONDITIONS: readonly (readonly [Mnemonic, number])[] = [
  [Mnemonic.Fcmovb, 2],
  [Mnemonic.Fcmovnb, 3],
  [Mnemonic.Fcmove, 4],
  [Mnemonic.Fcmovne, 5],
  [Mnemonic.Fcmovbe, 6],
  [Mnemonic.Fcmovnbe, 7],
  [Mnemonic.Fcmovu, 10],
  [Mnemonic.Fcmovnu, 11],
]

/** Constants with 66 bits of significand, which are rounded as RC says (SDM Vol. 2, FLD1 to FLDZ): sign and exponent, and the significand's 66 bits. */
const CONSTANTS: readonly (readonly [Mnemonic, exponent: bigint, significand: bigint])[] = [
  [Mnemonic.Fld1, 0x3fffn, 0x8000_0000_0000_0000n << 2n],
  [Mnemonic.Fldz, 0n, 0n],
  [Mnemonic.Fldl2t, 0x4000n, (0xd49a_784b_cd1b_8afen << 2n) | 1n],
  [Mnemonic.Fldl2e, 0x3fffn, (0xb8aa_3b29_5c17_f0bbn << 2n) | 3n],
  [Mnemonic.Fldpi, 0x4000n, (0xc90f_daa2_2168_c234n << 2n) | 3n],
  [Mnemonic.Fldlg2, 0x3ffdn, (0x9a20_9a84_fbcf_f798n << 2n) | 3n],
  [Mnemonic.Fldln2, 0x3ffen, (0xb172_17f7_d1cf_79abn << 2n) | 3n],
]

/** Loads, stores and moves of the x87 (SDM Vol. 2). */
export const X87_MOVES: InstructionFamily = {
  name: 'x87 moves',
  translators: new Map<Mnemonic, Translator>([
    [Mnemonic.Fld, (decoded) => (decoded.isMemory(0) ? loadFloat(decoded) : loadRegister(decoded))],
    [Mnemonic.Fild, loadInteger],
    [Mnemonic.Fst, (decoded) => store(decoded, 0)],
    [Mnemonic.Fstp, (decoded) => store(decoded, 1)],
    [Mnemonic.Fist, (decoded) => storeInteger(decoded, 0)],
    [Mnemonic.Fistp, (decoded) => storeInteger(decoded, 1)],
    [Mnemonic.Fisttp, (decoded) => storeInteger(decoded, 1, Rounding.Zero)],
    [Mnemonic.Fxch, exchange],
    ...CONDITIONS.map(
      ([mnemonic, condition]) =>
        [mnemonic, (decoded: DecodedInstruction) => moveIf(decoded, condition)] as const,
    ),
    ...CONSTANTS.map(
      ([mnemonic, exponent, significand]) =>
        [
          mnemonic,
          (decoded: DecodedInstruction) =>
            arithmeticInstruction(decoded, (stack) => {
              push(stack, rounded(stack.environment(), exponent, significand))
            }),
        ] as const,
    ),
  ]),
}

/** Pushes a number; C1 tells an overflow, and is cleared otherwise. */
function push(stack: RegisterStack, bits: bigint): void {
  stack.setConditions(Fsw.C1, 0)
  stack.push(bits)
}

function rounded({ rounding }: FloatEnvironment, exponent: bigint, significand: bigint): bigint {
  const rest = significand & 3n
  const isUp = rest !== 0n && (rounding === Rounding.Nearest ? rest > 2n : rounding === Rounding.Up)
  return (exponent << 64n) | ((significand >> 2n) + (isUp ? 1n : 0n))
}

function loadFloat(decoded: DecodedInstruction): ReturnType<Translator> {
  if (decoded.memoryBytes === 10) return loadExtended(decoded)
  const read = floatReader(decoded)
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const { bits, isDenormal } = read(general, execution)
    if (!stack.isEmpty(7)) {
      stack.push(bits)
      return
    }
    const environment = stack.environment()
    const value = convertFormat(EXTENDED, EXTENDED, bits, environment)
    if (!stack.settle(environment)) return
    push(stack, value)
    if (!isDenormal) return
    // A denormal number is loaded even where that exception is not masked, as processors do.
    const loaded = stack.environment()
    loaded.flags |= FloatException.Denormal
    stack.settle(loaded)
  })
}

/** FLD of 80 bits changes nothing and looks at nothing. */
function loadExtended(decoded: DecodedInstruction): ReturnType<Translator> {
  const { memory } = decoded
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const significand = join64(execution.load64(high, low), execution)
    const next = (low + 8) | 0
    const upper = execution.load16(next >>> 0 < low >>> 0 ? (high + 1) | 0 : high, next)
    push(stack, (BigInt(upper) << 64n) | significand)
  })
}

function loadRegister(decoded: DecodedInstruction): ReturnType<Translator> {
  const index = stackIndex(decoded, 0)
  return arithmeticInstruction(decoded, (stack) => {
    if (stack.isEmpty(index)) {
      if (!stack.stackFault('underflow')) return
      stack.top = stack.top - 1
      stack.write(0, indefinite(EXTENDED))
      return
    }
    push(stack, stack.read(index))
  })
}

function loadInteger(decoded: DecodedInstruction): ReturnType<Translator> {
  const read = integerReader(decoded)
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    push(stack, read(general, execution).bits)
  })
}

function store(decoded: DecodedInstruction, pops: 0 | 1): ReturnType<Translator> {
  if (!decoded.isMemory(0)) return storeRegister(decoded, pops)
  const { memory, memoryBytes: bytes } = decoded
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const { statusWord } = stack.state
    const value = valueToStore(stack, bytes)
    if (value === undefined) {
      probePrevented(execution, { stack, statusWord }, { high, low, bytes })
      return
    }
    storeOrUndo(stack, statusWord, () => {
      storeBytes(execution, high, low, { bytes, value })
    })
    if (pops === 1) stack.pop()
  })
}

/** A store that faults leaves no trace in the status word. */
function storeOrUndo({ state }: RegisterStack, statusWord: number, storeValue: () => void): void {
  try {
    storeValue()
  } catch (error) {
    state.statusWord = statusWord
    throw error
  }
}

/** A store that an unmasked exception prevents may fault nonetheless on AMD's processors (seen on an EPYC 9004): then that comes first. */
function probePrevented(
  execution: Execution,
  { stack, statusWord }: { readonly stack: RegisterStack; readonly statusWord: number },
  { high, low, bytes }: { readonly high: number; readonly low: number; readonly bytes: number },
): void {
  if (execution.cpu.machine.features.vendor !== 'amd') return
  storeOrUndo(stack, statusWord, () => {
    probeForWrite(execution, high, low, bytes)
  })
}

/** What FST stores, or undefined where an exception prevents that. */
function valueToStore(stack: RegisterStack, bytes: number): bigint | undefined {
  const format = bytes === 4 ? SINGLE : bytes === 8 ? DOUBLE : EXTENDED
  if (stack.isEmpty(0)) return stack.stackFault('underflow') ? indefinite(format) : undefined
  if (bytes === 10) {
    stack.setConditions(Fsw.C1, 0)
    return stack.read(0)
  }
  const environment = stack.environment()
  const options = { reportsDenormal: false }
  const value = convertFormat(EXTENDED, format, stack.read(0), environment, options)
  const unstored = FloatException.Overflow | FloatException.Underflow
  const isPrevented = (environment.flags & unstored & ~environment.masks) !== 0
  if (isPrevented) environment.flags &= ~FloatException.Precision
  if (isPrevented) environment.roundedUp = false
  return stack.settle(environment) && !isPrevented ? value : undefined
}

function storeBytes(
  execution: Execution,
  high: number,
  low: number,
  { bytes, value }: { readonly bytes: number; readonly value: bigint },
): void {
  const word = (shift: bigint): number => Number(BigInt.asIntN(32, value >> shift))
  if (bytes === 10) probeForWrite(execution, high, low, bytes)
  if (bytes === 2) execution.store16(high, low, word(0n))
  else if (bytes === 4) execution.store32(high, low, word(0n))
  else execution.store64(high, low, word(0n), word(32n))
  if (bytes !== 10) return
  const next = (low + 8) | 0
  execution.store16(next >>> 0 < low >>> 0 ? (high + 1) | 0 : high, next, word(64n))
}

function storeRegister(decoded: DecodedInstruction, pops: 0 | 1): ReturnType<Translator> {
  const to = stackIndex(decoded, 0)
  return arithmeticInstruction(decoded, (stack) => {
    let value: bigint
    if (stack.isEmpty(0)) {
      if (!stack.stackFault('underflow')) return
      value = indefinite(EXTENDED)
    } else {
      stack.setConditions(Fsw.C1, 0)
      value = stack.read(0)
    }
    stack.write(to, value)
    if (pops === 1) stack.pop()
  })
}

function storeInteger(
  decoded: DecodedInstruction,
  pops: 0 | 1,
  rounding?: number,
): ReturnType<Translator> {
  const { memory, memoryBytes: bytes } = decoded
  const bits = (bytes * 8) as 16 | 32 | 64
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const { statusWord } = stack.state
    let value = 1n << BigInt(bits - 1)
    if (stack.isEmpty(0)) {
      if (!stack.stackFault('underflow')) {
        probePrevented(execution, { stack, statusWord }, { high, low, bytes })
        return
      }
    } else {
      const environment = stack.environment()
      value = toInteger(EXTENDED, stack.read(0), {
        bits,
        rounding: rounding ?? environment.rounding,
        environment,
      })
      if (!stack.settle(environment)) {
        probePrevented(execution, { stack, statusWord }, { high, low, bytes })
        return
      }
    }
    storeOrUndo(stack, statusWord, () => {
      storeBytes(execution, high, low, { bytes, value })
    })
    if (pops === 1) stack.pop()
  })
}

/** FXCH: an empty register counts as the real indefinite, where that is masked. */
function exchange(decoded: DecodedInstruction): ReturnType<Translator> {
  const index = stackIndex(decoded, decoded.operands - 1)
  return arithmeticInstruction(decoded, (stack) => {
    if (stack.isEmpty(0) || stack.isEmpty(index)) {
      if (!stack.stackFault('underflow')) return
    } else stack.setConditions(Fsw.C1, 0)
    const [left, right] = [0, index].map((at) =>
      stack.isEmpty(at) ? indefinite(EXTENDED) : stack.read(at),
    ) as [bigint, bigint]
    stack.write(0, right)
    stack.write(index, left)
  })
}

function moveIf(decoded: DecodedInstruction, condition: number): ReturnType<Translator> {
  const index = stackIndex(decoded, 1)
  return arithmeticInstruction(decoded, (stack, execution) => {
    if (stack.isEmpty(0) || stack.isEmpty(index)) {
      if (stack.stackFault('underflow')) stack.write(0, indefinite(EXTENDED))
      return
    }
    if (execution.condition(condition)) stack.write(0, stack.read(index))
  })
}
