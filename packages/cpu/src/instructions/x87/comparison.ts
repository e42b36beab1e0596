import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { compare, type Order } from '../../floating-point/arithmetic.ts'
import { FloatException } from '../../floating-point/environment.ts'
import { EXTENDED, unpack } from '../../floating-point/format.ts'
import { Fsw, type RegisterStack } from '../../x87/register-stack.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import {
  arithmeticInstruction,
  floatReader,
  integerReader,
  type MemoryNumber,
  stackIndex,
} from './instruction.ts'

const CONDITIONS = Fsw.C0 | Fsw.C1 | Fsw.C2 | Fsw.C3
/** C3, C2 and C0 of a comparison (SDM Vol. 2, FCOM). */
const ORDER_CONDITIONS: Readonly<Record<Order, number>> = {
  greater: 0,
  less: Fsw.C0,
  equal: Fsw.C3,
  unordered: Fsw.C0 | Fsw.C2 | Fsw.C3,
}
/** ZF, PF and CF of FCOMI, and the flags that it clears beside them. */
const ORDER_FLAGS: Readonly<Record<Order, number>> = {
  greater: 0,
  less: 0x1,
  equal: 0x40,
  unordered: 0x45,
}
const FLAGS_SET = 0x8d5

interface Comparison {
  readonly pops: 0 | 1 | 2
  /** FCOM, not FUCOM: a quiet NaN is an invalid operation. */
  readonly quietIsInvalid: boolean
}

/** Comparisons of the x87 (SDM Vol. 2). */
export const X87_COMPARISONS: InstructionFamily = {
  name: 'x87 comparisons',
  translators: new Map<Mnemonic, Translator>([
    [Mnemonic.Fcom, (decoded) => compareOperands(decoded, { pops: 0, quietIsInvalid: true })],
    [Mnemonic.Fcomp, (decoded) => compareOperands(decoded, { pops: 1, quietIsInvalid: true })],
    [Mnemonic.Fcompp, (decoded) => compareOperands(decoded, { pops: 2, quietIsInvalid: true })],
    [Mnemonic.Fucom, (decoded) => compareOperands(decoded, { pops: 0, quietIsInvalid: false })],
    [Mnemonic.Fucomp, (decoded) => compareOperands(decoded, { pops: 1, quietIsInvalid: false })],
    [Mnemonic.Fucompp, (decoded) => compareOperands(decoded, { pops: 2, quietIsInvalid: false })],
    [Mnemonic.Ficom, (decoded) => compareOperands(decoded, { pops: 0, quietIsInvalid: true })],
    [Mnemonic.Ficomp, (decoded) => compareOperands(decoded, { pops: 1, quietIsInvalid: true })],
    [Mnemonic.Fcomi, (decoded) => compareToFlags(decoded, { pops: 0, quietIsInvalid: true })],
    [Mnemonic.Fcomip, (decoded) => compareToFlags(decoded, { pops: 1, quietIsInvalid: true })],
    [Mnemonic.Fucomi, (decoded) => compareToFlags(decoded, { pops: 0, quietIsInvalid: false })],
    [Mnemonic.Fucomip, (decoded) => compareToFlags(decoded, { pops: 1, quietIsInvalid: false })],
    [Mnemonic.Ftst, test],
    [Mnemonic.Fxam, examine],
  ]),
}

function compareOperands(
  decoded: DecodedInstruction,
  comparison: Comparison,
): ReturnType<Translator> {
  const read = rightReader(decoded)
  return arithmeticInstruction(decoded, (stack, execution, general) => {
    const right = read(stack, execution, general)
    if (!compareWith(stack, right, comparison)) return
    for (let pops = 0; pops < comparison.pops; pops++) stack.pop()
  })
}

