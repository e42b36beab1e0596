import { type SegmentNumber, Segment } from '@trapdoor/core'
import {
  Code,
  FlowControl,
  type Instruction,
  InstructionInfoFactory,
  MemorySizeExt,
  type Mnemonic,
  OpAccess,
  OpKind,
  Register,
} from 'iced-x86'
import { highHalf, lowHalf } from '../halves.ts'
import { BLOCK_WORD, MemoryOperand, ZERO_WORD } from './memory-operand.ts'

/** Instructions whose frames {@link Instruction.stackPointerIncrement} does not tell, by their operand size. */
const WORD_FRAMES: ReadonlySet<Code> = new Set([
  Code.Retnw,
  Code.Retnw_imm16,
  Code.Leavew,
  Code.Enterw_imm16_imm8,
])
const DOUBLEWORD_FRAMES: ReadonlySet<Code> = new Set([
  Code.Retnd,
  Code.Retnd_imm16,
  Code.Leaved,
  Code.Enterd_imm16_imm8,
])
const QUADWORD_FRAMES: ReadonlySet<Code> = new Set([
  Code.Retnq,
  Code.Retnq_imm16,
  Code.Leaveq,
  Code.Enterq_imm16_imm8,
])

const NEAR_BRANCHES: ReadonlySet<FlowControl> = new Set([
  FlowControl.UnconditionalBranch,
  FlowControl.IndirectBranch,
  FlowControl.ConditionalBranch,
  FlowControl.Call,
  FlowControl.IndirectCall,
  FlowControl.Return,
])
const OPERAND_SIZE_PREFIX = 0x66
const LEGACY_PREFIXES: ReadonlySet<number> = new Set([
  OPERAND_SIZE_PREFIX,
  0x67,
  0xf0,
  0xf2,
  0xf3,
  0x26,
  0x2e,
  0x36,
  0x3e,
  0x64,
  0x65,
])
/** REX with W set, its lower bits apart. */
const REX_W = 0x48

export type OperandSize = 1 | 2 | 4 | 8
/** The default size of addresses and operands: 64-bit mode, or what CS.D says elsewhere. */
export type CodeBits = 16 | 32 | 64

/** A general register as an operand. */
export interface RegisterOperand {
  /** The word of {@link Cpu.general} that holds its low half. */
  readonly word: number
  /** 8 for AH, CH, DH and BH, else 0: how far the operand is shifted in the word. */
  readonly shift: number
  readonly size: OperandSize
}

/** An instruction as iced-x86 decoded it, asked in the words of this package. It is gone when its translation is done. */
export class DecodedInstruction {
  readonly instruction: Instruction
  readonly mnemonic: Mnemonic
  readonly code: Code
  readonly bits: CodeBits
  readonly bytes: Uint8Array
  /** Bytes from the beginning of its block, and those of the instruction that follows. */
  readonly offset: number
  readonly next: number
  /** Whether somebody looks at the status flags that the instruction sets before they are set again. */
  flagsNeeded = true
  /** A direct jump or call whose target comes next in the block. */
  isFollowed = false
  /** The instruction has to be the last of its block, and sets the block words (see {@link BLOCK_WORD}) to the address of the next. */
  endsBlock = false

  /** `following` are the bytes from the instruction on. */
  constructor(instruction: Instruction, bits: CodeBits, offset: number, following: Uint8Array) {
    this.instruction = instruction
    this.mnemonic = instruction.mnemonic
    this.code = instruction.code
    this.bits = bits
    this.offset = offset
    this.next = offset + instruction.length
    this.bytes = following.slice(0, instruction.length)
  }

  get operands(): number {
    return this.instruction.opCount
  }

  isRegister(operand: number): boolean {
    return this.instruction.opKind(operand) === OpKind.Register
  }

  /** Whether a string instruction is repeated: it ends its block, as it sets RIP by itself. */
  get isRepeated(): boolean {
    const { instruction } = this
    return (
      instruction.isStringInstruction && (instruction.hasRepPrefix || instruction.hasRepnePrefix)
    )
  }

  /** Whether an operand is not a register of another kind than the general ones. */
  isGeneral(operand: number): boolean {
    return (
      !this.isRegister(operand) ||
      generalRegister(this.instruction.opRegister(operand)) !== undefined
    )
  }

  /** The segment register that is an operand, or undefined. */
  segmentRegister(operand: number): SegmentNumber | undefined {
    if (!this.isRegister(operand)) return undefined
    const number = this.instruction.opRegister(operand) - Register.ES
    return number >= 0 && number <= Segment.GS ? (number as SegmentNumber) : undefined
  }

  isMemory(operand: number): boolean {
    return this.instruction.opKind(operand) === OpKind.Memory
  }

  isImmediate(operand: number): boolean {
    const kind = this.instruction.opKind(operand)
    return kind >= OpKind.Immediate8 && kind <= OpKind.Immediate32to64
  }

  /** The size of the memory operand in bytes, as far as it is one of a general register. */
  get memoryBytes(): number {
    return MemorySizeExt.size(this.instruction.memorySize)
  }

  /** Bytes of an operand that is a general register or memory. */
  size(operand: number): OperandSize {
    if (this.isRegister(operand)) return this.register(operand).size
    return this.memoryBytes as OperandSize
  }

  /** A general register. */
  register(operand: number): RegisterOperand {
    return generalRegister(this.instruction.opRegister(operand))!
  }

  /** Halves of an immediate, sign-extended as the instruction has it. */
  immediate(operand: number): { readonly low: number; readonly high: number } {
    const value = this.instruction.immediate(operand)
    return { low: lowHalf(value), high: highHalf(value) }
  }

