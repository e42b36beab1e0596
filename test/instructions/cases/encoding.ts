import {
  Code,
  CodeExt,
  Encoder,
  type FlowControl,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  type OpCodeInfo,
  OpCodeOperandKind,
  OpKind,
  Register,
} from 'iced-x86'

import type { Random } from '../../emulators/cases/random.ts'
import { type AddressShape, type Form, type FormBits, OR_MEMORY } from '../forms/form.ts'
import {
  CODE_32,
  CODE_64,
  CODE_REGION_BYTES,
  CODE_REGIONS,
  DATA_REGIONS,
  WRITABLE_BYTES,
} from '../native/layout.ts'

/** An instruction of a form: operands chosen, the contents of registers and memory not. */
export interface Encoding {
  readonly form: Form
  readonly bytes: Uint8Array
  /** Where it lies. */
  readonly rip: bigint
  /** The general register of each operand, undefined for another operand. AH, CH, DH and BH count as the registers that they belong to. */
  readonly registers: readonly (number | undefined)[]
  readonly memory: MemoryOperand | undefined
  readonly mnemonic: Mnemonic
  readonly flowControl: FlowControl
  /** Bytes of the memory operand; 0 where it has no size of its own. */
  readonly operandBytes: number
  /** Bits of the first operand. */
  readonly operandBits: number
  /** The immediate of the last operand that is one, sign-extended. */
  readonly immediate: bigint | undefined
}

export interface MemoryOperand {
  /** General registers, undefined for none. */
  readonly base: number | undefined
  readonly index: number | undefined
  readonly scale: number
  /** With the address of the next instruction already in it, where it is relative to that; signed. */
  readonly displacement: bigint
  /** Bits of the address. */
  readonly bits: 32 | 64
  readonly segment: 'fs' | 'gs' | undefined
}

const NO_REGISTERS = { base: undefined, index: undefined, scale: 1 }
/** Bytes of a case from the start of its instruction on: the longest one, and the jump behind it. */
const CODE_BYTES = 15 + 14
const RAX = 0
const RDX = 2
const RSP = 4
/** Instructions whose EDX:EAX names state components. */
export const EXTENDED_STATES: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Xsave,
  Mnemonic.Xsave64,
  Mnemonic.Xsavec,
  Mnemonic.Xsavec64,
  Mnemonic.Xrstor,
  Mnemonic.Xrstor64,
])
const ATTEMPTS = 200

const GENERAL: Readonly<
  Record<number, { readonly first: Register; readonly bytes: 1 | 2 | 4 | 8 }>
> = {
  [OpCodeOperandKind.r8_or_mem]: { first: Register.AL, bytes: 1 },
  [OpCodeOperandKind.r8_reg]: { first: Register.AL, bytes: 1 },
  [OpCodeOperandKind.r8_opcode]: { first: Register.AL, bytes: 1 },
  [OpCodeOperandKind.r16_or_mem]: { first: Register.AX, bytes: 2 },
  [OpCodeOperandKind.r16_reg]: { first: Register.AX, bytes: 2 },
  [OpCodeOperandKind.r16_reg_mem]: { first: Register.AX, bytes: 2 },
  [OpCodeOperandKind.r16_rm]: { first: Register.AX, bytes: 2 },
  [OpCodeOperandKind.r16_opcode]: { first: Register.AX, bytes: 2 },
  [OpCodeOperandKind.r32_or_mem]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r32_reg]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r32_reg_mem]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r32_rm]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r32_opcode]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r32_vvvv]: { first: Register.EAX, bytes: 4 },
  [OpCodeOperandKind.r64_or_mem]: { first: Register.RAX, bytes: 8 },
  [OpCodeOperandKind.r64_reg]: { first: Register.RAX, bytes: 8 },
  [OpCodeOperandKind.r64_reg_mem]: { first: Register.RAX, bytes: 8 },
  [OpCodeOperandKind.r64_rm]: { first: Register.RAX, bytes: 8 },
  [OpCodeOperandKind.r64_opcode]: { first: Register.RAX, bytes: 8 },
  [OpCodeOperandKind.r64_vvvv]: { first: Register.RAX, bytes: 8 },
}

const OTHER_REGISTERS: Readonly<
  Record<number, { readonly first: Register; readonly count: number }>
