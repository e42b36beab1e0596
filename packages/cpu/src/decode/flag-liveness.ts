import { FlowControl, Mnemonic, OpKind } from 'iced-x86'
import { type DecodedInstruction, generalRegister } from './decoded-instruction.ts'

/** Instructions that set all status flags whatever their operands are. */
const SETS_ALL: ReadonlySet<number> = new Set([
  Mnemonic.Add,
  Mnemonic.And,
  Mnemonic.Cmp,
  Mnemonic.Neg,
  Mnemonic.Or,
  Mnemonic.Sub,
  Mnemonic.Test,
  Mnemonic.Xor,
])
/** Instructions on registers that neither fault nor look at flags. Of those that set some, or set them for some operands alone, what was before is needed as far as what is after. */
const TRANSPARENT: ReadonlySet<number> = new Set([
  Mnemonic.Mov,
  Mnemonic.Movzx,
  Mnemonic.Movsx,
  Mnemonic.Movsxd,
  Mnemonic.Lea,
  Mnemonic.Not,
  Mnemonic.Bswap,
  Mnemonic.Cdq,
  Mnemonic.Cdqe,
  Mnemonic.Cqo,
  Mnemonic.Nop,
  Mnemonic.Dec,
  Mnemonic.Imul,
  Mnemonic.Inc,
  Mnemonic.Rol,
  Mnemonic.Ror,
  Mnemonic.Sal,
  Mnemonic.Sar,
  Mnemonic.Shl,
  Mnemonic.Shr,
  Mnemonic.Endbr64,
])
/**
 * Tells which instructions of a block set flags in vain: all six are set again before an instruction looks at them, faults, or ends the block. A block is carried out
 * whole or not at all as far as those between are concerned.
 */
export function markDeadFlags(instructions: readonly DecodedInstruction[]): void {
  let needed = true
  for (const decoded of instructions.toReversed()) {
    decoded.flagsNeeded = needed
    const { mnemonic } = decoded
    if (decoded.isFollowed && mnemonic === Mnemonic.Jmp) continue
    if (!isOnRegisters(decoded)) needed = true
    else if (SETS_ALL.has(mnemonic)) needed = false
    else if (!TRANSPARENT.has(mnemonic)) needed = true
  }
}

/** Whether an instruction is known to work on registers alone, and neither to fault nor to leave its block. */
export function isPlain(decoded: DecodedInstruction): boolean {
  const { mnemonic } = decoded
  return isOnRegisters(decoded) && (SETS_ALL.has(mnemonic) || TRANSPARENT.has(mnemonic))
}

function isOnRegisters({ instruction, mnemonic }: DecodedInstruction): boolean {
  if (instruction.flowControl !== FlowControl.Next) return false
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const kind = instruction.opKind(operand)
    const isData = kind > OpKind.Immediate32to64
    if (isData && mnemonic !== Mnemonic.Lea) return false
    if (kind === OpKind.Register && generalRegister(instruction.opRegister(operand)) === undefined)
      return false
  }
  return true
}
