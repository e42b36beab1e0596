import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { convertFormat, fromInteger, toInteger } from '../../floating-point/conversion.ts'
import { type FloatEnvironment, Rounding } from '../../floating-point/environment.ts'
import { DOUBLE, type FloatFormat, SINGLE } from '../../floating-point/format.ts'
import { reader, wideReader } from '../../operands.ts'
import { Vector } from '../../vector/vector.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { elementAt, setElement, settle, sseEnvironment } from './arithmetic.ts'
import { requireMmx, requireSse } from './availability.ts'
import {
  enterMmxState,
  hasEarlyMmx,
  mmxNumber,
  readXmm,
  vectorReader,
  writeMmx,
  writeXmm,
  xmmNumber,
} from './operands.ts'

const first = new Vector()
const second = new Vector()

/** Between integers and floating-point numbers, and between formats of these (SDM Vol. 2, CVT…). */
export const SSE_CONVERSIONS: InstructionFamily = {
  name: 'SSE conversions',
  translators: new Map<Mnemonic, Translator>([
    [Mnemonic.Cvtss2sd, (decoded) => scalarToScalar(decoded, SINGLE, DOUBLE)],
    [Mnemonic.Cvtsd2ss, (decoded) => scalarToScalar(decoded, DOUBLE, SINGLE)],
    [Mnemonic.Cvtps2pd, (decoded) => packed(decoded, 2, between(SINGLE, DOUBLE))],
    [Mnemonic.Cvtpd2ps, (decoded) => packed(decoded, 2, between(DOUBLE, SINGLE))],
    [Mnemonic.Cvtdq2ps, (decoded) => packed(decoded, 4, fromWord(SINGLE))],
    [Mnemonic.Cvtdq2pd, (decoded) => packed(decoded, 2, fromWord(DOUBLE))],
    [Mnemonic.Cvtps2dq, (decoded) => packed(decoded, 4, toWord(SINGLE))],
    [Mnemonic.Cvttps2dq, (decoded) => packed(decoded, 4, toWord(SINGLE, Rounding.Zero))],
    [Mnemonic.Cvtpd2dq, (decoded) => packed(decoded, 2, toWord(DOUBLE))],
    [Mnemonic.Cvttpd2dq, (decoded) => packed(decoded, 2, toWord(DOUBLE, Rounding.Zero))],
    [Mnemonic.Cvtsi2ss, (decoded) => fromGeneral(decoded, SINGLE)],
    [Mnemonic.Cvtsi2sd, (decoded) => fromGeneral(decoded, DOUBLE)],
    [Mnemonic.Cvtss2si, (decoded) => toGeneral(decoded, SINGLE)],
    [Mnemonic.Cvtsd2si, (decoded) => toGeneral(decoded, DOUBLE)],
    [Mnemonic.Cvttss2si, (decoded) => toGeneral(decoded, SINGLE, Rounding.Zero)],
    [Mnemonic.Cvttsd2si, (decoded) => toGeneral(decoded, DOUBLE, Rounding.Zero)],
    [Mnemonic.Cvtpi2ps, (decoded) => fromMmx(decoded, fromWord(SINGLE))],
    [Mnemonic.Cvtpi2pd, (decoded) => fromMmx(decoded, fromWord(DOUBLE))],
    [Mnemonic.Cvtps2pi, (decoded) => toMmx(decoded, toWord(SINGLE))],
    [Mnemonic.Cvttps2pi, (decoded) => toMmx(decoded, toWord(SINGLE, Rounding.Zero))],
    [Mnemonic.Cvtpd2pi, (decoded) => toMmx(decoded, toWord(DOUBLE))],
    [Mnemonic.Cvttpd2pi, (decoded) => toMmx(decoded, toWord(DOUBLE, Rounding.Zero))],
  ]),
}

/** Converts the element `at` of one vector into that of another. */
type ConvertElement = (from: Vector, to: Vector, at: number, environment: FloatEnvironment) => void

function between(source: FloatFormat, target: FloatFormat): ConvertElement {
  return (from, to, at, environment) => {
    const bits = convertFormat(source, target, elementAt(source, from, at), environment)
    setElement(target, to, at, bits)
  }
}

function fromWord(target: FloatFormat): ConvertElement {
  return (from, to, at, environment) => {
    setElement(target, to, at, fromInteger(target, BigInt(from.words[at]!), environment))
  }
}

