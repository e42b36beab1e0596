import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { ELEMENT_OPERATIONS, SHIFTS } from '../../vector/element-operations.ts'
import { insertSingle, REARRANGEMENTS } from '../../vector/rearrangements.ts'
import { Vector, type VectorOperation } from '../../vector/vector.ts'
import { reader, wideReader, wideWriter, writer } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import {
  availability,
  enterMmxState,
  mmxNumber,
  readXmm,
  vectorReader,
  writeMmx,
  writeXmm,
  xmmNumber,
} from './operands.ts'

const first = new Vector()
const second = new Vector()

/** Packed instructions without floating-point arithmetic: MMX, SSE, SSE2, SSE3, SSSE3, SSE4.1 and SSE4.2 (SDM Vol. 2). */
export const PACKED_INTEGER: InstructionFamily = {
  name: 'packed integers',
  translators: new Map<Mnemonic, Translator>([
    ...[...ELEMENT_OPERATIONS, ...REARRANGEMENTS].map(
      ([mnemonic, operation]) =>
        [mnemonic, (decoded: DecodedInstruction) => packed(decoded, operation)] as const,
    ),
    ...[...SHIFTS].map(
      ([mnemonic, shift]) =>
        [mnemonic, (decoded: DecodedInstruction) => packedShift(decoded, shift)] as const,
    ),
    [Mnemonic.Pmovmskb, (decoded) => signMask(decoded, ({ int8 }, bytes) => signs(int8, bytes))],
    [Mnemonic.Movmskps, (decoded) => signMask(decoded, ({ words }) => signs(words, 4))],
    [
      Mnemonic.Movmskpd,
      (decoded) => signMask(decoded, ({ words }) => (words[1]! >>> 31) | ((words[3]! >>> 31) << 1)),
    ],
    [Mnemonic.Pextrb, (decoded) => extract(decoded, ({ uint8 }, at) => uint8[at & 15]!)],
    [
      Mnemonic.Pextrw,
      (decoded) => extract(decoded, ({ uint16 }, at, bytes) => uint16[at & (bytes / 2 - 1)]!),
    ],
    [Mnemonic.Pextrd, (decoded) => extract(decoded, ({ words }, at) => words[at & 3]!)],
    [Mnemonic.Extractps, (decoded) => extract(decoded, ({ words }, at) => words[at & 3]!)],
    [Mnemonic.Pextrq, extract64],
    [Mnemonic.Pinsrb, (decoded) => insert(decoded, 1)],
    [Mnemonic.Pinsrw, (decoded) => insert(decoded, 2)],
    [Mnemonic.Pinsrd, (decoded) => insert(decoded, 4)],
    [Mnemonic.Pinsrq, insert64],
    [Mnemonic.Insertps, insertPs],
    [Mnemonic.Ptest, testBits],
    [Mnemonic.Pblendvb, (decoded) => blendVariable(decoded, 'int8')],
    [Mnemonic.Blendvps, (decoded) => blendVariable(decoded, 'words')],
    [Mnemonic.Blendvpd, blendVariable64],
  ]),
}

function isMmx(decoded: DecodedInstruction, operand: number): boolean {
  return mmxNumber(decoded, operand) !== undefined
}

/** How the first operand, a vector register, is read and written back. */
function destinationOf(decoded: DecodedInstruction): {
  readonly bytes: 8 | 16
  readonly read: (execution: Execution, into: Vector) => void
  readonly write: (execution: Execution, from: Vector) => void
} {
  const mmx = mmxNumber(decoded, 0)
  if (mmx !== undefined) {
    return {
      bytes: 8,
      read: ({ cpu }, { words }) => {
        const { registers } = cpu.floatingPoint
        words[0] = registers[mmx * 4]!
        words[1] = registers[mmx * 4 + 1]!
      },
      write: (execution, { words }) => {
        enterMmxState(execution)
        writeMmx(execution, mmx, words[0]!, words[1]!)
      },
    }
  }
  const xmm = xmmNumber(decoded, 0)!
  return {
    bytes: 16,
    read: ({ cpu }, into) => {
      readXmm(cpu.floatingPoint.xmm, xmm, into)
    },
    write: ({ cpu }, from) => {
      writeXmm(cpu.floatingPoint.xmm, xmm, from)
    },
  }
}

function immediateOf(decoded: DecodedInstruction): number {
  const last = decoded.operands - 1
  return decoded.isImmediate(last) ? decoded.immediate(last).low & 0xff : 0
}

function packed(decoded: DecodedInstruction, operation: VectorOperation): ReturnType<Translator> {
  const require = availability(decoded)
  const { bytes, read, write } = destinationOf(decoded)
  // Operands of 16 bytes have to be aligned, shorter ones need not (SDM Vol. 1, 10.4.1.1 and 11.4.1).
  const readSecond = vectorReader(decoded, 1, decoded.memoryBytes === 16 ? 16 : 1)
  const immediate = immediateOf(decoded)
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    read(execution, first)
    operation(first, second, bytes, immediate)
    write(execution, first)
  }
}

function packedShift(
  decoded: DecodedInstruction,
  shift: (first: Vector, bytes: 8 | 16, count: bigint) => void,
): ReturnType<Translator> {
  const require = availability(decoded)
  const { bytes, read, write } = destinationOf(decoded)
  if (decoded.isImmediate(1)) {
    const count = BigInt(immediateOf(decoded))
    return (_general, execution) => {
      require(execution)
      read(execution, first)
      shift(first, bytes, count)
      write(execution, first)
    }
  }
  const readSecond = vectorReader(decoded, 1, decoded.memoryBytes === 16 ? 16 : 1)
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    read(execution, first)
    shift(first, bytes, second.uint64[0]!)
    write(execution, first)
  }
}

