import { Code, Mnemonic, OpKind } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** Instructions that do nothing here: hints, and fences, as there is one order of memory accesses, that of the program. */
const nothing: Translator = (): Operation => () => {}

/** 0F 0D with a register, which AMD's processors do not have: there it is the prefetches' opcode (APM Vol. 3, PREFETCH). */
const PREFETCH_OF_REGISTER: ReadonlySet<Code> = new Set([
  Code.Reservednop_rm16_r16_0F0D,
  Code.Reservednop_rm32_r32_0F0D,
  Code.Reservednop_rm64_r64_0F0D,
])

const reserved: Translator = ({ code, bytes, instruction }) => {
  if (!PREFETCH_OF_REGISTER.has(code) || instruction.opKind(0) !== OpKind.Register) {
    return () => {}
  }
  return (_general, execution) => {
    if (execution.cpu.machine.features.vendor === 'amd') throw execution.invalidOpcode(bytes)
  }
}

export const HINTS: InstructionFamily = {
  name: 'hints',
  translators: new Map(
    [
      Mnemonic.Nop,
      Mnemonic.Endbr64,
      Mnemonic.Endbr32,
      Mnemonic.Pause,
      Mnemonic.Lfence,
      Mnemonic.Sfence,
      Mnemonic.Mfence,
      Mnemonic.Prefetch,
      Mnemonic.Prefetchw,
      Mnemonic.Prefetchwt1,
      Mnemonic.Prefetchnta,
      Mnemonic.Prefetcht0,
      Mnemonic.Prefetcht1,
      Mnemonic.Prefetcht2,
      Mnemonic.Prefetchit0,
      Mnemonic.Prefetchit1,
      Mnemonic.Cldemote,
      // Without shadow stacks, which CPUID does not have, they are NOPs (SDM Vol. 2, RDSSPD/RDSSPQ).
      Mnemonic.Rdsspd,
      Mnemonic.Rdsspq,
    ]
      .map((mnemonic): [Mnemonic, Translator] => [mnemonic, nothing])
      .concat([[Mnemonic.Reservednop, reserved]]),
  ),
}
