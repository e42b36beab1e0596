import { Cr0, Cr4, DeviceNotAvailable, Gpr } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { reader, writer } from '../../operands.ts'
import {
  initialiseX87,
  isX87InUse,
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
import { probeForWrite, storeWords } from './operands.ts'

/** State components of XSAVE (SDM Vol. 1, 13.1). Others are not modelled: CPUID does not have them. */
const X87 = 1
const SSE = 2
const HEADER_WORD = LEGACY_WORDS
const HEADER_WORDS = 16
const EAX = Gpr.RAX * 2
const MXCSR_AT_RESET = 0x1f80

/** Instructions that store and load whole states: MXCSR, FXSAVE, XSAVE and what empties the MMX registers (SDM Vol. 1, 10.5 and 13). */
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
    [Mnemonic.Xsave, (decoded) => xsave(decoded, { wide: false })],
    [Mnemonic.Xsave64, (decoded) => xsave(decoded, { wide: true })],
    [Mnemonic.Xrstor, (decoded) => xrstor(decoded, { wide: false })],
    [Mnemonic.Xrstor64, (decoded) => xrstor(decoded, { wide: true })],
  ]),
}

const image = new Int32Array(LEGACY_WORDS + HEADER_WORDS)

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

/** #GP(0) for a bit that MXCSR does not have. */
function checkMxcsr(execution: Execution, value: number): void {
  if ((value & ~MXCSR_MASK) === 0) return
  throw execution.generalProtection('MXCSR has no such bits', BigInt(value >>> 0))
}

/** EMMS: all x87 registers are empty. */
function emptyMmx(): ReturnType<Translator> {
  return (_general, execution) => {
    requireMmx(execution)
    execution.cpu.floatingPoint.tags = 0
  }
}

interface Format {
  readonly wide: boolean
}

function fxsave(decoded: DecodedInstruction, format: Format): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireX87(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 16)
    const { cpu } = execution
    storeX87(cpu, image, format)
    image[MXCSR_WORD] = cpu.mxcsr
    image[MXCSR_WORD + 1] = MXCSR_MASK
    image.set(cpu.floatingPoint.xmm.subarray(0, vectorWords(decoded)), XMM_WORD)
    const words = decoded.bits === 64 ? WRITTEN_WORDS : XMM_WORD + vectorWords(decoded)
    storeWords(execution, high, low, image.subarray(0, words))
  }
}

/** Words of the XMM registers that a mode has. */
function vectorWords({ bits }: DecodedInstruction): number {
  return bits === 64 ? 64 : 32
}

function fxrstor(decoded: DecodedInstruction, format: Format): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireX87(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 16)
    loadWords(execution, high, low, image.subarray(0, LEGACY_WORDS))
    const { cpu } = execution
    checkMxcsr(execution, image[MXCSR_WORD]!)
    loadX87(cpu, image, format)
    cpu.mxcsr = image[MXCSR_WORD]!
    loadVectors(decoded, execution)
  }
}

function loadVectors(decoded: DecodedInstruction, { cpu }: Execution): void {
  const words = vectorWords(decoded)
  cpu.floatingPoint.xmm.set(image.subarray(XMM_WORD, XMM_WORD + words))
}

/** The components that an instruction is about: those of EDX:EAX that XCR0 has. */
function requested(general: Int32Array, { cpu }: Execution): number {
  return general[EAX]! & cpu.floatingPoint.xcr0
}

/** #UD where CR4.OSXSAVE is clear, #NM where CR0.TS is set (SDM Vol. 2, XSAVE). */
function requireXsave(execution: Execution): void {
  const { cpu } = execution
  if ((cpu.cr4 & Cr4.OSXSAVE) === 0) throw execution.invalidOpcode(new Uint8Array())
  if ((cpu.cr0 & Cr0.TS) !== 0) throw cpu.raise((site) => new DeviceNotAvailable(site))
}

/** XSAVE: each requested component, and its bit of XSTATE_BV; what else is in the area stays. */
function xsave(decoded: DecodedInstruction, format: Format): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireXsave(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 64)
    const { cpu } = execution
    const components = requested(general, execution)
    loadWordsToModify(execution, high, low, image)
    if ((components & X87) !== 0) storeX87(cpu, image, format)
    if ((components & SSE) !== 0) {
      image[MXCSR_WORD] = cpu.mxcsr
      image[MXCSR_WORD + 1] = MXCSR_MASK
      image.set(cpu.floatingPoint.xmm.subarray(0, vectorWords(decoded)), XMM_WORD)
    }
    const inUse =
      (isX87InUse(cpu) ? X87 : 0) | (cpu.floatingPoint.xmm.some((word) => word !== 0) ? SSE : 0)
    image[HEADER_WORD] = (image[HEADER_WORD]! & ~components) | (inUse & components)
    storeWords(execution, high, low, image.subarray(0, HEADER_WORD + 2))
  }
}

/** XRSTOR of the standard form. A component whose bit in XSTATE_BV is clear is put into its initial configuration. */
function xrstor(decoded: DecodedInstruction, format: Format): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireXsave(execution)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 64)
    loadWords(execution, high, low, image)
    const { cpu } = execution
    const { xcr0 } = cpu.floatingPoint
    const header = image.subarray(HEADER_WORD)
    const isCompacted = header[3]! < 0
    const mustBeZero = isCompacted ? header.subarray(4, HEADER_WORDS) : header.subarray(2, 6)
    const isBad =
      header[1] !== 0 ||
      (header[0]! & ~xcr0) !== 0 ||
      mustBeZero.some((word) => word !== 0) ||
      (isCompacted &&
        ((header[3]! & 0x7fff_ffff) !== 0 ||
          (header[2]! & ~xcr0) !== 0 ||
          (header[0]! & ~header[2]!) !== 0))
    if (isBad) throw execution.generalProtection('the header of an XSAVE area is not valid')
    const components = requested(general, execution)
    const present = header[0]! & components
    if ((components & SSE) !== 0) checkMxcsr(execution, image[MXCSR_WORD]!)
    if ((present & X87) !== 0) loadX87(cpu, image, format)
    else if ((components & X87) !== 0) initialiseX87(cpu)
    if ((components & SSE) === 0) return
    if ((present & SSE) !== 0) loadVectors(decoded, execution)
    else cpu.floatingPoint.xmm.fill(0, 0, vectorWords(decoded))
    cpu.mxcsr = isCompacted && (present & SSE) === 0 ? MXCSR_AT_RESET : image[MXCSR_WORD]!
  }
}

function checkAlignment(execution: Execution, low: number, alignment: 16 | 64): void {
  if ((low & (alignment - 1)) === 0) return
  throw execution.generalProtection(`a state area is not aligned to ${alignment} bytes`)
}

function loadWords(execution: Execution, high: number, low: number, into: Int32Array): void {
  let [atLow, atHigh] = [low, high]
  for (let word = 0; word < into.length; word += 2) {
    into[word] = execution.load64(atHigh, atLow)
    into[word + 1] = execution.high
    const next = (atLow + 8) | 0
    if (next >>> 0 < atLow >>> 0) atHigh = (atHigh + 1) | 0
    atLow = next
  }
}

function loadWordsToModify(
  execution: Execution,
  high: number,
  low: number,
  into: Int32Array,
): void {
  probeForWrite(execution, high, low, into.length * 4)
  loadWords(execution, high, low, into)
}
