import { Cr4, SimdException } from '@trapdoor/core'
import { Code, Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import {
  add,
  compare,
  divide,
  multiply,
  type Order,
  squareRoot,
} from '../../floating-point/arithmetic.ts'
import { roundToInteger } from '../../floating-point/conversion.ts'
import { BEFORE_COMPUTATION, type FloatEnvironment } from '../../floating-point/environment.ts'
import { DOUBLE, type FloatFormat, SINGLE, unpack } from '../../floating-point/format.ts'
import { Vector } from '../../vector/vector.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { requireSse } from './availability.ts'
import { readXmm, vectorReader, writeXmm, xmmNumber } from './operands.ts'

const first = new Vector()
const second = new Vector()

const DAZ = 0x40
const FTZ = 0x8000
const FLAGS = 0x3f
const MASKS_SHIFT = 7
const ROUNDING_SHIFT = 13

/** One element from those at its place: bits in, bits out. */
type Element = (
  format: FloatFormat,
  left: bigint,
  right: bigint,
  environment: FloatEnvironment,
) => bigint

/** What MXCSR says, with nothing found yet. */
export function sseEnvironment({ cpu }: Execution): FloatEnvironment {
  const { mxcsr } = cpu
  return {
    rounding: (mxcsr >> ROUNDING_SHIFT) & 3,
    masks: (mxcsr >> MASKS_SHIFT) & FLAGS,
    precision: undefined,
    denormalsAreZero: (mxcsr & DAZ) !== 0,
    flushToZero: (mxcsr & FTZ) !== 0,
    biasAdjustment: 0,
    flags: 0,
    roundedUp: false,
  }
}

/**
 * Notes in MXCSR what an instruction found. One exception that is not masked is #XM, or #UD where CR4.OSXMMEXCPT is clear; those that are found after the computation are
 * not looked for where one before it already is (SDM Vol. 1, 11.5.3).
 */
export function settle(execution: Execution, { flags, masks }: FloatEnvironment): void {
  const { cpu } = execution
  const isRefused = (flags & BEFORE_COMPUTATION & ~masks) !== 0
  cpu.mxcsr |= isRefused ? flags & BEFORE_COMPUTATION : flags
  if ((flags & ~masks & FLAGS) === 0) return
  if ((cpu.cr4 & Cr4.OSXMMEXCPT) === 0) throw execution.invalidOpcode(new Uint8Array())
  throw cpu.raise((site) => new SimdException(site))
}

const ADD: Element = (format, left, right, environment) =>
  add(format, left, right, { subtract: false, nan: 'first', environment })
const SUBTRACT: Element = (format, left, right, environment) =>
  add(format, left, right, { subtract: true, nan: 'first', environment })
const MULTIPLY: Element = (format, left, right, environment) =>
  multiply(format, left, right, { nan: 'first', environment })
const DIVIDE: Element = (format, left, right, environment) =>
  divide(format, left, right, { nan: 'first', environment })
const ROOT: Element = (format, _, right, environment) => squareRoot(format, right, environment)
const MINIMUM = extreme('less')
const MAXIMUM = extreme('greater')

/** Floating-point arithmetic of SSE, SSE2, SSE3 and SSE4.1, but for approximations (SDM Vol. 2). */
export const SSE_ARITHMETIC: InstructionFamily = {
  name: 'SSE arithmetic',
  translators: new Map<Mnemonic, Translator>([
    ...everyFormat('Add', ADD),
    ...everyFormat('Sub', SUBTRACT),
    ...everyFormat('Mul', MULTIPLY),
    ...everyFormat('Div', DIVIDE),
    ...everyFormat('Sqrt', ROOT),
    ...everyFormat('Min', MINIMUM),
    ...everyFormat('Max', MAXIMUM),
    [Mnemonic.Addsubps, (decoded) => packed(decoded, SINGLE, alternating)],
    [Mnemonic.Addsubpd, (decoded) => packed(decoded, DOUBLE, alternating)],
    [Mnemonic.Haddps, (decoded) => horizontal(decoded, SINGLE, ADD)],
    [Mnemonic.Haddpd, (decoded) => horizontal(decoded, DOUBLE, ADD)],
    [Mnemonic.Hsubps, (decoded) => horizontal(decoded, SINGLE, SUBTRACT)],
    [Mnemonic.Hsubpd, (decoded) => horizontal(decoded, DOUBLE, SUBTRACT)],
    [Mnemonic.Cmpps, (decoded) => packed(decoded, SINGLE, compareBy(decoded))],
    [Mnemonic.Cmppd, (decoded) => packed(decoded, DOUBLE, compareBy(decoded))],
    [Mnemonic.Cmpss, (decoded) => scalar(decoded, SINGLE, compareBy(decoded))],
    [Mnemonic.Roundps, (decoded) => packed(decoded, SINGLE, roundBy(decoded))],
    [Mnemonic.Roundpd, (decoded) => packed(decoded, DOUBLE, roundBy(decoded))],
    [Mnemonic.Roundss, (decoded) => scalar(decoded, SINGLE, roundBy(decoded))],
    [Mnemonic.Roundsd, (decoded) => scalar(decoded, DOUBLE, roundBy(decoded))],
    [Mnemonic.Comiss, (decoded) => compareToFlags(decoded, SINGLE, true)],
    [Mnemonic.Comisd, (decoded) => compareToFlags(decoded, DOUBLE, true)],
    [Mnemonic.Ucomiss, (decoded) => compareToFlags(decoded, SINGLE, false)],
    [Mnemonic.Ucomisd, (decoded) => compareToFlags(decoded, DOUBLE, false)],
    [Mnemonic.Cmpsd, compareScalarDouble],
  ]),
}

/** Packed and scalar, single and double: ADDPS, ADDPD, ADDSS, ADDSD for `Add`. */
function everyFormat(name: string, element: Element): (readonly [Mnemonic, Translator])[] {
  const mnemonics = Mnemonic as unknown as Record<string, Mnemonic>
  return [
    [mnemonics[`${name}ps`]!, (decoded) => packed(decoded, SINGLE, element)],
    [mnemonics[`${name}pd`]!, (decoded) => packed(decoded, DOUBLE, element)],
    [mnemonics[`${name}ss`]!, (decoded) => scalar(decoded, SINGLE, element)],
    [mnemonics[`${name}sd`]!, (decoded) => scalar(decoded, DOUBLE, element)],
  ]
}

/** Reads an element of a vector. */
export function elementAt(format: FloatFormat, vector: Vector, at: number): bigint {
  return format === SINGLE ? BigInt(vector.uint32[at]!) : vector.uint64[at]!
}

export function setElement(format: FloatFormat, vector: Vector, at: number, bits: bigint): void {
  if (format === SINGLE) vector.uint32[at] = Number(bits)
  else vector.uint64[at] = bits
}

function elementsOf(format: FloatFormat): 2 | 4 {
  return format === SINGLE ? 4 : 2
}

/** ADDSUBPS: differences at even places, sums at odd ones. */
const alternating: Element & { index?: number } = (format, left, right, environment) =>
  SUBTRACT(format, left, right, environment)

function packed(
  decoded: DecodedInstruction,
  format: FloatFormat,
  element: Element,
): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, 16)
  const count = elementsOf(format)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    for (let at = 0; at < count; at++) {
      const compute = element === alternating && at % 2 === 1 ? ADD : element
      const [left, right] = [elementAt(format, first, at), elementAt(format, second, at)]
      setElement(format, first, at, compute(format, left, right, environment))
    }
    settle(execution, environment)
    writeXmm(xmm, to, first)
  }
}

