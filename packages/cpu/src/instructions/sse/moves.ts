import { Gpr } from '@trapdoor/core'
import { Code, Mnemonic, Register } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { reader, wideReader, wideWriter, writer } from '../../operands.ts'
import { Vector } from '../../vector/vector.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import {
  type Alignment,
  availability,
  enterMmxState,
  loadVector,
  mmxNumber,
  probeForWrite,
  readXmm,
  storeVector,
  vectorReader,
  writeMmx,
  writeXmm,
  xmmNumber,
} from './operands.ts'

const scratch = new Vector()
const selector = new Vector()
const RDI_WORD = Gpr.RDI * 2

/** Moves between vector registers, memory and general registers (SDM Vol. 2). */
export const VECTOR_MOVES: InstructionFamily = {
  name: 'vector moves',
  translators: new Map<Mnemonic, Translator>([
    ...wholeMoves([Mnemonic.Movaps, Mnemonic.Movapd, Mnemonic.Movdqa], 16),
    ...wholeMoves([Mnemonic.Movntps, Mnemonic.Movntpd, Mnemonic.Movntdq, Mnemonic.Movntdqa], 16),
    ...wholeMoves([Mnemonic.Movups, Mnemonic.Movupd, Mnemonic.Movdqu, Mnemonic.Lddqu], 1),
    [Mnemonic.Movss, (decoded) => moveScalar(decoded, 4)],
    // The string instruction has the same mnemonic.
    [Mnemonic.Movsd, (decoded) => (isOfSse(decoded) ? moveScalar(decoded, 8) : undefined)],
    [Mnemonic.Movd, moveGeneral],
    [Mnemonic.Movq, moveGeneral],
    [Mnemonic.Movlps, (decoded) => moveHalf(decoded, 0)],
    [Mnemonic.Movlpd, (decoded) => moveHalf(decoded, 0)],
    [Mnemonic.Movhps, (decoded) => moveHalf(decoded, 2)],
    [Mnemonic.Movhpd, (decoded) => moveHalf(decoded, 2)],
    [Mnemonic.Movhlps, (decoded) => moveBetweenHalves(decoded, { from: 2, to: 0 })],
    [Mnemonic.Movlhps, (decoded) => moveBetweenHalves(decoded, { from: 0, to: 2 })],
    [Mnemonic.Movdq2q, moveToMmx],
    [Mnemonic.Movq2dq, moveFromMmx],
    [Mnemonic.Movntq, moveGeneral],
    [Mnemonic.Movnti, storeGeneral],
    [Mnemonic.Maskmovdqu, storeMasked],
    [Mnemonic.Maskmovq, storeMasked],
  ]),
}

function isOfSse({ code }: DecodedInstruction): boolean {
  return code === Code.Movsd_xmm_xmmm64 || code === Code.Movsd_xmmm64_xmm
}

function wholeMoves(
  mnemonics: readonly Mnemonic[],
  alignment: Alignment,
): (readonly [Mnemonic, Translator])[] {
  return mnemonics.map((mnemonic) => [mnemonic, (decoded) => moveWhole(decoded, alignment)])
}

function moveWhole(decoded: DecodedInstruction, alignment: Alignment): ReturnType<Translator> {
  const require = availability(decoded)
  if (decoded.isMemory(0)) {
    const { memory } = decoded
    const from = xmmNumber(decoded, 1)!
    return (general, execution) => {
      require(execution)
      readXmm(execution.cpu.floatingPoint.xmm, from, scratch)
      storeVector(general, execution, { memory, bytes: 16, alignment }, scratch)
    }
  }
  const read = vectorReader(decoded, 1, alignment)
  const to = xmmNumber(decoded, 0)!
  return (general, execution) => {
    require(execution)
    read(general, execution, scratch)
    writeXmm(execution.cpu.floatingPoint.xmm, to, scratch)
  }
}

