import { Code, type Instruction, OpCodeOperandKind, OpKind, Register } from 'iced-x86'

/** Bits of the code that a form belongs to: 64-bit mode, or a 32-bit code segment. */
export type FormBits = 64 | 32

/**
 * A form of an instruction: what is executed by one piece of semantics. Registers, immediates and displacements are the cases of a form. `code` is iced-x86's name of an
 * opcode with operand sizes; `address` says what the operand of ModRM is.
 */
export interface Form {
  readonly bits: FormBits
  readonly code: Code
  /** Undefined for an instruction without memory operand; else how its address is made, such as `base+disp`. */
  readonly address: AddressShape | undefined
  readonly prefix: FormPrefix | undefined
}

/** Operands of ModRM that are a register or memory. */
export const OR_MEMORY: ReadonlySet<OpCodeOperandKind> = new Set([
  OpCodeOperandKind.r8_or_mem,
  OpCodeOperandKind.r16_or_mem,
  OpCodeOperandKind.r32_or_mem,
  OpCodeOperandKind.r64_or_mem,
  OpCodeOperandKind.mm_or_mem,
  OpCodeOperandKind.xmm_or_mem,
])

/** The parts of an effective address. */
export interface AddressShape {
  readonly base: boolean
  readonly index: boolean
  readonly displacement: boolean
  /** Relative to the next instruction. */
  readonly relative: boolean
  readonly segment: 'fs' | 'gs' | undefined
  /** Bits of an address, where they are not those of the code. */
  readonly narrow: boolean
}

export type FormPrefix = 'lock' | 'rep' | 'repne'

const PREFIXES: ReadonlySet<string> = new Set(['lock', 'rep', 'repne'])
const IMPLICIT_MEMORY: ReadonlySet<OpKind> = new Set([
  OpKind.MemorySegSI,
  OpKind.MemorySegESI,
  OpKind.MemorySegRSI,
  OpKind.MemorySegDI,
  OpKind.MemorySegEDI,
  OpKind.MemorySegRDI,
  OpKind.MemoryESDI,
  OpKind.MemoryESEDI,
  OpKind.MemoryESRDI,
])
const NARROW_IN_64: ReadonlySet<OpKind> = new Set([
  OpKind.MemorySegESI,
  OpKind.MemorySegEDI,
  OpKind.MemoryESEDI,
])

/** The form of a decoded instruction. */
export function formOf(instruction: Instruction, bits: FormBits): Form {
  return {
    bits,
    code: instruction.code,
    address: addressShapeOf(instruction, bits),
    prefix: prefixOf(instruction),
  }
}

/** A form in one line, which {@link parseForm} reads: `64 Add_rm64_r64 [base+disp] lock`. */
export function describeForm({ bits, code, address, prefix }: Form): string {
  const words = [String(bits), Code[code]]
  if (address !== undefined) words.push(`[${describeShape(address)}]`)
  if (prefix !== undefined) words.push(prefix)
  return words.join(' ')
}

/** Reads a line of {@link describeForm}; undefined for one that is none. */
export function parseForm(line: string): Form | undefined {
  const [bits, name, ...rest] = line.split(' ')
  const code = (Code as unknown as Record<string, Code | undefined>)[name ?? '']
  if ((bits !== '64' && bits !== '32') || code === undefined) return undefined
  const text = rest[0]?.startsWith('[') === true ? rest.shift() : undefined
  const shape = text === undefined ? undefined : parseShape(text)
  if (text !== undefined && shape === undefined) return undefined
  const prefix = rest.shift()
  if (rest.length > 0 || (prefix !== undefined && !PREFIXES.has(prefix))) return undefined
  return {
    bits: bits === '64' ? 64 : 32,
    code,
    address: shape,
    prefix: prefix as FormPrefix | undefined,
  }
}

function addressShapeOf(instruction: Instruction, bits: FormBits): AddressShape | undefined {
  let shape: AddressShape | undefined
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const kind = instruction.opKind(operand)
    if (kind === OpKind.Memory) return explicitShape(instruction, bits)
    if (!IMPLICIT_MEMORY.has(kind)) continue
    shape = {
      base: false,
      index: false,
      displacement: false,
      relative: false,
      segment: shape?.segment ?? overriddenSegment(instruction),
      narrow: bits === 64 && NARROW_IN_64.has(kind),
    }
  }
  return shape
}

function explicitShape(instruction: Instruction, bits: FormBits): AddressShape {
  const { memoryBase, memoryIndex, memoryDisplSize } = instruction
  const relative = memoryBase === Register.RIP || memoryBase === Register.EIP
  const base = memoryBase !== Register.None && !relative
  const index = memoryIndex !== Register.None
  const isNarrowRegister = (register: Register): boolean =>
    bits === 64
      ? (register >= Register.EAX && register <= Register.R15D) || register === Register.EIP
      : register >= Register.AX && register <= Register.R15W
  return {
    base,
    index,
    displacement: memoryDisplSize !== 0,
    relative,
    segment: overriddenSegment(instruction),
    narrow:
      isNarrowRegister(memoryBase) ||
      isNarrowRegister(memoryIndex) ||
      (!base && !index && !relative && memoryDisplSize === bits / 16),
  }
}

function overriddenSegment({ segmentPrefix }: Instruction): 'fs' | 'gs' | undefined {
  if (segmentPrefix === Register.FS) return 'fs'
  return segmentPrefix === Register.GS ? 'gs' : undefined
}

function prefixOf(instruction: Instruction): FormPrefix | undefined {
  if (instruction.hasLockPrefix) return 'lock'
  if (instruction.hasRepPrefix) return 'rep'
  return instruction.hasRepnePrefix ? 'repne' : undefined
}

function describeShape(shape: AddressShape): string {
  const parts = [
    ...(shape.relative ? ['rip'] : []),
    ...(shape.base ? ['base'] : []),
    ...(shape.index ? ['index'] : []),
    ...(shape.displacement ? ['disp'] : []),
  ]
  const address = parts.length === 0 ? 'string' : parts.join('+')
  return `${shape.segment === undefined ? '' : `${shape.segment}:`}${address}${shape.narrow ? ':narrow' : ''}`
}

const SHAPE = /^\[(?:(?<segment>fs|gs):)?(?<address>[a-z+]+)(?<narrow>:narrow)?\]$/

function parseShape(text: string): AddressShape | undefined {
  const { segment, address, narrow } = SHAPE.exec(text)?.groups ?? {}
  if (address === undefined) return undefined
  const parts = address.split('+')
  return {
    base: parts.includes('base'),
    index: parts.includes('index'),
    displacement: parts.includes('disp'),
    relative: parts.includes('rip'),
    segment: segment as 'fs' | 'gs' | undefined,
    narrow: narrow !== undefined,
  }
}
