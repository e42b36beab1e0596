import { AssemblerError } from './error.ts'

/** General registers by the number that instructions give them. The same number names the 32-bit and the 64-bit one. */
export const Register = {
  A: 0,
  C: 1,
  D: 2,
  B: 3,
  SP: 4,
  BP: 5,
  SI: 6,
  DI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
} as const
export type Register = (typeof Register)[keyof typeof Register]

/** Control registers that a MOV can name. */
export type ControlRegister = 0 | 2 | 3 | 4

/** Conditions of a conditional jump by the low bits of its opcode (SDM Vol. 2, appendix B.1.4.7). */
export const Condition = { Below: 2, Equal: 4, NotEqual: 5 } as const
export type Condition = (typeof Condition)[keyof typeof Condition]

/** What the arithmetic group 81h does, by the number in its ModRM byte. */
const Arithmetic = { add: 0, or: 1, and: 4, sub: 5, cmp: 7 } as const

/** What the segment registers are called in MOV Sreg. */
const SEGMENTS = { es: 0, ss: 2, ds: 3 } as const

/** How the processor reads the instructions: by the segment that they run in. */
export type CodeBits = 16 | 32 | 64

/** A place in the code that is known by name before its address is. */
interface Fixup {
  readonly at: number
  readonly label: string
  /** Bytes of the field, which holds a distance from its own end, or an address. */
  readonly kind: 'relative32' | 'absolute32' | 'absolute16'
}

/**
 * Emits x86 machine code, the few instructions that a guest needs that tests page tables and no more (SDM Vol. 2 has the encodings). `origin` is the linear
 * address of the first byte. Width is that of the operands in bits: in 16-bit code only what a processor that comes out of RESET needs is here.
 */
export class Assembler {
  readonly origin: bigint
  bits: CodeBits
  readonly #bytes: number[] = []
  readonly #labels: Map<string, number> = new Map()
  readonly #fixups: Fixup[] = []

  constructor(origin: bigint, bits: CodeBits) {
    this.origin = origin
    this.bits = bits
  }

  /** Bytes emitted so far. */
  get size(): number {
    return this.#bytes.length
  }

  /** Gives the address of the next instruction a name. */
  label(name: string): void {
    if (this.#labels.has(name)) {
      throw new AssemblerError('ASSEMBLER_LABEL_TWICE', {
        expected: 'a name that no other label has',
        found: `"${name}" again`,
      })
    }
    this.#labels.set(name, this.size)
  }