/** On the lowest element; the others stay. */
function scalar(
  decoded: DecodedInstruction,
  format: FloatFormat,
  element: Element,
): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, 1)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    const [left, right] = [elementAt(format, first, 0), elementAt(format, second, 0)]
    setElement(format, first, 0, element(format, left, right, environment))
    settle(execution, environment)
    writeXmm(xmm, to, first)
  }
}

/** Pairs of neighbours of the first operand, then those of the second. */
function horizontal(
  decoded: DecodedInstruction,
  format: FloatFormat,
  element: Element,
): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, 16)
  const count = elementsOf(format)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    const all = [first, second].flatMap((vector) =>
      Array.from({ length: count }, (_, at) => elementAt(format, vector, at)),
    )
    for (let at = 0; at < count; at++) {
      const bits = element(format, all[2 * at]!, all[2 * at + 1]!, environment)
      setElement(format, first, at, bits)
    }
    settle(execution, environment)
    writeXmm(xmm, to, first)
  }
}

/** MIN and MAX: the second operand where one is a NaN, and where both are zeros (SDM Vol. 2, MINPS). A NaN of either kind is an invalid operation. */
function extreme(wanted: 'less' | 'greater'): Element {
  return (format, left, right, environment) => {
    const order = compare(format, left, right, { quietIsInvalid: true, environment })
    return withoutDenormal(format, order === wanted ? left : right, environment)
  }
}

