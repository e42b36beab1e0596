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

/** Instructions that read two things, either of which may be read first: where both fault, which address CR2 has is open (SDM Vol. 2, CMPS and RET). */
export const UNORDERED_ACCESSES: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Cmpsb,
  Mnemonic.Cmpsw,
  Mnemonic.Cmpsd,
  Mnemonic.Cmpsq,
  Mnemonic.Retf,
])
/** So near, in bytes, are the two to each other in a case. */
export const UNORDERED_DISTANCE = 64n

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
