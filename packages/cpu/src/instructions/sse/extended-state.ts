import { Cr0, Cr4, DeviceNotAvailable, Gpr } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'

import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { hasInstructionSet } from '../../system/instruction-sets.ts'
import {
  type ImageFormat,
  initialiseX87,
  isX87InUse,
  LEGACY_WORDS,
  loadX87,
  MXCSR_MASK,
  MXCSR_WORD,
  storeX87,
  XMM_WORD,
} from '../../x87/state-image.ts'
import {
  STATE_COMPONENTS,
  SSE_COMPONENT as SSE,
  X87_COMPONENT as X87,
  XSAVE_HEADER_WORDS as HEADER_WORDS,
} from '../../x87/state-components.ts'
import { supervisorOnly } from '../system/privilege.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { probeForWrite, storeWords } from './operands.ts'
import { checkAlignment, checkMxcsr, loadVectors, loadWords, vectorWords } from './state-area.ts'

const HEADER_WORD = LEGACY_WORDS
const EAX = Gpr.RAX * 2
const ECX = Gpr.RCX * 2
const EDX = Gpr.RDX * 2
const MXCSR_AT_RESET = 0x1f80
/** XCOMP_BV: the area is in the compacted format; a bit of its upper half. */
const COMPACTED = 0x8000_0000 | 0

/** XSAVE and its like, and the register that says what they handle (SDM Vol. 1, 13). */
export const EXTENDED_STATE: InstructionFamily = {
  name: 'extended state',
  translators: new Map<Mnemonic, Translator>([
    [Mnemonic.Xgetbv, xgetbv],
    [Mnemonic.Xsetbv, xsetbv],
    [Mnemonic.Xsave, (decoded) => xsave(decoded, { wide: false })],
    [Mnemonic.Xsave64, (decoded) => xsave(decoded, { wide: true })],
    [Mnemonic.Xsavec, (decoded) => xsavec(decoded, { wide: false })],
    [Mnemonic.Xsavec64, (decoded) => xsavec(decoded, { wide: true })],
    [Mnemonic.Xrstor, (decoded) => xrstor(decoded, { wide: false })],
    [Mnemonic.Xrstor64, (decoded) => xrstor(decoded, { wide: true })],
  ]),
}

const image = new Int32Array(LEGACY_WORDS + HEADER_WORDS)

/** #UD where CR4.OSXSAVE is clear (SDM Vol. 2, XGETBV). */
function requireOsxsave(execution: Execution, { bytes }: DecodedInstruction): void {
  if ((execution.cpu.cr4 & Cr4.OSXSAVE) === 0) throw execution.invalidOpcode(bytes)
}

/** #UD where CR4.OSXSAVE is clear, #NM where CR0.TS is set (SDM Vol. 2, XSAVE). */
function requireXsave(execution: Execution, decoded: DecodedInstruction): void {
  requireOsxsave(execution, decoded)
  const { cpu } = execution
  if ((cpu.cr0 & Cr0.TS) !== 0) throw cpu.raise((site) => new DeviceNotAvailable(site))
}

/** Whether the CPU has the compacted format, and XGETBV of the components in use: processors got both at once. */
function hasCompaction({ cpu }: Execution): boolean {
  return hasInstructionSet(cpu.machine.features, 'XSAVEC')
}

/** XGETBV: XCR0, or with 1 in ECX those of its components that are in use. There are no other registers. */
function xgetbv(decoded: DecodedInstruction): ReturnType<Translator> {
  return (general, execution) => {
    requireOsxsave(execution, decoded)
    const index = general[ECX]! >>> 0
    if (index > 1 || (index === 1 && !hasCompaction(execution))) {
      throw execution.generalProtection('there is no such extended control register', BigInt(index))
    }
    const { xcr0 } = execution.cpu.floatingPoint
    general[EAX] = index === 0 ? xcr0 : xcr0 & inUse(execution)
    general[EAX + 1] = 0
    general[EDX] = 0
    general[EDX + 1] = 0
  }
}

/** XSETBV: XCR0 always has the x87, and nothing that CPUID does not tell of. */
function xsetbv(decoded: DecodedInstruction): ReturnType<Translator> {
  const write = supervisorOnly('XSETBV', (general, execution) => {
    const index = general[ECX]! >>> 0
    if (index !== 0) {
      throw execution.generalProtection('there is no such extended control register', BigInt(index))
    }
    const value = general[EAX]!
    if (general[EDX] !== 0 || (value & ~STATE_COMPONENTS) !== 0 || (value & X87) === 0) {
      throw execution.generalProtection('XCR0 has x87 state, and may have SSE', BigInt(value >>> 0))
    }
    execution.cpu.floatingPoint.xcr0 = value
  })
  return (general, execution) => {
    requireOsxsave(execution, decoded)
    write(general, execution)
  }
}