/** MOVSS and MOVSD: what comes from memory clears the rest of the register, what comes from a register does not. */
function moveScalar(decoded: DecodedInstruction, bytes: 4 | 8): ReturnType<Translator> {
  const require = availability(decoded)
  if (decoded.isMemory(0)) {
    const { memory } = decoded
    const from = xmmNumber(decoded, 1)!
    return (general, execution) => {
      require(execution)
      readXmm(execution.cpu.floatingPoint.xmm, from, scratch)
      storeVector(general, execution, { memory, bytes, alignment: 1 }, scratch)
    }
  }
  const to = xmmNumber(decoded, 0)!
  const read = vectorReader(decoded, 1, 1)
  if (decoded.isMemory(1)) {
    return (general, execution) => {
      require(execution)
      read(general, execution, scratch)
      writeXmm(execution.cpu.floatingPoint.xmm, to, scratch)
    }
  }
  return (general, execution) => {
    require(execution)
    const { xmm } = execution.cpu.floatingPoint
    read(general, execution, scratch)
    for (let word = 0; word < bytes / 4; word++) xmm[to * 4 + word] = scratch.words[word]!
  }
}

/** MOVD and MOVQ: between a vector register and a general register, memory or another vector register, whose rest is cleared. */
function moveGeneral(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const bytes = generalBytes(decoded)
  const read = sourceReader(decoded, bytes)
  const mmx = mmxNumber(decoded, 0)
  const xmm = xmmNumber(decoded, 0)
  const isOfMmx = mmxNumber(decoded, 1) !== undefined
  if (mmx !== undefined) {
    return (general, execution) => {
      require(execution)
      read(general, execution, scratch)
      enterMmxState(execution)
      writeMmx(execution, mmx, scratch.words[0]!, scratch.words[1]!)
    }
  }
  if (xmm !== undefined) {
    return (general, execution) => {
      require(execution)
      read(general, execution, scratch)
      scratch.words[2] = 0
      scratch.words[3] = 0
      writeXmm(execution.cpu.floatingPoint.xmm, xmm, scratch)
    }
  }
  const write = bytes === 4 ? writer(decoded, 0, 4) : undefined
  const writeWide = wideWriter(decoded, 0)
  return (general, execution) => {
    require(execution)
    read(general, execution, scratch)
    if (write !== undefined) write(general, execution, scratch.words[0]!)
    else writeWide(general, execution, scratch.words[0]!, scratch.words[1]!)
    if (isOfMmx) enterMmxState(execution)
  }
}

function generalBytes(decoded: DecodedInstruction): 4 | 8 {
  for (const operand of [0, 1]) {
    if (decoded.isMemory(operand)) return decoded.memoryBytes as 4 | 8
    const register = decoded.instruction.opRegister(operand)
    if (register >= Register.EAX && register <= Register.R15D) return 4
  }
  return 8
}

/** Reads the second operand of MOVD or MOVQ, whatever it is; what lies above its bytes becomes 0. */
function sourceReader(
  decoded: DecodedInstruction,
  bytes: 4 | 8,
): (general: Int32Array, execution: Execution, into: Vector) => void {
  const isVector = xmmNumber(decoded, 1) !== undefined || mmxNumber(decoded, 1) !== undefined
  if (isVector || decoded.isMemory(1)) return vectorReader(decoded, 1, 1)
  if (bytes === 4) {
    const read = reader(decoded, 1, 4)
    return (general, execution, { words }) => {
      words[0] = read(general, execution)
      words[1] = 0
    }
  }
  const read = wideReader(decoded, 1)
  return (general, execution, { words }) => {
    words[0] = read(general, execution)
    words[1] = execution.high
  }
}

