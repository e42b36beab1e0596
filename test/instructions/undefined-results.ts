import { Mnemonic } from 'iced-x86'

import type { Encoding } from './cases/encoding.ts'
import { RecordOffset } from './native/layout.ts'

/** What the manuals leave open in the result of one case: a processor may leave anything there. */
export interface UndefinedResult {
  /** Bits of RFLAGS. */
  readonly flags: number
  /** General registers, as a mask by number. */
  readonly registers: number
  /** The operand in memory, or in the register that is the destination. */
  readonly destination: boolean
}

/** Bytes of an XSAVE area without extended region, and of an FXSAVE image. */
const XSAVE_BYTES = 576n
const FXSAVE_BYTES = 512n
/**
 * Instructions that access two things, either of which may come first, and how near in bytes the two are to each other in a case: where both fault, which address CR2 has is open (SDM Vol. 2, CMPS and RET).
 * So it is with the parts of a state, and with the bytes that a mask chooses.
 */
export const UNORDERED_ACCESSES: ReadonlyMap<Mnemonic, bigint> = new Map<Mnemonic, bigint>([
  [Mnemonic.Cmpsb, 64n],
  [Mnemonic.Cmpsw, 64n],
  [Mnemonic.Cmpsd, 64n],
  [Mnemonic.Cmpsq, 64n],
  [Mnemonic.Retf, 64n],
  [Mnemonic.Maskmovq, 8n],
  [Mnemonic.Maskmovdqu, 16n],
  [Mnemonic.Xsave, XSAVE_BYTES],
  [Mnemonic.Xsave64, XSAVE_BYTES],
  [Mnemonic.Xsavec, XSAVE_BYTES],
  [Mnemonic.Xsavec64, XSAVE_BYTES],
  [Mnemonic.Xrstor, XSAVE_BYTES],
  [Mnemonic.Xrstor64, XSAVE_BYTES],
  [Mnemonic.Fxsave, FXSAVE_BYTES],
  [Mnemonic.Fxsave64, FXSAVE_BYTES],
  [Mnemonic.Fxrstor, FXSAVE_BYTES],
  [Mnemonic.Fxrstor64, FXSAVE_BYTES],
  [Mnemonic.Fnsave, FXSAVE_BYTES],
  [Mnemonic.Frstor, FXSAVE_BYTES],
  [Mnemonic.Fnstenv, FXSAVE_BYTES],
  [Mnemonic.Fldenv, FXSAVE_BYTES],
])

/** Stores whose mask leaves bytes out: whether those are looked at, and a page fault of theirs is signalled, is up to the processor (SDM Vol. 2, MASKMOVQ and MASKMOVDQU). */
export const MASKED_STORES: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Maskmovq,
  Mnemonic.Maskmovdqu,
])

/** Bits of the destination that are open whatever the case is: "the four bits corresponding to the upper four bits of the limit" (SDM Vol. 2, LAR). */
export const UNDEFINED_BITS: ReadonlyMap<Mnemonic, number> = new Map([[Mnemonic.Lar, 0xf_0000]])

const CF = 0x1
const PF = 0x4
const AF = 0x10
const ZF = 0x40
const SF = 0x80
const OF = 0x800
const ALL = CF | PF | AF | ZF | SF | OF
const RCX = 1

const DEFINED: UndefinedResult = { flags: 0, registers: 0, destination: false }