  /** Bytes that an instruction which pushes, pops, calls or returns moves at once; PUSHA and POPA do so eight times. */
  get stackBytes(): 2 | 4 | 8 {
    const { code, instruction } = this
    if (WORD_FRAMES.has(code)) return 2
    if (DOUBLEWORD_FRAMES.has(code)) return 4
    if (QUADWORD_FRAMES.has(code)) return 8
    const moved = Math.abs(instruction.stackPointerIncrement)
    return (moved > 8 ? moved / 8 : moved) as 2 | 4 | 8
  }

  /** Whether a branch goes through a segment selector. */
  get isFarBranch(): boolean {
    const { instruction } = this
    return (
      instruction.isJmpFar ||
      instruction.isCallFar ||
      instruction.isJmpFarIndirect ||
      instruction.isCallFarIndirect
    )
  }

  /** Whether a near branch of 64-bit mode has an operand-size prefix that counts: Intel's processors ignore it (SDM Vol. 2, JMP), AMD's then have a 16-bit operand (APM Vol. 3, 1.2.7). */
  get isNarrowNearBranch(): boolean {
    const { bits, bytes, instruction } = this
    if (bits !== 64 || this.isFarBranch) return false
    if (!NEAR_BRANCHES.has(instruction.flowControl)) return false
    const end = bytes.findIndex((byte) => !LEGACY_PREFIXES.has(byte))
    const isWide = (bytes[end]! & 0xf8) === REX_W
    return !isWide && bytes.subarray(0, end).includes(OPERAND_SIZE_PREFIX)
  }

  /** Bytes of RIP that a near branch sets. */
  get branchBytes(): 2 | 4 | 8 {
    const kind = this.instruction.opKind(0)
    return kind === OpKind.NearBranch64 ? 8 : kind === OpKind.NearBranch32 ? 4 : 2
  }

  /** Bits of the counter of LOOP, LOOPE and LOOPNE: RCX, ECX or CX. */
  get countBits(): 16 | 32 | 64 {
    const name = Code[this.code]
    return name.endsWith('RCX') ? 64 : name.endsWith('ECX') ? 32 : 16
  }

  /** Bytes from the beginning of the block to where a near branch leads. */
  get branchDistance(): number {
    return Number(BigInt.asIntN(64, this.instruction.nearBranchTarget))
  }

  /** The memory operand. */
  get memory(): MemoryOperand {
    const { instruction, bits } = this
    const base = instruction.memoryBase
    const isRelative = base === Register.RIP || base === Register.EIP
    const displacement = instruction.memoryDisplacement
    const index = instruction.memoryIndex
    const segment = segmentNumber(instruction.memorySegment)
    return new MemoryOperand({
      base: isRelative ? BLOCK_WORD : (generalRegister(base)?.word ?? ZERO_WORD),
      index: generalRegister(index)?.word ?? ZERO_WORD,
      scale: Math.log2(instruction.memoryIndexScale),
      low: lowHalf(displacement),
      high: highHalf(displacement),
      segment,
      addressBits: addressBits(base, index, instruction.memoryDisplSize),
      // In 64-bit mode all segments but FS and GS begin at 0 and have no limit (SDM Vol. 3, 3.2.4).
      isFlat: bits === 64 && segment !== Segment.FS && segment !== Segment.GS,
      bytes: Math.max(this.memoryBytes, 1),
      writes: bits !== 64 && this.#writesMemory(),
    })
  }

  #writesMemory(): boolean {
    const info = INFORMATION.info(this.instruction)
    try {
      for (let operand = 0; operand < this.operands; operand++) {
        if (this.isMemory(operand)) return WRITES.has(info.opAccess(operand))
      }
      return false
    } finally {
      info.free()
    }
  }
}

const INFORMATION = new InstructionInfoFactory()
const WRITES: ReadonlySet<OpAccess> = new Set([
  OpAccess.Write,
  OpAccess.CondWrite,
  OpAccess.ReadWrite,
  OpAccess.ReadCondWrite,
])

/** A register as an operand; undefined for one that is not general. */
export function generalRegister(register: Register): RegisterOperand | undefined {
  if (register >= Register.RAX && register <= Register.R15) {
    return { word: (register - Register.RAX) * 2, shift: 0, size: 8 }
  }
  if (register >= Register.EAX && register <= Register.R15D) {
    return { word: (register - Register.EAX) * 2, shift: 0, size: 4 }
  }
  if (register >= Register.AX && register <= Register.R15W) {
    return { word: (register - Register.AX) * 2, shift: 0, size: 2 }
  }
  if (register >= Register.AH && register <= Register.BH) {
    return { word: (register - Register.AH) * 2, shift: 8, size: 1 }
  }
  if (register >= Register.SPL && register <= Register.R15L) {
    return { word: (register - Register.SPL + 4) * 2, shift: 0, size: 1 }
  }
  if (register >= Register.AL && register <= Register.BL) {
    return { word: (register - Register.AL) * 2, shift: 0, size: 1 }
  }
  return undefined
}

/** The segment register that iced names. */
function segmentNumber(register: Register): SegmentNumber {
  return (register - Register.ES) as SegmentNumber
}

function addressBits(base: Register, index: Register, displacementSize: number): 16 | 32 | 64 {
  const register = base === Register.None ? index : base
  if (register === Register.None) {
    if (displacementSize === 8) return 64
    return displacementSize === 2 ? 16 : 32
  }
  if (register === Register.EIP) return 32
  if (register === Register.RIP) return 64
  const size = generalRegister(register)?.size
  return size === 8 ? 64 : size === 2 ? 16 : 32
}
