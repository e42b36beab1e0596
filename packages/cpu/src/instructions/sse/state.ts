import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import { reader, writer } from '../../operands.ts'
import {
  type ImageFormat,
  LEGACY_WORDS,
  loadX87,
  MXCSR_MASK,
  MXCSR_WORD,
  storeX87,
  WRITTEN_WORDS,
  XMM_WORD,
} from '../../x87/state-image.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { requireMmx, requireSse, requireX87 } from './availability.ts'
import { hasEarlyMmx, probeForWrite, storeWords } from './operands.ts'
import { checkAlignment, checkMxcsr, loadVectors, loadWords, vectorWords } from './state-area.ts'

/** TOP of the x87 status word. */
const TOP = 0x3800

/** MXCSR, FXSAVE and FXRSTOR, and what empties the MMX registers (SDM Vol. 1, 10.5). */
export const FLOATING_POINT_STATE: InstructionFamily = {
  name: 'floating-point state',
  translators: new Map<Mnemonic, Translator>([
    [Mnemonic.Ldmxcsr, loadMxcsr],
    [Mnemonic.Stmxcsr, storeMxcsr],
    [Mnemonic.Emms, emptyMmx],
    [Mnemonic.Fxsave, (decoded) => fxsave(decoded, { wide: false })],
    [Mnemonic.Fxsave64, (decoded) => fxsave(decoded, { wide: true })],
    [Mnemonic.Fxrstor, (decoded) => fxrstor(decoded, { wide: false })],
    [Mnemonic.Fxrstor64, (decoded) => fxrstor(decoded, { wide: true })],
  ]),
}

const image = new Int32Array(LEGACY_WORDS)

function loadMxcsr(decoded: DecodedInstruction): ReturnType<Translator> {
  const read = reader(decoded, 0, 4)
  return (general, execution) => {
    requireSse(execution)
    const value = read(general, execution)
    checkMxcsr(execution, value)
    execution.cpu.mxcsr = value
  }
}

function storeMxcsr(decoded: DecodedInstruction): ReturnType<Translator> {
  const write = writer(decoded, 0, 4)
  return (general, execution) => {
    requireSse(execution)
    write(general, execution, execution.cpu.mxcsr)
  }
}

/** EMMS: all x87 registers are empty. Processors of Intel make R0 the top of the stack (SDM Vol. 3, table 12-1); for AMD's the tags are all that changes (APM Vol. 5, EMMS). */
function emptyMmx(): ReturnType<Translator> {
  return (_general, execution) => {
    requireMmx(execution)
    const { floatingPoint } = execution.cpu
    floatingPoint.tags = 0
    if (!hasEarlyMmx(execution.cpu)) floatingPoint.statusWord &= ~TOP
  }
}

function fxsave(decoded: DecodedInstruction, format: ImageFormat): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireX87(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 16)
    // Software's part of the area is not written, but it has to be there.
    probeForWrite(execution, high, low, LEGACY_WORDS * 4)
    const { cpu } = execution
    storeX87(cpu, image, format)
    image[MXCSR_WORD] = cpu.mxcsr
    image[MXCSR_WORD + 1] = MXCSR_MASK
    image.set(cpu.floatingPoint.xmm.subarray(0, vectorWords(decoded)), XMM_WORD)
    const words = decoded.bits === 64 ? WRITTEN_WORDS : XMM_WORD + vectorWords(decoded)
    storeWords(execution, high, low, image.subarray(0, words))
  }
}

function fxrstor(decoded: DecodedInstruction, format: ImageFormat): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireX87(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 16)
    loadWords(execution, high, low, image)
    const { cpu } = execution
    checkMxcsr(execution, image[MXCSR_WORD]!)
    loadX87(cpu, image, format)
    cpu.mxcsr = image[MXCSR_WORD]!
    loadVectors(decoded, execution, image)
  }
}