/** XINUSE: components that are not in their initial configurations. */
function inUse({ cpu }: Execution): number {
  const isSseInUse = cpu.floatingPoint.xmm.some((word) => word !== 0)
  return (isX87InUse(cpu) ? X87 : 0) | (isSseInUse ? SSE : 0)
}

/** The components that an instruction is about: those of EDX:EAX that XCR0 has. */
function requested(general: Int32Array, { cpu }: Execution): number {
  return general[EAX]! & cpu.floatingPoint.xcr0
}

/** Puts components into the image. */
function storeComponents(
  decoded: DecodedInstruction,
  { cpu }: Execution,
  components: number,
  format: ImageFormat,
): void {
  if ((components & X87) !== 0) storeX87(cpu, image, format)
  if ((components & SSE) === 0) return
  image[MXCSR_WORD] = cpu.mxcsr
  image[MXCSR_WORD + 1] = MXCSR_MASK
  image.set(cpu.floatingPoint.xmm.subarray(0, vectorWords(decoded)), XMM_WORD)
}

/** XSAVE: each requested component, and its bit of XSTATE_BV; what else is in the area stays. */
function xsave(decoded: DecodedInstruction, format: ImageFormat): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireXsave(execution, decoded)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 64)
    const components = requested(general, execution)
    loadWordsToModify(execution, high, low, image)
    storeComponents(decoded, execution, components, format)
    image[HEADER_WORD] = (image[HEADER_WORD]! & ~components) | (inUse(execution) & components)
    storeWords(execution, high, low, image.subarray(0, HEADER_WORD + 2))
  }
}

/** XSAVEC: of the requested components those in use, and both words of the header; an MXCSR that is not as at reset counts as SSE in use (SDM Vol. 1, 13.10). */
function xsavec(decoded: DecodedInstruction, format: ImageFormat): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    if (!hasCompaction(execution)) throw execution.invalidOpcode(decoded.bytes)
    requireXsave(execution, decoded)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 64)
    const components = requested(general, execution)
    loadWordsToModify(execution, high, low, image)
    const isMxcsrInUse = execution.cpu.mxcsr !== MXCSR_AT_RESET
    const stored = (inUse(execution) | (isMxcsrInUse ? SSE : 0)) & components
    storeComponents(decoded, execution, stored, format)
    image.set([stored, 0, components, COMPACTED], HEADER_WORD)
    storeWords(execution, high, low, image.subarray(0, HEADER_WORD + 4))
  }
}

/** XRSTOR. A component whose bit in XSTATE_BV is clear is put into its initial configuration. */
function xrstor(decoded: DecodedInstruction, format: ImageFormat): ReturnType<Translator> {
  const { memory } = decoded
  return (general, execution) => {
    requireXsave(execution, decoded)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    checkAlignment(execution, low, 64)
    loadWords(execution, high, low, image)
    const { cpu } = execution
    const header = image.subarray(HEADER_WORD)
    if (!isValidHeader(execution, header)) {
      throw execution.generalProtection('the header of an XSAVE area is not valid')
    }
    const components = requested(general, execution)
    const present = header[0]! & components
    if ((components & SSE) !== 0) checkMxcsr(execution, image[MXCSR_WORD]!)
    if ((present & X87) !== 0) loadX87(cpu, image, format)
    else if ((components & X87) !== 0) initialiseX87(cpu)
    if ((components & SSE) === 0) return
    if ((present & SSE) !== 0) loadVectors(decoded, execution, image)
    else cpu.floatingPoint.xmm.fill(0, 0, vectorWords(decoded))
    const isCompacted = header[3]! < 0
    cpu.mxcsr = isCompacted && (present & SSE) === 0 ? MXCSR_AT_RESET : image[MXCSR_WORD]!
  }
}

function isZero(word: number): boolean {
  return word === 0
}

/** XSTATE_BV in words 0 and 1, XCOMP_BV in words 2 and 3, and what must be 0 behind them (SDM Vol. 1, 13.8.1 and 13.8.2). */
function isValidHeader(execution: Execution, header: Int32Array): boolean {
  const { xcr0 } = execution.cpu.floatingPoint
  if (header[1] !== 0 || (header[0]! & ~xcr0) !== 0) return false
  if (header[3]! >= 0) return header.subarray(2, 6).every(isZero)
  return (
    hasCompaction(execution) &&
    header[3] === COMPACTED &&
    (header[2]! & ~xcr0) === 0 &&
    (header[0]! & ~header[2]!) === 0 &&
    header.subarray(4).every(isZero)
  )
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