> = {
  [OpCodeOperandKind.mm_or_mem]: { first: Register.MM0, count: 8 },
  [OpCodeOperandKind.mm_reg]: { first: Register.MM0, count: 8 },
  [OpCodeOperandKind.mm_rm]: { first: Register.MM0, count: 8 },
  [OpCodeOperandKind.xmm_or_mem]: { first: Register.XMM0, count: 16 },
  [OpCodeOperandKind.xmm_reg]: { first: Register.XMM0, count: 16 },
  [OpCodeOperandKind.xmm_rm]: { first: Register.XMM0, count: 16 },
  [OpCodeOperandKind.sti_opcode]: { first: Register.ST0, count: 8 },
  [OpCodeOperandKind.seg_reg]: { first: Register.ES, count: 6 },
  [OpCodeOperandKind.dr_reg]: { first: Register.DR0, count: 8 },
}

const FIXED_REGISTERS: Readonly<Record<number, Register>> = {
  [OpCodeOperandKind.es]: Register.ES,
  [OpCodeOperandKind.cs]: Register.CS,
  [OpCodeOperandKind.ss]: Register.SS,
  [OpCodeOperandKind.ds]: Register.DS,
  [OpCodeOperandKind.fs]: Register.FS,
  [OpCodeOperandKind.gs]: Register.GS,
  [OpCodeOperandKind.al]: Register.AL,
  [OpCodeOperandKind.cl]: Register.CL,
  [OpCodeOperandKind.ax]: Register.AX,
  [OpCodeOperandKind.dx]: Register.DX,
  [OpCodeOperandKind.eax]: Register.EAX,
  [OpCodeOperandKind.rax]: Register.RAX,
  [OpCodeOperandKind.st0]: Register.ST0,
}

const FIXED_NUMBERS: Readonly<Record<number, number>> = {
  [OpCodeOperandKind.al]: 0,
  [OpCodeOperandKind.cl]: 1,
  [OpCodeOperandKind.ax]: 0,
  [OpCodeOperandKind.dx]: 2,
  [OpCodeOperandKind.eax]: 0,
  [OpCodeOperandKind.rax]: 0,
}

const STRING_OPERANDS: Readonly<Record<number, readonly [narrow: OpKind, wide: OpKind]>> = {
  [OpCodeOperandKind.seg_rSI]: [OpKind.MemorySegESI, OpKind.MemorySegRSI],
  [OpCodeOperandKind.es_rDI]: [OpKind.MemoryESEDI, OpKind.MemoryESRDI],
  [OpCodeOperandKind.seg_rDI]: [OpKind.MemorySegEDI, OpKind.MemorySegRDI],
}

/** Addresses in an instruction itself lie where 8 bytes can be written. */
const FIXED_BYTES = WRITABLE_BYTES - 8

const BIT_STRINGS: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Bt,
  Mnemonic.Bts,
  Mnemonic.Btr,
  Mnemonic.Btc,
])

/** An encoding of a form with operands as `random` chooses them, or undefined where none was found. */
export function encode(form: Form, random: Random): Encoding | undefined {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const encoding = new Draft(form, random).encode()
    if (encoding !== undefined) return encoding
  }
  return undefined
}

const ENTER: ReadonlySet<Code> = new Set([
  Code.Enterq_imm16_imm8,
  Code.Enterd_imm16_imm8,
  Code.Enterw_imm16_imm8,
])

const CONTROL_REGISTERS: readonly Register[] = [
  Register.CR0,
  Register.CR2,
  Register.CR3,
  Register.CR4,
  Register.CR8,
]

const ALL_REGISTERS: readonly Register[] = Object.values(Register).filter(
  (value): value is Register => typeof value === 'number',
)

/** The register so many places behind another in iced-x86's list. */
function registerAt(first: Register, number: number): Register {
  return ALL_REGISTERS[first + number]!
}

function operandBitsOf(opCode: OpCodeInfo, bits: FormBits): number {
  const size: number = opCode.operandSize
  const isByte =
    opCode.op0Kind === OpCodeOperandKind.r8_or_mem || opCode.op0Kind === OpCodeOperandKind.r8_reg
  return isByte ? 8 : size === 0 ? bits : size
}

