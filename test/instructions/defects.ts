import { type Cpu, Rflags } from '@trapdoor/core'
import {
  type DecodedInstruction,
  type Execution,
  INSTRUCTION_FAMILIES,
  type InstructionFamily,
  type Operation,
} from '@trapdoor/cpu'
import { Mnemonic } from 'iced-x86'

/** A way in which our CPU could be wrong, and a form that must show it. */
export interface Defect {
  readonly name: string
  /** Text of the lines of forms that are run. */
  readonly form: string
  readonly families: readonly InstructionFamily[]
}

/** What is done beside the right operation, or in its place. */
type Change = (operation: Operation, general: Int32Array, execution: Execution) => void

function defect(name: string, form: string, mnemonic: Mnemonic, change: Change): Defect {
  const defective: InstructionFamily = {
    name: 'defective',
    translators: new Map([
      [
        mnemonic,
        (decoded: DecodedInstruction) => {
          const operation = rightOperation(decoded)
          if (operation === undefined) return undefined
          return (general: Int32Array, execution: Execution) => {
            change(operation, general, execution)
          }
        },
      ],
    ]),
  }
  return { name, form, families: [defective, ...INSTRUCTION_FAMILIES] }
}

function rightOperation(decoded: DecodedInstruction): Operation | undefined {
  for (const { translators } of INSTRUCTION_FAMILIES) {
    const operation = translators.get(decoded.mnemonic)?.(decoded)
    if (operation !== undefined) return operation
  }
  return undefined
}

/** Flags are as `change` makes them of those before and after the operation. */
function flags(change: (before: number, after: number, cpu: Cpu) => number): Change {
  return (operation, general, execution) => {
    const before = execution.statusFlags
    operation(general, execution)
    execution.statusFlags = change(before, execution.statusFlags, execution.cpu)
  }
}

const RCX_WORD = 2
const RDX_WORD = 4
const ALL_STATUS = 0x8d5

/** Mistakes that emulators make; some are known of those that there are. */
export const DEFECTS: readonly Defect[] = [
  defect(
    'ADD leaves AF as it was',
    'Add_rm64_r64',
    Mnemonic.Add,
    flags((before, after) => (after & ~Rflags.AF) | (before & Rflags.AF)),
  ),
  defect(
    'ADC forgets the carry that comes out of adding the carry',
    'Adc_rm32_r32',
    Mnemonic.Adc,
    flags((before, after) => ((before & after & Rflags.CF) !== 0 ? after & ~Rflags.CF : after)),
  ),
  defect(
    'SUB has OF without regard to the operands’ signs',
    'Sub_rm32_r32',
    Mnemonic.Sub,
    flags((_, after) => after & ~Rflags.OF),
  ),
  defect(
    'INC changes CF',
    'Inc_rm32',
    Mnemonic.Inc,
    flags((before, after) => after ^ (before & Rflags.CF)),
  ),
  defect(
    'a shift by CL = 0 changes flags',
    'Shr_rm32_CL',
    Mnemonic.Shr,
    (operation, general, execution) => {
      const count = general[RCX_WORD]! & 0x1f
      operation(general, execution)
      if (count === 0) execution.statusFlags &= ~ALL_STATUS
    },
  ),
  defect(
    'a shift of 64 bits masks its count to 5 bits',
    'Shl_rm64_CL',
    Mnemonic.Shl,
    (operation, general, execution) => {
      const count = general[RCX_WORD]!
      general[RCX_WORD] = count & ~0x20
      operation(general, execution)
      general[RCX_WORD] = (general[RCX_WORD] & ~0x20) | (count & 0x20)
    },
  ),
  defect(
    'XADD loses the sum where both operands are one register',
    'Xadd_rm32_r32',
    Mnemonic.Xadd,
    (operation, general, execution) => {
      const before = general.slice()
      operation(general, execution)
      if (general.every((word, at) => at === 0 || word === before[at])) general[0] = before[0]!
    },
  ),
  defect(
    'DIV forgets that the quotient does not fit',
    'Div_rm32',
    Mnemonic.Div,
    (operation, general, execution) => {
      try {
        operation(general, execution)
      } catch (error) {
        if (general[RDX_WORD] === 0) throw error
        general[0] = -1
      }
    },
  ),
  defect(
    'a faulting PUSH moves RSP',
    'Push_r64',
    Mnemonic.Push,
    (operation, general, execution) => {
      const before = general[8]!
      try {
        operation(general, execution)
      } catch (error) {
        general[8] = before - 8
        throw error
      }
    },
  ),
  defect(
    'CMOVcc of 32 bits keeps the upper half where its condition is false',
    'Cmove_r32_rm32',
    Mnemonic.Cmove,
    (operation, general, execution) => {
      const before = general.slice()
      const isTaken = execution.zero
      operation(general, execution)
      if (!isTaken) general.set(before)
    },
  ),
  defect(
    'CMPXCHG does not touch memory that it does not change',
    'Cmpxchg_rm64_r64 [base] lock',
    Mnemonic.Cmpxchg,
    (operation, general, execution) => {
      try {
        operation(general, execution)
      } catch {
        execution.statusFlags = 0
      }
    },
  ),
  defect(
    'SAHF sets bit 1 and 3 of the flags as AH has them',
    'Sahf',
    Mnemonic.Sahf,
    (operation, general, execution) => {
      operation(general, execution)
      execution.cpu.controlFlags |= (general[0]! >> 8) & 0x8 ? Rflags.NT : 0
    },
  ),
  defect(
    'PADDUSB wraps around',
    'Paddusb_xmm_xmmm128',
    Mnemonic.Paddusb,
    (operation, general, execution) => {
      operation(general, execution)
      const { xmm } = execution.cpu.floatingPoint
      for (let word = 0; word < xmm.length; word++) if (xmm[word] === -1) xmm[word] = 0
    },
  ),
  defect(
    'ADDSD rounds to nearest whatever MXCSR says',
    'Addsd_xmm_xmmm64',
    Mnemonic.Addsd,
    (operation, general, execution) => {
      const { cpu } = execution
      const rounding = cpu.mxcsr & 0x6000
      cpu.mxcsr &= ~0x6000
      operation(general, execution)
      cpu.mxcsr |= rounding
    },
  ),
  defect('FADDP does not pop', 'Faddp_sti_st0', Mnemonic.Faddp, (operation, general, execution) => {
    const state = execution.cpu.floatingPoint
    const top = state.statusWord & 0x3800
    operation(general, execution)
    state.statusWord = (state.statusWord & ~0x3800) | top
  }),
  defect('FISTP ignores RC', 'Fistp_m64int', Mnemonic.Fistp, (operation, general, execution) => {
    const state = execution.cpu.floatingPoint
    const { controlWord } = state
    state.controlWord = controlWord & ~0xc00
    operation(general, execution)
    state.controlWord = controlWord
  }),
]
