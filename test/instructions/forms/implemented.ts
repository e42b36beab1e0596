import { INSTRUCTION_FAMILIES } from '@trapdoor/cpu'
import { Code, CodeExt, EncodingKind, type OpCodeInfo, OpCodeOperandKind } from 'iced-x86'

import { type AddressShape, type Form, type FormPrefix, OR_MEMORY } from './form.ts'

const BASE_AND_DISPLACEMENT: AddressShape = {
  base: true,
  index: false,
  displacement: true,
  relative: false,
  segment: undefined,
  narrow: false,
}
const STRING: AddressShape = { ...BASE_AND_DISPLACEMENT, base: false, displacement: false }
const OFFSET: AddressShape = { ...STRING, displacement: true }

const STRINGS: ReadonlySet<OpCodeOperandKind> = new Set([
  OpCodeOperandKind.seg_rSI,
  OpCodeOperandKind.es_rDI,
  OpCodeOperandKind.seg_rDI,
])

const ALL_CODES: readonly Code[] = Object.values(Code).filter(
  (value): value is Code => typeof value === 'number',
)

/** Every opcode whose mnemonic a family of the interpreter has: with a register and with memory where it can have either, with LOCK or a repetition where it can have that. */
export function implementedForms(): Form[] {
  const mnemonics = new Set(
    INSTRUCTION_FAMILIES.flatMap(({ translators }) => Array.from(translators.keys())),
  )
  return ALL_CODES.flatMap((code) => {
    const opCode = CodeExt.opCode(code)
    try {
      if (!opCode.intelDecoder64 || opCode.encoding !== EncodingKind.Legacy || opCode.fwait) {
        return []
      }
      return mnemonics.has(opCode.mnemonic) ? formsOf(code, opCode) : []
    } finally {
      opCode.free()
    }
  })
}

function formsOf(code: Code, opCode: OpCodeInfo): Form[] {
  return addressesOf(opCode).flatMap((address) =>
    prefixesOf(opCode, address).map((prefix): Form => ({ bits: 64, code, address, prefix })),
  )
}

function addressesOf(opCode: OpCodeInfo): (AddressShape | undefined)[] {
  const kinds = Array.from({ length: opCode.opCount }, (_, operand) => opCode.opKind(operand))
  if (kinds.some((kind) => STRINGS.has(kind))) return [STRING]
  if (kinds.includes(OpCodeOperandKind.seg_rBX_al)) return [STRING]
  if (kinds.includes(OpCodeOperandKind.mem_offs)) return [OFFSET]
  if (kinds.includes(OpCodeOperandKind.mem)) return [BASE_AND_DISPLACEMENT]
  if (kinds.some((kind) => OR_MEMORY.has(kind))) return [undefined, BASE_AND_DISPLACEMENT]
  return [undefined]
}

function prefixesOf(
  opCode: OpCodeInfo,
  address: AddressShape | undefined,
): (FormPrefix | undefined)[] {
  const isMemory = address !== undefined && address !== STRING
  return [
    undefined,
    ...(isMemory && opCode.canUseLockPrefix ? (['lock'] as const) : []),
    ...(address === STRING && opCode.canUseRepPrefix ? (['rep'] as const) : []),
    ...(address === STRING && opCode.canUseRepnePrefix ? (['repne'] as const) : []),
  ]
}
