import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** Instructions that do nothing here: hints, and fences, as there is one order of memory accesses, that of the program. */
const nothing: Translator = (): Operation => () => {}

/** Cache lines are memory here, but the access that CLFLUSH and its like make to the line's page is checked as a load (SDM Vol. 2, CLFLUSH). */
const flush: Translator = (decoded) => {
  const { memory } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    execution.load8(execution.addressHigh, low)
  }
}

export const HINTS: InstructionFamily = {
  name: 'hints',
  translators: new Map([
    ...[
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
      Mnemonic.Cldemote,
    ].map((mnemonic): [Mnemonic, Translator] => [mnemonic, nothing]),
    [Mnemonic.Clflush, flush],
    [Mnemonic.Clflushopt, flush],
    [Mnemonic.Clwb, flush],
  ]),
}