/** A number that is returned as it is, but for a denormal that counts as zero. */
function withoutDenormal(
  format: FloatFormat,
  bits: bigint,
  { denormalsAreZero }: FloatEnvironment,
): bigint {
  if (!denormalsAreZero || unpack(format, bits).kind !== 'denormal') return bits
  return operandZero(format, bits)
}

function operandZero(format: FloatFormat, bits: bigint): bigint {
  const signBit = BigInt(format.exponentBits + format.precision - 1)
  return (bits >> signBit) << signBit
}

/** The predicates of CMPPS: which orders satisfy them, and whether a quiet NaN is an invalid operation (SDM Vol. 2, table 3-1). */
const PREDICATES: readonly (readonly [satisfied: readonly Order[], signals: boolean])[] = [
  [['equal'], false],
  [['less'], true],
  [['less', 'equal'], true],
  [['unordered'], false],
  [['less', 'greater', 'unordered'], false],
  [['equal', 'greater', 'unordered'], true],
  [['greater', 'unordered'], true],
  [['less', 'equal', 'greater'], false],
]

/** The string instruction has the same mnemonic. */
function compareScalarDouble(decoded: DecodedInstruction): ReturnType<Translator> {
  return decoded.code === Code.Cmpsd_xmm_xmmm64_imm8
    ? scalar(decoded, DOUBLE, compareBy(decoded))
    : undefined
}

function compareBy(decoded: DecodedInstruction): Element {
  const [satisfied, quietIsInvalid] = PREDICATES[decoded.immediate(2).low & 7]!
  return (format, left, right, environment) => {
    const order = compare(format, left, right, { quietIsInvalid, environment })
    return satisfied.includes(order) ? (format === SINGLE ? 0xffff_ffffn : 2n ** 64n - 1n) : 0n
  }
}

/** ROUNDPS: the immediate has the rounding, or says that MXCSR has it; bit 3 suppresses the precision exception. */
function roundBy(decoded: DecodedInstruction): Element {
  const immediate = decoded.immediate(2).low
  return (format, _, right, environment) =>
    roundToInteger(format, right, {
      rounding: (immediate & 4) !== 0 ? environment.rounding : immediate & 3,
      reportsInexact: (immediate & 8) === 0,
      reportsDenormal: false,
      environment,
    })
}

const STATUS = 0x8d5
const ORDER_FLAGS: Readonly<Record<Order, number>> = {
  greater: 0,
  less: 0x1,
  equal: 0x40,
  unordered: 0x45,
}

/** COMISS and UCOMISS: ZF, PF and CF say how the operands stand, the other flags are cleared. */
function compareToFlags(
  decoded: DecodedInstruction,
  format: FloatFormat,
  quietIsInvalid: boolean,
): ReturnType<Translator> {
  const left = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, 1)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    readXmm(execution.cpu.floatingPoint.xmm, left, first)
    const environment = sseEnvironment(execution)
    const order = compare(format, elementAt(format, first, 0), elementAt(format, second, 0), {
      quietIsInvalid,
      environment,
    })
    settle(execution, environment)
    execution.replaceFlags(STATUS, ORDER_FLAGS[order])
  }
}