/** "The state of the AF flag is undefined" (SDM Vol. 2: AND, OR, XOR, TEST), and so on for each list of mnemonics. */
const ALWAYS: readonly (readonly [flags: number, mnemonics: readonly Mnemonic[]])[] = [
  [AF, [Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Test]],
  // "The SF, ZF, AF, and PF flags are undefined" (MUL; IMUL).
  [SF | ZF | AF | PF, [Mnemonic.Mul, Mnemonic.Imul]],
  // "The CF, OF, SF, ZF, AF, and PF flags are undefined" (DIV; IDIV).
  [ALL, [Mnemonic.Div, Mnemonic.Idiv]],
  // "The ZF flag is unaffected. The OF, SF, AF, and PF flags are undefined" (BT; BTC; BTR; BTS).
  [OF | SF | AF | PF, [Mnemonic.Bt, Mnemonic.Btc, Mnemonic.Btr, Mnemonic.Bts]],
  // "The CF, OF, SF, AF, and PF flags are undefined" (BSF; BSR).
  [CF | OF | SF | AF | PF, [Mnemonic.Bsf, Mnemonic.Bsr]],
  // "OF, SF, PF, and AF flags are undefined" (TZCNT; LZCNT).
  [OF | SF | PF | AF, [Mnemonic.Tzcnt, Mnemonic.Lzcnt]],
  // "AF and PF flags are undefined" (ANDN; BLSI; BLSMSK; BLSR), "AF, SF, and PF" (BEXTR), "AF and PF" (BZHI).
  [AF | PF, [Mnemonic.Andn, Mnemonic.Blsi, Mnemonic.Blsmsk, Mnemonic.Blsr, Mnemonic.Bzhi]],
  [AF | SF | PF, [Mnemonic.Bextr]],
  // "The OF, SF, ZF, and PF flags are undefined" (AAA; AAS), "The OF flag is undefined" (DAA; DAS), "The OF, AF, and CF flags are undefined" (AAD; AAM).
  [OF | SF | ZF | PF, [Mnemonic.Aaa, Mnemonic.Aas]],
  [OF, [Mnemonic.Daa, Mnemonic.Das]],
  [OF | AF | CF, [Mnemonic.Aad, Mnemonic.Aam]],
]
const ALWAYS_UNDEFINED = new Map(
  ALWAYS.flatMap(([flags, mnemonics]) => mnemonics.map((mnemonic) => [mnemonic, flags] as const)),
)

/** What is undefined after a case that was completed; `before` is its record, `rflags` what the host has afterwards. */
export function undefinedResult(
  encoding: Encoding,
  before: DataView,
  rflags: number,
): UndefinedResult {
  const { mnemonic } = encoding
  const always = ALWAYS_UNDEFINED.get(mnemonic)
  if (mnemonic === Mnemonic.Bsf || mnemonic === Mnemonic.Bsr) {
    // "If the content of the source operand is 0, the content of the destination operand is undefined", and ZF is set.
    return { flags: always!, registers: 0, destination: (rflags & ZF) !== 0 }
  }
  if (always !== undefined) return { ...DEFINED, flags: always }
  if (SHIFTS.has(mnemonic)) return undefinedShift(encoding, before)
  if (ROTATIONS.has(mnemonic)) {
    // "The OF flag is defined only for the 1-bit rotates; it is undefined in all other cases", a count of 0 apart (RCL, RCR, ROL, ROR).
    return { ...DEFINED, flags: countOf(encoding, before) > 1 ? OF : 0 }
  }
  // "When the BSWAP instruction references a 16-bit register, the result is undefined".
  if (mnemonic === Mnemonic.Bswap) {
    return { ...DEFINED, destination: encoding.operandBits === 16 }
  }
  return DEFINED
}

const SHIFTS: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Shl,
  Mnemonic.Sal,
  Mnemonic.Shr,
  Mnemonic.Sar,
  Mnemonic.Shld,
  Mnemonic.Shrd,
])
const ROTATIONS: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Rol,
  Mnemonic.Ror,
  Mnemonic.Rcl,
  Mnemonic.Rcr,
])

/** SDM Vol. 2, SAL/SAR/SHL/SHR and SHLD, SHRD: flags affected. */
function undefinedShift(encoding: Encoding, before: DataView): UndefinedResult {
  const count = countOf(encoding, before)
  if (count === 0) return DEFINED
  const bits = encoding.operandBits
  const isDouble = encoding.mnemonic === Mnemonic.Shld || encoding.mnemonic === Mnemonic.Shrd
  if (isDouble && count > bits) return { flags: ALL, registers: 0, destination: true }
  const isBeyond = count >= bits && encoding.mnemonic !== Mnemonic.Sar && !isDouble
  return { ...DEFINED, flags: AF | (count === 1 ? 0 : OF) | (isBeyond ? CF : 0) }
}

/** The count of a shift or a rotation, masked to 5 bits, or 6 for operands of 64 bits. */
function countOf(encoding: Encoding, before: DataView): number {
  const mask = encoding.operandBits === 64 ? 0x3f : 0x1f
  const immediate = encoding.immediate ?? BigInt(before.getUint8(RecordOffset.Registers + RCX * 8))
  return Number(immediate) & mask
}