/** One attempt. */
class Draft {
  readonly #form: Form
  readonly #random: Random
  readonly #instruction = new Instruction()
  readonly #region: 0 | 1
  readonly #rip: bigint
  #memory: MemoryOperand | undefined
  #immediate: bigint | undefined

  constructor(form: Form, random: Random) {
    this.#form = form
    this.#random = random
    this.#region = form.bits === 64 && random.percent(50) ? 1 : 0
    const offset = random.percent(5)
      ? CODE_REGION_BYTES / 2 - random.below(16)
      : random.below(CODE_REGION_BYTES - CODE_BYTES)
    this.#rip = CODE_REGIONS[this.#region]! + BigInt(offset)
  }

  encode(): Encoding | undefined {
    const { bits, code, prefix } = this.#form
    const instruction = this.#instruction
    instruction.code = code
    instruction.hasLockPrefix = prefix === 'lock'
    instruction.hasRepPrefix = prefix === 'rep'
    instruction.hasRepnePrefix = prefix === 'repne'
    const encoder = new Encoder(bits)
    const opCode = CodeExt.opCode(code)
    try {
      const registers = Array.from({ length: opCode.opCount }, (_, operand) =>
        this.#setOperand(operand, opCode.opKind(operand)),
      )
      if (this.#reachesFar(instruction, registers[1]) || this.#asksByAddress(instruction)) {
        return undefined
      }
      encoder.encode(instruction, this.#rip)
      const bytes = encoder.takeBuffer()
      return {
        form: this.#form,
        bytes,
        rip: this.#rip,
        registers,
        memory: this.#memory,
        mnemonic: instruction.mnemonic,
        flowControl: instruction.flowControl,
        operandBits: operandBitsOf(opCode, bits),
        operandBytes: MemorySizeExt.size(instruction.memorySize),
        immediate: this.#immediate,
      }
    } catch (error) {
      // Operands that do not go together, such as AH and a register above the eighth.
      if (typeof error === 'string' || error instanceof Error) return undefined
      throw error
    } finally {
      encoder.free()
      opCode.free()
      instruction.free()
    }
  }

  /** Whether the instruction would access memory at a place that its operands alone decide: a bit's distance from an address, by the same register, or the stack far from an operand. */
  #reachesFar(instruction: Instruction, register: number | undefined): boolean {
    const memory = this.#memory
    if (memory === undefined) return false
    if (BIT_STRINGS.has(instruction.mnemonic)) {
      return register !== undefined && (register === memory.base || register === memory.index)
    }
    if (!instruction.isStackInstruction || memory.base !== RSP) return false
    return memory.index !== undefined || memory.displacement > 64n || memory.displacement < -64n
  }

