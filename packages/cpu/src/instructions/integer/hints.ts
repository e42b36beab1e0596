import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** Instructions that do nothing here: hints, and fences, as there is one order of memory accesses, that of the program. */
const nothing: Translator = (): Operation => () => {}

export const HINTS: InstructionFamily = {
  name: 'hints',
  translators: new Map(
    [
      Mnemonic.Nop,
      Mnemonic.Reservednop,
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
    ].map((mnemonic): [Mnemonic, Translator] => [mnemonic, nothing]),
  ),
}
