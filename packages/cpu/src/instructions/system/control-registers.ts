import { Cr0, Cr4, type Cpu } from '@trapdoor/core'
import { Mnemonic, Register } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import { hasInstructionSet, type InstructionSet } from '../../system/instruction-sets.ts'
import { invalidOpcode } from '../undefined.ts'
import type { InstructionFamily, Translator } from '../table.ts'
import { supervisorOnly } from './privilege.ts'

/** Bits of DR6 and DR7 that always read as set (SDM Vol. 3, 18.2.3 and 18.2.4), those of DR7 that enable breakpoints, and general detect. */
const DR6_FIXED = 0xffff_0ff0n
const DR7_FIXED = 0x400n
const DR7_BREAKPOINTS = 0xffn
const DR7_GENERAL_DETECT = 0x2000n
const DR7_BITS = 0xffff_2bffn

/** Number of the control or debug register that is an operand, or undefined. */
function registerNumber(
  decoded: DecodedInstruction,
  operand: number,
  first: Register,
): number | undefined {
  if (!decoded.isRegister(operand)) return undefined
  const number = decoded.instruction.opRegister(operand) - first
  return number >= 0 && number <= 15 ? number : undefined
}

/** MOV to and from control and debug registers, whose other operand is a general register of 32 bits, or in 64-bit mode of 64. */
const mov: Translator = (decoded) => {
  const controlTarget = registerNumber(decoded, 0, Register.CR0)
  if (controlTarget !== undefined) return moveToControl(decoded, controlTarget)
  const controlSource = registerNumber(decoded, 1, Register.CR0)
  if (controlSource !== undefined) return moveFromControl(decoded, controlSource)
  const debugTarget = registerNumber(decoded, 0, Register.DR0)
  if (debugTarget !== undefined) return moveToDebug(decoded, debugTarget)
  const debugSource = registerNumber(decoded, 1, Register.DR0)
  if (debugSource !== undefined) return moveFromDebug(decoded, debugSource)
  return undefined
}

function moveToControl(decoded: DecodedInstruction, number: number): Operation {
  const { word } = decoded.register(1)
  const isWide = decoded.bits === 64
  const operand = (general: Int32Array): bigint =>
    join(isWide ? general[word + 1]! : 0, general[word]!)
  const write = CONTROL_WRITES.get(number)
  if (write === undefined) return invalidOpcode(decoded.bytes)
  return supervisorOnly('MOV to a control register', (general, execution) => {
    write(execution, operand(general))
  })
}

/** Bits of CR4 that are reserved where CPUID does not tell of what they switch on (SDM Vol. 3, 2.5), those of paging apart, which core knows. */
const CR4_OF_INSTRUCTION_SETS: readonly (readonly [number, InstructionSet])[] = [
  [Cr4.UMIP, 'UMIP'],
  [Cr4.FSGSBASE, 'FSGSBASE'],
  [Cr4.OSXSAVE, 'XSAVE'],
]

const CONTROL_WRITES: ReadonlyMap<number, (execution: Execution, value: bigint) => void> = new Map([
  [
    0,
    ({ cpu }, value) => {
      cpu.writeCr0(Number(value))
    },
  ],
  [
    2,
    ({ cpu }, value) => {
      cpu.cr2 = value
    },
  ],
  [
    3,
    ({ cpu }, value) => {
      cpu.writeCr3(value)
    },
  ],
  [
    4,
    (execution, value) => {
      const { cpu } = execution
      for (const [bit, set] of CR4_OF_INSTRUCTION_SETS) {
        if ((value & BigInt(bit)) !== 0n && !hasInstructionSet(cpu.machine.features, set)) {
          throw execution.generalProtection(`CR4 has no bit for ${set} here`, value)
        }
      }
      cpu.writeCr4(Number(value))
    },
  ],
  [8, writeTaskPriority],
])

function writeTaskPriority(execution: Execution, value: bigint): void {
  if (value > 0xfn) throw execution.generalProtection('CR8 has 4 bits', value)
  requireApic(execution).taskPriorityClass = Number(value)
  // A lower priority may let an interrupt in.
  execution.callAttention()
}

/** CR8 is the APIC's: without one there is nothing that could hold it. */
function requireApic(execution: Execution): NonNullable<Cpu['localApic']> {
  const { localApic } = execution.cpu
  if (localApic === undefined) throw execution.missingInstruction('mov cr8', new Uint8Array())
  return localApic
}

function moveFromControl(decoded: DecodedInstruction, number: number): Operation {
  const { word } = decoded.register(0)
  const isWide = decoded.bits === 64
  const read = CONTROL_READS.get(number)
  if (read === undefined) return invalidOpcode(decoded.bytes)
  return supervisorOnly('MOV from a control register', (general, execution) => {
    const value = read(execution)
    general[word] = lowHalf(value)
    general[word + 1] = isWide ? highHalf(value) : 0
  })
}

const CONTROL_READS: ReadonlyMap<number, (execution: Execution) => bigint> = new Map([
  [0, ({ cpu }) => BigInt(cpu.cr0)],
  [2, ({ cpu }) => cpu.cr2],
  [3, ({ cpu }) => BigInt(cpu.cr3)],
  [4, ({ cpu }) => BigInt(cpu.cr4)],
  [8, (execution) => BigInt(requireApic(execution).taskPriorityClass)],
])

/** DR4 and DR5 are DR6 and DR7 while CR4.DE is clear; else they are #UD (SDM Vol. 3, 18.2.2). */
function debugNumber(execution: Execution, { bytes }: DecodedInstruction, number: number): number {
  if (number !== 4 && number !== 5) return number
  if ((execution.cpu.cr4 & Cr4.DE) !== 0) throw execution.invalidOpcode(bytes)
  return number + 2
}