/** The half of a register that begins at `word`, from or to memory. */
function moveHalf(decoded: DecodedInstruction, word: 0 | 2): ReturnType<Translator> {
  const require = availability(decoded)
  const { memory } = decoded
  if (decoded.isMemory(0)) {
    const from = xmmNumber(decoded, 1)! * 4 + word
    return (general, execution) => {
      require(execution)
      const { xmm } = execution.cpu.floatingPoint
      const low = execution.address(general, memory)
      execution.store64(execution.addressHigh, low, xmm[from]!, xmm[from + 1]!)
    }
  }
  const to = xmmNumber(decoded, 0)! * 4 + word
  return (general, execution) => {
    require(execution)
    loadVector(general, execution, { memory, bytes: 8, alignment: 1 }, scratch)
    const { xmm } = execution.cpu.floatingPoint
    xmm[to] = scratch.words[0]!
    xmm[to + 1] = scratch.words[1]!
  }
}

function moveBetweenHalves(
  decoded: DecodedInstruction,
  { from, to }: { readonly from: 0 | 2; readonly to: 0 | 2 },
): ReturnType<Translator> {
  const require = availability(decoded)
  const target = xmmNumber(decoded, 0)! * 4 + to
  const source = xmmNumber(decoded, 1)! * 4 + from
  return (_general, execution) => {
    require(execution)
    execution.cpu.floatingPoint.xmm.copyWithin(target, source, source + 2)
  }
}

function moveToMmx(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const to = mmxNumber(decoded, 0)!
  const from = xmmNumber(decoded, 1)! * 4
  return (_general, execution) => {
    require(execution)
    const { xmm } = execution.cpu.floatingPoint
    enterMmxState(execution)
    writeMmx(execution, to, xmm[from]!, xmm[from + 1]!)
  }
}

function moveFromMmx(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const read = vectorReader(decoded, 1, 1)
  const to = xmmNumber(decoded, 0)!
  return (general, execution) => {
    require(execution)
    read(general, execution, scratch)
    enterMmxState(execution)
    writeXmm(execution.cpu.floatingPoint.xmm, to, scratch)
  }
}

/** MOVNTI: a general register into memory, past the caches. */
function storeGeneral(decoded: DecodedInstruction): ReturnType<Translator> {
  if (decoded.memoryBytes === 4) {
    const read = reader(decoded, 1, 4)
    const write = writer(decoded, 0, 4)
    return (general, execution) => {
      write(general, execution, read(general, execution))
    }
  }
  const read = wideReader(decoded, 1)
  const write = wideWriter(decoded, 0)
  return (general, execution) => {
    const low = read(general, execution)
    write(general, execution, low, execution.high)
  }
}

/** MASKMOVDQU and MASKMOVQ: the bytes whose mask has its sign set, to the address in DI. */
function storeMasked(decoded: DecodedInstruction): ReturnType<Translator> {
  const require = availability(decoded)
  const operand = decoded.operands - 2
  const readValue = vectorReader(decoded, operand, 1)
  const readMask = vectorReader(decoded, operand + 1, 1)
  const isOfMmx = mmxNumber(decoded, operand) !== undefined
  const bytes = isOfMmx ? 8 : 16
  const { instruction } = decoded
  // Only flat addresses of the mode's own size: nobody uses others.
  const isPlain =
    decoded.bits === 64 &&
    instruction.segmentPrefix !== Register.FS &&
    instruction.segmentPrefix !== Register.GS
  if (!isPlain) return undefined
  return (general, execution) => {
    require(execution)
    readValue(general, execution, scratch)
    readMask(general, execution, selector)
    const low = general[RDI_WORD]!
    const high = general[RDI_WORD + 1]!
    const chosen = [...selector.int8.subarray(0, bytes).keys()].filter(
      (at) => selector.int8[at]! < 0,
    )
    // No byte is written where one of them cannot be.
    const places = chosen.map((at) => {
      const place = (low + at) | 0
      return { at, low: place, high: place >>> 0 < low >>> 0 ? (high + 1) | 0 : high }
    })
    for (const place of places) probeForWrite(execution, place.high, place.low, 1)
    for (const place of places) execution.store8(place.high, place.low, scratch.uint8[place.at]!)
    if (isOfMmx) enterMmxState(execution)
  }
}