/** A bit for the sign of each element. */
function signs(elements: Int8Array | Int32Array, count: number): number {
  let mask = 0
  for (let at = 0; at < count; at++) if (elements[at]! < 0) mask |= 1 << at
  return mask
}

function signMask(
  decoded: DecodedInstruction,
  compute: (vector: Vector, bytes: 8 | 16) => number,
): ReturnType<Translator> {
  const require = availability(decoded)
  const read = vectorReader(decoded, 1, 1)
  const { word } = decoded.register(0)
  const bytes = isMmx(decoded, 1) ? 8 : 16
  return (general, execution) => {
    require(execution)
    read(general, execution, first)
    if (bytes === 8) enterMmxState(execution)
    general[word] = compute(first, bytes)
    general[word + 1] = 0
  }
}

/** An element into a general register, whose upper bits become 0, or into memory. */
function extract(
  decoded: DecodedInstruction,
  choose: (vector: Vector, at: number, bytes: 8 | 16) => number,
): ReturnType<Translator> {
  const require = availability(decoded)
  const read = vectorReader(decoded, 1, 1)
  const at = immediateOf(decoded)
  const bytes = isMmx(decoded, 1) ? 8 : 16
  if (decoded.isMemory(0)) {
    const size = decoded.memoryBytes as 1 | 2 | 4
    const write = writer(decoded, 0, size)
    return (general, execution) => {
      require(execution)
      read(general, execution, first)
      write(general, execution, choose(first, at, bytes))
    }
  }
  const { word } = decoded.register(0)
  return (general, execution) => {
    require(execution)
    read(general, execution, first)
    if (bytes === 8) enterMmxState(execution)
    general[word] = choose(first, at, bytes)
    general[word + 1] = 0
  }
}

function extract64(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const read = vectorReader(decoded, 1, 1)
  const at = (immediateOf(decoded) & 1) * 2
  const write = wideWriter(decoded, 0)
  return (general, execution) => {
    require(execution)
    read(general, execution, first)
    write(general, execution, first.words[at]!, first.words[at + 1]!)
  }
}

/** The low bits of a general register, or memory, as an element. */
function insert(decoded: DecodedInstruction, size: 1 | 2 | 4): ReturnType<Translator> {
  const require = availability(decoded)
  const { bytes, read, write } = destinationOf(decoded)
  const readValue = reader(decoded, 1, decoded.isMemory(1) ? size : 4)
  const at = immediateOf(decoded) & (bytes / size - 1)
  return (general, execution) => {
    require(execution)
    const value = readValue(general, execution)
    read(execution, first)
    if (size === 1) first.uint8[at] = value
    else if (size === 2) first.uint16[at] = value
    else first.words[at] = value
    write(execution, first)
  }
}

function insert64(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const { read, write } = destinationOf(decoded)
  const readValue = wideReader(decoded, 1)
  const at = (immediateOf(decoded) & 1) * 2
  return (general, execution) => {
    require(execution)
    const low = readValue(general, execution)
    const { high } = execution
    read(execution, first)
    first.words[at] = low
    first.words[at + 1] = high
    write(execution, first)
  }
}

function insertPs(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const { read, write } = destinationOf(decoded)
  const readSecond = vectorReader(decoded, 1, 1)
  const immediate = immediateOf(decoded)
  // The element of a register is chosen, memory has but one.
  const from = decoded.isMemory(1) ? 0 : immediate >> 6
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    read(execution, first)
    insertSingle(first, second.words[from]!, immediate)
    write(execution, first)
  }
}

const ZF = 0x40
const CF = 0x1
const STATUS = 0x8d5

/** PTEST: ZF where the operands have no bit in common, CF where the second has none that the first lacks; the other flags are cleared. */
function testBits(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const { read } = destinationOf(decoded)
  const readSecond = vectorReader(decoded, 1, 16)
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    read(execution, first)
    let [common, lacking] = [0, 0]
    for (let word = 0; word < 4; word++) {
      common |= first.words[word]! & second.words[word]!
      lacking |= ~first.words[word]! & second.words[word]!
    }
    execution.replaceFlags(STATUS, (common === 0 ? ZF : 0) | (lacking === 0 ? CF : 0))
  }
}

const chooser = new Vector()

/** Elements of the second operand where the sign of XMM0's is set. */
function blendVariable(
  decoded: DecodedInstruction,
  view: 'int8' | 'words',
): ReturnType<Translator> {
  const require = availability(decoded)
  const { read, write } = destinationOf(decoded)
  const readSecond = vectorReader(decoded, 1, 16)
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    readXmm(execution.cpu.floatingPoint.xmm, 0, chooser)
    read(execution, first)
    for (const [at, by] of chooser[view].entries()) {
      if (by < 0) first[view][at] = second[view][at]!
    }
    write(execution, first)
  }
}

function blendVariable64(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const { read, write } = destinationOf(decoded)
  const readSecond = vectorReader(decoded, 1, 16)
  return (general, execution) => {
    require(execution)
    readSecond(general, execution, second)
    readXmm(execution.cpu.floatingPoint.xmm, 0, chooser)
    read(execution, first)
    for (const at of [0, 1]) {
      if (chooser.words[at * 2 + 1]! < 0) first.uint64[at] = second.uint64[at]!
    }
    write(execution, first)
  }
}