function moveToDebug(decoded: DecodedInstruction, encoded: number): Operation {
  if (encoded > 7) return invalidOpcode(decoded.bytes)
  const { word } = decoded.register(1)
  const isWide = decoded.bits === 64
  return supervisorOnly('MOV to a debug register', (general, execution) => {
    const { cpu } = execution
    const number = debugNumber(execution, decoded, encoded)
    const value = join(isWide ? general[word + 1]! : 0, general[word]!)
    if (number >= 6 && value >> 32n !== 0n) {
      throw execution.generalProtection(`DR${number} has 32 bits`, value)
    }
    // Breakpoints do not break here: whoever wants them must not go on as if they did.
    if (number === 7 && (value & (DR7_BREAKPOINTS | DR7_GENERAL_DETECT)) !== 0n) {
      throw execution.missingInstruction('mov dr7 with breakpoints enabled', decoded.bytes)
    }
    const stored =
      number === 6
        ? (value & 0x1_e00fn) | DR6_FIXED
        : number === 7
          ? (value & DR7_BITS) | DR7_FIXED
          : value
    cpu.debugRegisters = cpu.debugRegisters.with(number, stored)
  })
}

function moveFromDebug(decoded: DecodedInstruction, encoded: number): Operation {
  if (encoded > 7) return invalidOpcode(decoded.bytes)
  const { word } = decoded.register(0)
  const isWide = decoded.bits === 64
  return supervisorOnly('MOV from a debug register', (general, execution) => {
    const value = execution.cpu.debugRegisters[debugNumber(execution, decoded, encoded)]!
    general[word] = lowHalf(value)
    general[word + 1] = isWide ? highHalf(value) : 0
  })
}

const clts: Translator = () =>
  supervisorOnly('CLTS', (_general, { cpu }) => {
    cpu.writeCr0((cpu.cr0 & ~Cr0.TS) >>> 0)
  })

const invlpg: Translator = (decoded) => {
  const { memory } = decoded
  return supervisorOnly('INVLPG', (general, execution) => {
    const low = execution.address(general, memory)
    execution.cpu.invlpg(join(execution.addressHigh, low))
  })
}

/** INVPCID: the type in a register, the descriptor of 16 bytes in memory; bits 63 to 12 of its first half are reserved. */
const invpcid: Translator = (decoded) => {
  const { memory } = decoded
  const { word, size } = decoded.register(0)
  const invalidate = supervisorOnly('INVPCID', (general, execution) => {
    const { cpu } = execution
    const type = size === 8 ? join(general[word + 1]!, general[word]!) : join(0, general[word]!)
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const pcid = loadWide(execution, high, low)
    const secondLow = (low + 8) | 0
    const secondHigh = secondLow >>> 0 < low >>> 0 ? (high + 1) | 0 : high
    const address = loadWide(execution, secondHigh, secondLow)
    if (type > 3n) throw execution.generalProtection('INVPCID has types 0 to 3', type)
    if (pcid >> 12n !== 0n) throw execution.generalProtection('a PCID has 12 bits', pcid)
    cpu.invpcid(Number(type) as 0 | 1 | 2 | 3, Number(pcid), address)
  })
  return (general, execution) => {
    if (!execution.cpu.machine.features.invpcid) throw execution.invalidOpcode(decoded.bytes)
    invalidate(general, execution)
  }
}

function loadWide(execution: Execution, high: number, low: number): bigint {
  const value = execution.load64(high, low)
  return join(execution.high, value)
}

/** STAC and CLAC, where the CPU has SMAP. */
const setAlignmentCheck =
  (value: boolean): Translator =>
  ({ bytes }) =>
  (_general, execution) => {
    const { cpu } = execution
    if (!cpu.machine.features.smap || cpu.cpl !== 0) throw execution.invalidOpcode(bytes)
    if (cpu.alignmentCheck !== value) cpu.alignmentCheck = value
  }

/** RDPKRU and WRPKRU: #UD without CR4.PKE, #GP(0) where ECX, or for a write EDX, is not 0 (SDM Vol. 2). */
function requireKeys(execution: Execution, { bytes }: DecodedInstruction, zero: number): void {
  if ((execution.cpu.cr4 & Cr4.PKE) === 0) throw execution.invalidOpcode(bytes)
  if (zero !== 0) throw execution.generalProtection('ECX and EDX must be 0 for PKRU')
}

const EAX = 0
const ECX = 2
const EDX = 4

const rdpkru: Translator = (decoded) => (general, execution) => {
  requireKeys(execution, decoded, general[ECX]!)
  general[EAX] = execution.cpu.pkru
  general[EAX + 1] = 0
  general[EDX] = 0
  general[EDX + 1] = 0
}

const wrpkru: Translator = (decoded) => (general, execution) => {
  requireKeys(execution, decoded, general[ECX]! | general[EDX]!)
  const value = general[EAX]! >>> 0
  if (value !== execution.cpu.pkru) execution.cpu.writePkru(value)
}

export const CONTROL_REGISTERS: InstructionFamily = {
  name: 'control registers',
  translators: new Map([
    [Mnemonic.Mov, mov],
    [Mnemonic.Clts, clts],
    [Mnemonic.Invlpg, invlpg],
    [Mnemonic.Invpcid, invpcid],
    [Mnemonic.Stac, setAlignmentCheck(true)],
    [Mnemonic.Clac, setAlignmentCheck(false)],
    [Mnemonic.Rdpkru, rdpkru],
    [Mnemonic.Wrpkru, wrpkru],
  ]),
}