  /** Whether the components that an instruction is about would depend on where its operand lies: the host has some that our machine lacks. */
  #asksByAddress({ mnemonic }: Instruction): boolean {
    if (!EXTENDED_STATES.has(mnemonic)) return false
    const { base, index } = this.#memory!
    return [base, index].some((register) => register === RAX || register === RDX)
  }

  /** Chooses an operand. Returns the number of its general register. */
  #setOperand(operand: number, kind: OpCodeOperandKind): number | undefined {
    const instruction = this.#instruction
    const random = this.#random
    const { address, bits } = this.#form
    if (
      kind === OpCodeOperandKind.mem ||
      kind === OpCodeOperandKind.mem_offs ||
      (address !== undefined && OR_MEMORY.has(kind))
    ) {
      instruction.setOpKind(operand, OpKind.Memory)
      this.#setMemory(address!, kind === OpCodeOperandKind.mem_offs)
      return undefined
    }
    const general = GENERAL[kind]
    if (general !== undefined) {
      const number = random.below(
        general.bytes === 1 ? (bits === 64 ? 20 : 8) : bits === 64 ? 16 : 8,
      )
      instruction.setOpKind(operand, OpKind.Register)
      instruction.setOpRegister(operand, registerAt(general.first, number))
      // iced-x86 counts AL to BL, AH to BH, SPL to DIL, R8L to R15L.
      return general.bytes === 1 && number >= 4 ? number - 4 : number
    }
    if (kind === OpCodeOperandKind.cr_reg) {
      instruction.setOpKind(operand, OpKind.Register)
      instruction.setOpRegister(operand, random.pick(CONTROL_REGISTERS))
      return undefined
    }
    const other = OTHER_REGISTERS[kind]
    if (other !== undefined) {
      instruction.setOpKind(operand, OpKind.Register)
      const count = bits === 32 ? Math.min(other.count, 8) : other.count
      instruction.setOpRegister(operand, registerAt(other.first, random.below(count)))
      return undefined
    }
    const fixed = FIXED_REGISTERS[kind]
    if (fixed !== undefined) {
      instruction.setOpKind(operand, OpKind.Register)
      instruction.setOpRegister(operand, fixed)
      return FIXED_NUMBERS[kind]
    }
    const string = STRING_OPERANDS[kind]
    if (string !== undefined) {
      const isWide = bits === 64 && address?.narrow !== true
      instruction.setOpKind(operand, string[isWide ? 1 : 0])
      this.#setSegment(address)
      return undefined
    }
    if (kind === OpCodeOperandKind.seg_rBX_al) {
      instruction.setOpKind(operand, OpKind.Memory)
      instruction.memoryBase = bits === 64 && address?.narrow !== true ? Register.RBX : Register.EBX
      instruction.memoryIndex = Register.AL
      return undefined
    }
    this.#setImmediate(operand, kind)
    return undefined
  }

  #setImmediate(operand: number, kind: OpCodeOperandKind): void {
    const set = this.#immediates.get(kind)
    if (set === undefined) {
      throw new Error(`no operand of kind ${OpCodeOperandKind[kind]} can be chosen`)
    }
    this.#instruction.setOpKind(operand, set(this.#instruction))
  }

  /** How operands are chosen that are neither registers nor memory; each returns the kind that it has chosen. */
  readonly #immediates: ReadonlyMap<OpCodeOperandKind, (instruction: Instruction) => OpKind> =
    new Map([
      [OpCodeOperandKind.imm8_const_1, (instruction) => this.#byte(instruction, 1)],
      [OpCodeOperandKind.imm8, (instruction) => this.#byte(instruction, this.#random.below(256))],
      [
        OpCodeOperandKind.imm8sex16,
        (instruction) => {
          instruction.immediate8to16 = this.#signed(8)
          return OpKind.Immediate8to16
        },
      ],
      [
        OpCodeOperandKind.imm8sex32,
        (instruction) => {
          instruction.immediate8to32 = this.#signed(8)
          return OpKind.Immediate8to32
        },
      ],
      [
        OpCodeOperandKind.imm8sex64,
        (instruction) => {
          instruction.immediate8to64 = BigInt(this.#signed(8))
          return OpKind.Immediate8to64
        },
      ],
      [
        OpCodeOperandKind.imm16,
        (instruction) => {
          instruction.immediate16 = this.#signed(16) & 0xffff
          return OpKind.Immediate16
        },
      ],
      [
        OpCodeOperandKind.imm32,
        (instruction) => {
          instruction.immediate32 = this.#signed(32) >>> 0
          return OpKind.Immediate32
        },
      ],
      [
        OpCodeOperandKind.imm32sex64,
        (instruction) => {
          instruction.immediate32to64 = BigInt(this.#signed(32))
          return OpKind.Immediate32to64
        },
      ],
      [
        OpCodeOperandKind.imm64,
        (instruction) => {
          instruction.immediate64 = this.#random.bits(64)
          return OpKind.Immediate64
        },
      ],
      [OpCodeOperandKind.br64_1, (instruction) => this.#branch64(instruction, 2 ** 8)],
      [OpCodeOperandKind.br64_4, (instruction) => this.#branch64(instruction, 2 ** 31)],
      [OpCodeOperandKind.br32_1, (instruction) => this.#branch32(instruction, 2 ** 8)],
      [OpCodeOperandKind.br32_4, (instruction) => this.#branch32(instruction, 2 ** 32)],
      [
        OpCodeOperandKind.farbr4_2,
        (instruction) => {
          const random = this.#random
          instruction.farBranch32 = random.word()
          instruction.farBranchSelector = random.pick([CODE_32, CODE_32, CODE_64, 0, 0x10])
          return OpKind.FarBranch32
        },
      ],
    ])

  /** A byte; ENTER has a second one. */
  #byte(instruction: Instruction, value: number): OpKind {
    if (ENTER.has(instruction.code)) {
      instruction.immediate8_2nd = value & 3
      return OpKind.Immediate8_2nd
    }
    this.#immediate = BigInt(value)
    instruction.immediate8 = value
    return OpKind.Immediate8
  }

  #branch64(instruction: Instruction, reach: number): OpKind {
    const target = this.#rip + BigInt(this.#random.below(reach) - reach / 2)
    instruction.nearBranch64 = BigInt.asUintN(64, target)
    return OpKind.NearBranch64
  }

  #branch32(instruction: Instruction, reach: number): OpKind {
    instruction.nearBranch32 = (Number(this.#rip) + this.#random.below(reach) - reach / 2) >>> 0
    return OpKind.NearBranch32
  }

  /** A signed value of so many bits, kept as the immediate: often one that is near a limit. */
  #signed(bits: 8 | 16 | 32): number {
    const random = this.#random
    const limit = 2 ** (bits - 1)
    const value = random.percent(30)
      ? random.pick([0, 1, -1, limit - 1, -limit, 2, -2])
      : random.below(2 * limit) - limit
    this.#immediate = BigInt(value)
    return value
  }

  #setSegment(address: AddressShape | undefined): void {
    if (address?.segment === 'fs') this.#instruction.segmentPrefix = Register.FS
    if (address?.segment === 'gs') this.#instruction.segmentPrefix = Register.GS
  }

  #setMemory(address: AddressShape, isOffset: boolean): void {
    const instruction = this.#instruction
    const random = this.#random
    const { bits } = this.#form
    this.#setSegment(address)
    const addressBits = bits === 64 && !address.narrow ? 64 : 32
    const firstRegister = addressBits === 64 ? Register.RAX : Register.EAX
    if (address.relative) {
      const region = address.narrow ? 0 : this.#region
      const target = DATA_REGIONS[region]! + BigInt(random.below(FIXED_BYTES))
      instruction.memoryBase = addressBits === 64 ? Register.RIP : Register.EIP
      instruction.memoryDisplSize = addressBits === 64 ? 8 : 4
      instruction.memoryDisplacement = target
      const { segment } = address
      this.#memory = { ...NO_REGISTERS, displacement: target, bits: addressBits, segment }
      return
    }
    const registerCount = bits === 64 ? 16 : 8
    const base = address.base ? random.below(registerCount) : undefined
    let index = address.index ? random.below(registerCount) : undefined
    while (index === RSP) index = random.below(registerCount)
    const scale = index === undefined ? 1 : 2 ** random.below(4)
    const displacement = this.#displacement(address, isOffset, base, index)
    if (base !== undefined) instruction.memoryBase = registerAt(firstRegister, base)
    if (index !== undefined) instruction.memoryIndex = registerAt(firstRegister, index)
    instruction.memoryIndexScale = scale
    instruction.memoryDisplacement = displacement.value
    instruction.memoryDisplSize = displacement.size
    const signed =
      base === undefined && index === undefined
        ? displacement.value
        : BigInt.asIntN(addressBits, displacement.value)
    this.#memory = {
      base,
      index,
      scale,
      displacement: signed,
      bits: addressBits,
      segment: address.segment,
    }
  }

  /** A displacement: where nothing else is, it is an address in data. */
  #displacement(
    { displacement, segment, narrow }: AddressShape,
    isOffset: boolean,
    base: number | undefined,
    index: number | undefined,
  ): { value: bigint; size: number } {
    const random = this.#random
    const { bits } = this.#form
    const wide = bits === 64 && !narrow ? 8 : 4
    if (base === undefined && index === undefined) {
      const region = isOffset && wide === 8 && random.percent(50) ? 1 : 0
      const target = DATA_REGIONS[region]! + BigInt(random.below(FIXED_BYTES))
      if (segment === undefined) return { value: target, size: wide }
      return { value: BigInt(random.below(2 ** 20)), size: wide }
    }
    if (!displacement) return { value: 0n, size: 0 }
    if (random.percent(50)) return { value: BigInt(random.below(256) - 128), size: 1 }
    return { value: BigInt(random.below(2 ** 32) - 2 ** 31), size: wide }
  }
}