function compareToFlags(
  decoded: DecodedInstruction,
  comparison: Comparison,
): ReturnType<Translator> {
  const index = stackIndex(decoded, 1)
  return arithmeticInstruction(decoded, (stack, execution) => {
    // The SDM says that the flags stay where an invalid operation is not masked; processors set them, whatever is masked.
    if (stack.isEmpty(0) || stack.isEmpty(index)) {
      execution.replaceFlags(FLAGS_SET, ORDER_FLAGS.unordered)
      if (!stack.stackFault('underflow')) return
    } else {
      const environment = stack.environment()
      const { quietIsInvalid } = comparison
      const options = { quietIsInvalid, environment }
      const order = compare(EXTENDED, stack.read(0), stack.read(index), options)
      execution.replaceFlags(FLAGS_SET, ORDER_FLAGS[order])
      // C1 is affected by an underflow alone (SDM Vol. 2, FCOMI).
      const c1 = stack.state.statusWord & Fsw.C1
      const isAllowed = stack.settle(environment)
      stack.setConditions(Fsw.C1, c1)
      if (!isAllowed) return
    }
    if (comparison.pops === 1) stack.pop()
  })
}

type ReadRight = (
  stack: RegisterStack,
  execution: Execution,
  general: Int32Array,
) => MemoryNumber | undefined

/** Reads what ST(0) is compared with; undefined for an empty register. */
function rightReader(decoded: DecodedInstruction): ReadRight {
  if (decoded.operands > 0 && decoded.isMemory(0)) {
    const isInteger = decoded.mnemonic === Mnemonic.Ficom || decoded.mnemonic === Mnemonic.Ficomp
    const read = isInteger ? integerReader(decoded) : floatReader(decoded)
    return (_stack, execution, general) => read(general, execution)
  }
  const index = decoded.operands === 0 ? 1 : stackIndex(decoded, decoded.operands - 1)
  return (stack) => register(stack, index)
}

function register(stack: RegisterStack, index: number): MemoryNumber | undefined {
  return stack.isEmpty(index) ? undefined : { bits: stack.read(index), isDenormal: false }
}

/** Sets the conditions to how ST(0) stands to a number, even where an exception is not masked: then false is returned, as nothing is popped. An empty register is unordered. */
function compareWith(
  stack: RegisterStack,
  right: MemoryNumber | undefined,
  { quietIsInvalid }: Comparison,
): boolean {
  const environment = stack.environment()
  const isUnderflow = right === undefined || stack.isEmpty(0)
  let order: Order = 'unordered'
  if (!isUnderflow) {
    order = compare(EXTENDED, stack.read(0), right.bits, { quietIsInvalid, environment })
    if (right.isDenormal && order !== 'unordered') environment.flags |= FloatException.Denormal
  }
  const isAllowed = isUnderflow ? stack.stackFault('underflow') : stack.settle(environment)
  stack.setConditions(CONDITIONS, ORDER_CONDITIONS[order])
  return isAllowed
}

function test(decoded: DecodedInstruction): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    const comparison = { pops: 0, quietIsInvalid: true } as const
    compareWith(stack, { bits: 0n, isDenormal: false }, comparison)
  })
}

/** C3, C2 and C0 of FXAM (SDM Vol. 2, table 3-38). */
const CLASSES: Readonly<Record<ReturnType<typeof unpack>['kind'], number>> = {
  unsupported: 0,
  quiet: Fsw.C0,
  signalling: Fsw.C0,
  finite: Fsw.C2,
  infinity: Fsw.C2 | Fsw.C0,
  zero: Fsw.C3,
  denormal: Fsw.C3 | Fsw.C2,
}
const EMPTY = Fsw.C3 | Fsw.C0

/** FXAM: what ST(0) holds, and its sign in C1, even if it is empty. */
function examine(decoded: DecodedInstruction): ReturnType<Translator> {
  return arithmeticInstruction(decoded, (stack) => {
    const bits = stack.read(0)
    const sign = bits >> 79n === 1n ? Fsw.C1 : 0
    const kind = stack.isEmpty(0) ? EMPTY : CLASSES[unpack(EXTENDED, bits).kind]
    stack.setConditions(CONDITIONS, kind | sign)
  })
}