/** `rounding` is MXCSR's where it is left out. */
function toWord(source: FloatFormat, rounding?: number): ConvertElement {
  return (from, to, at, environment) => {
    const options = { bits: 32, rounding: rounding ?? environment.rounding, environment } as const
    to.uint32[at] = Number(toInteger(source, elementAt(source, from, at), options))
  }
}

/** What is narrower than the register leaves zeros above it. */
function packed(
  decoded: DecodedInstruction,
  count: 2 | 4,
  convert: ConvertElement,
): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, decoded.memoryBytes === 16 ? 16 : 1)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const environment = sseEnvironment(execution)
    first.words.fill(0)
    for (let at = 0; at < count; at++) convert(second, first, at, environment)
    settle(execution, environment)
    writeXmm(execution.cpu.floatingPoint.xmm, to, first)
  }
}

function scalarToScalar(
  decoded: DecodedInstruction,
  source: FloatFormat,
  target: FloatFormat,
): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, 1)
  const convert = between(source, target)
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    convert(second, first, 0, environment)
    settle(execution, environment)
    writeXmm(xmm, to, first)
  }
}

function fromGeneral(decoded: DecodedInstruction, target: FloatFormat): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const read = signedReader(decoded)
  return (general, execution) => {
    requireSse(execution)
    const value = read(general, execution)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    setElement(target, first, 0, fromInteger(target, value, environment))
    settle(execution, environment)
    writeXmm(xmm, to, first)
  }
}

/** Reads the second operand, of 32 or 64 bits, as a signed number. */
function signedReader(
  decoded: DecodedInstruction,
): (general: Int32Array, execution: Execution) => bigint {
  if (decoded.size(1) === 4) {
    const read = reader(decoded, 1, 4)
    return (general, execution) => BigInt(read(general, execution))
  }
  const read = wideReader(decoded, 1)
  return (general, execution) => {
    const low = read(general, execution)
    return (BigInt(execution.high) << 32n) | BigInt(low >>> 0)
  }
}

function toGeneral(
  decoded: DecodedInstruction,
  source: FloatFormat,
  rounding?: number,
): ReturnType<Translator> {
  const readSecond = vectorReader(decoded, 1, 1)
  const { word, size } = decoded.register(0)
  const bits = size === 8 ? 64 : 32
  return (general, execution) => {
    requireSse(execution)
    readSecond(general, execution, second)
    const environment = sseEnvironment(execution)
    const value = toInteger(source, elementAt(source, second, 0), {
      bits,
      rounding: rounding ?? environment.rounding,
      environment,
    })
    settle(execution, environment)
    general[word] = Number(BigInt.asIntN(32, value))
    general[word + 1] = Number(BigInt.asIntN(32, value >> 32n))
  }
}

/** Of an MMX register or 8 bytes of memory; only the former is an MMX instruction (SDM Vol. 2, CVTPI2PD). CVTPI2PS is one always for processors of AMD before Zen 4; that and Intel's leave the x87 state alone here, too, other than SDM Vol. 2, CVTPI2PS has it. */
function fromMmx(decoded: DecodedInstruction, convert: ConvertElement): ReturnType<Translator> {
  const to = xmmNumber(decoded, 0)!
  const isOfMmx = mmxNumber(decoded, 1) !== undefined
  const isPs = decoded.mnemonic === Mnemonic.Cvtpi2ps
  const isMmxOf = ({ cpu }: Execution): boolean => isOfMmx || (isPs && hasEarlyMmx(cpu))
  const readSecond = vectorReader(decoded, 1, 1)
  return (general, execution) => {
    requireSse(execution)
    const isMmx = isMmxOf(execution)
    if (isMmx) requireMmx(execution)
    readSecond(general, execution, second)
    const { xmm } = execution.cpu.floatingPoint
    readXmm(xmm, to, first)
    const environment = sseEnvironment(execution)
    for (const at of [0, 1]) convert(second, first, at, environment)
    settle(execution, environment)
    if (isMmx) enterMmxState(execution)
    writeXmm(xmm, to, first)
  }
}

function toMmx(decoded: DecodedInstruction, convert: ConvertElement): ReturnType<Translator> {
  const to = mmxNumber(decoded, 0)!
  const readSecond = vectorReader(decoded, 1, decoded.memoryBytes === 16 ? 16 : 1)
  return (general, execution) => {
    requireSse(execution)
    requireMmx(execution)
    readSecond(general, execution, second)
    const environment = sseEnvironment(execution)
    for (const at of [0, 1]) convert(second, first, at, environment)
    settle(execution, environment)
    enterMmxState(execution)
    writeMmx(execution, to, first.words[0]!, first.words[1]!)
  }
}