  /** The linear address of a label that is there. */
  addressOf(name: string): bigint {
    return this.origin + BigInt(this.#offsetOf(name))
  }

  /** The code, with every label resolved. */
  assemble(): Uint8Array {
    const bytes = Uint8Array.from(this.#bytes)
    const view = new DataView(bytes.buffer)
    for (const { at, label, kind } of this.#fixups) {
      const target = this.#offsetOf(label)
      const address = Number(BigInt.asUintN(32, this.origin)) + target
      if (kind === 'relative32') view.setInt32(at, target - (at + 4), true)
      else if (kind === 'absolute32') view.setUint32(at, address >>> 0, true)
      else view.setUint16(at, address & 0xffff, true)
    }
    return bytes
  }

  /** Bytes as they are: data, or an instruction that needs no more. */
  raw(...bytes: readonly number[]): void {
    this.#bytes.push(...bytes)
  }

  /** A 32-bit number as data. */
  data32(value: number): void {
    this.#immediate32(value)
  }

  /** A label's address as data of 32 bits. */
  dataLabel(label: string): void {
    this.#fix(label, 'absolute32')
  }

  /** Fills up with NOPs to an offset from the origin. */
  padTo(offset: number): void {
    if (this.size > offset) {
      throw new AssemblerError('ASSEMBLER_TOO_LONG', {
        expected: `at most ${offset} bytes of code`,
        found: `${this.size}`,
      })
    }
    while (this.size < offset) this.raw(0x90)
  }

  cli(): void {
    this.raw(0xfa)
  }

  nop(): void {
    this.raw(0x90)
  }

  hlt(): void {
    this.raw(0xf4)
  }

  /** CLD: string instructions count upwards. */
  cld(): void {
    this.raw(0xfc)
  }

  /** RDMSR: EDX:EAX from the register whose number is in ECX. */
  rdmsr(): void {
    this.raw(0x0f, 0x32)
  }

  wrmsr(): void {
    this.raw(0x0f, 0x30)
  }

  wrpkru(): void {
    this.raw(0x0f, 0x01, 0xef)
  }

  /** XCHG BX, BX: does nothing, and is where Bochs' debugger can be told to stop. */
  exchangeBxBx(): void {
    this.raw(...(this.bits === 16 ? [] : [0x66]), 0x87, 0xdb)
  }

  int(vector: number): void {
    this.raw(0xcd, vector)
  }

  iretq(): void {
    this.raw(0x48, 0xcf)
  }

  /** IRET with 32-bit operands, in 32-bit code. */
  iretd(): void {
    this.raw(0xcf)
  }

  /** OUT imm8, AL. */
  out(port: number): void {
    this.raw(0xe6, port)
  }

  /** IN AL, imm8. */
  in(port: number): void {
    this.raw(0xe4, port)
  }

  /** REP MOVSQ: copies RCX quadwords from RSI to RDI. */
  repMovsq(): void {
    this.raw(0xf3, 0x48, 0xa5)
  }

  /** MOV r, imm: the shortest form that holds the value. */
  moveImmediate(width: 32 | 64, to: Register, value: number | bigint): void {
    const wanted = BigInt(value)
    if (width === 32 || (wanted >= 0n && wanted < 1n << 32n)) {
      this.#operandSize(32)
      this.#rex(32, 0, to)
      this.raw(0xb8 | (to & 7))
      this.#immediate32(Number(BigInt.asUintN(32, wanted)))
      return
    }
    this.#rex(64, 0, to)
    this.raw(0xb8 | (to & 7))
    this.#immediate32(Number(BigInt.asUintN(32, wanted)))
    this.#immediate32(Number(BigInt.asUintN(32, wanted >> 32n)))
  }

  /** MOV r, r. */
  move(width: 32 | 64, to: Register, from: Register): void {
    this.#registers(width, 0x89, from, to)
  }

  /** MOV r, [base + displacement]. */
  load(width: 32 | 64, to: Register, base: Register, displacement = 0): void {
    this.#memory(width, [0x8b], to, base, displacement)
  }

  /** MOV [base + displacement], r. */
  store(width: 32 | 64, base: Register, displacement: number, from: Register): void {
    this.#memory(width, [0x89], from, base, displacement)
  }

  /** LEA r, [base + displacement]. */
  loadAddress(width: 32 | 64, to: Register, base: Register, displacement: number): void {
    this.#memory(width, [0x8d], to, base, displacement)
  }

  /** POP r, as wide as the code's addresses. */
  pop(to: Register): void {
    this.#rex(32, 0, to)
    this.raw(0x58 | (to & 7))
  }

  /** PUSH r, as wide as the code's addresses. */
  push(from: Register): void {
    this.#rex(32, 0, from)
    this.raw(0x50 | (from & 7))
  }

  /** PUSH [base + displacement], as wide as the code's addresses. */
  pushMemory(base: Register, displacement: number): void {
    this.#memory(32, [0xff], 6, base, displacement)
  }

  /** PUSH imm32, sign-extended. */
  pushImmediate(value: number): void {
    this.raw(0x68)
    this.#immediate32(value)
  }

  /** PUSH imm32 of a label's address, sign-extended. */
  pushLabel(label: string): void {
    this.raw(0x68)
    this.#fix(label, 'absolute32')
  }

  add(width: 32 | 64, to: Register, value: number): void {
    this.#arithmetic(width, 'add', to, value)
  }

  sub(width: 32 | 64, to: Register, value: number): void {
    this.#arithmetic(width, 'sub', to, value)
  }

  or(width: 32 | 64, to: Register, value: number): void {
    this.#arithmetic(width, 'or', to, value)
  }

  and(width: 32 | 64, to: Register, value: number): void {
    this.#arithmetic(width, 'and', to, value)
  }

  compare(width: 32 | 64, left: Register, value: number): void {
    this.#arithmetic(width, 'cmp', left, value)
  }

  /** OR r, r. */
  orRegister(width: 32 | 64, to: Register, from: Register): void {
    this.#registers(width, 0x09, from, to)
  }

  /** XOR r, r: with twice the same register, zero. */
  xorRegister(width: 32 | 64, to: Register, from: Register): void {
    this.#registers(width, 0x31, from, to)
  }

  /** SHL r, imm8. */
  shiftLeft(width: 32 | 64, to: Register, by: number): void {
    this.#registers(width, 0xc1, 4, to)
    this.raw(by)
  }

  /** SHR r, imm8. */
  shiftRight(width: 32 | 64, to: Register, by: number): void {
    this.#registers(width, 0xc1, 5, to)
    this.raw(by)
  }

  /** CALL rel32. */
  call(label: string): void {
    this.raw(0xe8)
    this.#fix(label, 'relative32')
  }

  /** CALL r. */
  callRegister(to: Register): void {
    this.#registers(32, 0xff, 2, to)
  }

  /** CALL [base + displacement], a near call through memory. */
  callMemory(base: Register, displacement: number): void {
    this.#memory(32, [0xff], 2, base, displacement)
  }

  /** JMP rel32. */
  jump(label: string): void {
    this.raw(0xe9)
    this.#fix(label, 'relative32')
  }

  /** Jcc rel32. */
  jumpIf(condition: Condition, label: string): void {
    this.raw(0x0f, 0x80 | condition)
    this.#fix(label, 'relative32')
  }

  /** JMP r. */
  jumpRegister(to: Register): void {
    this.#registers(32, 0xff, 4, to)
  }

  /** JMP ptr16:32, which no 64-bit code has. */
  jumpFar(selector: number, label: string): void {
    this.#operandSize(32)
    this.raw(0xea)
    this.#fix(label, 'absolute32')
    this.raw(selector & 0xff, selector >>> 8)
  }

  /** JMP ptr16:32 to an address. */
  jumpFarTo(selector: number, address: number): void {
    this.#operandSize(32)
    this.raw(0xea)
    this.#immediate32(address)
    this.raw(selector & 0xff, selector >>> 8)
  }

  /** JMP m16:32: offset and selector from [base + displacement]. */
  jumpFarMemory(base: Register, displacement: number): void {
    this.#memory(32, [0xff], 5, base, displacement)
  }

  /** MOV CRn, r. */
  moveToControl(to: ControlRegister, from: Register): void {
    this.#rex(32, 0, from)
    this.raw(0x0f, 0x22, 0xc0 | (to << 3) | (from & 7))
  }

  /** MOV r, CRn. */
  moveFromControl(to: Register, from: ControlRegister): void {
    this.#rex(32, 0, to)
    this.raw(0x0f, 0x20, 0xc0 | (from << 3) | (to & 7))
  }

  /** MOV Sreg, r. */
  moveToSegment(to: keyof typeof SEGMENTS, from: Register): void {
    this.raw(0x8e, 0xc0 | (SEGMENTS[to] << 3) | from)
  }

  /** LGDT [base + displacement]. */
  lgdt(base: Register, displacement: number): void {
    this.#memory(32, [0x0f, 0x01], 2, base, displacement)
  }

  /** LGDT CS:[label] in 16-bit code. */
  lgdtInCode(label: string): void {
    this.raw(0x2e, 0x66, 0x0f, 0x01, 0x16)
    this.#fix(label, 'absolute16')
  }

  /** LIDT [base + displacement]. */
  lidt(base: Register, displacement: number): void {
    this.#memory(32, [0x0f, 0x01], 3, base, displacement)
  }

  /** LTR r16. */
  ltr(from: Register): void {
    this.raw(0x0f, 0x00, 0xd8 | from)
  }

  #arithmetic(
    width: 32 | 64,
    operation: keyof typeof Arithmetic,
    to: Register,
    value: number,
  ): void {
    this.#registers(width, 0x81, Arithmetic[operation], to)
    this.#immediate32(value)
  }

  /** An instruction whose ModRM byte names two registers, or an extension of the opcode and a register. */
  #registers(width: 32 | 64, opcode: number, reg: number, rm: number): void {
    this.#operandSize(width)
    this.#rex(width, reg, rm)
    this.raw(opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7))
  }

  /** An instruction whose ModRM byte names memory by a base register and a 32-bit displacement. */
  #memory(
    width: 32 | 64,
    opcode: readonly number[],
    reg: number,
    base: Register,
    displacement: number,
  ): void {
    this.#rex(width, reg, base)
    this.raw(...opcode, 0x80 | ((reg & 7) << 3) | (base & 7))
    if ((base & 7) === Register.SP) this.raw(0x24)
    this.#immediate32(displacement)
  }

  /** In 16-bit code, a prefix says that operands have 32 bits. */
  #operandSize(width: 32 | 64): void {
    if (this.bits === 16 && width === 32) this.raw(0x66)
  }

  #rex(width: 32 | 64, reg: number, rm: number): void {
    const rex = (width === 64 ? 8 : 0) | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0)
    if (rex === 0) return
    if (this.bits !== 64) {
      throw new AssemblerError('ASSEMBLER_NO_REGISTER', {
        expected: `a register that ${this.bits}-bit code has`,
        found: 'one that takes a REX prefix',
        hint: 'R8 to R15, and operands of 64 bits, are for 64-bit code',
      })
    }
    this.raw(0x40 | rex)
  }

  #immediate32(value: number): void {
    this.raw(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24)
  }

  #fix(label: string, kind: Fixup['kind']): void {
    this.#fixups.push({ at: this.size, label, kind })
    this.raw(...(kind === 'absolute16' ? [0, 0] : [0, 0, 0, 0]))
  }

  #offsetOf(label: string): number {
    const offset = this.#labels.get(label)
    if (offset === undefined) {
      throw new AssemblerError('ASSEMBLER_NO_LABEL', {
        expected: [...this.#labels.keys()].join(', ') || 'a label',
        found: `"${label}"`,
        hint: 'label() names the address of the next instruction',
      })
    }
    return offset
  }
}
