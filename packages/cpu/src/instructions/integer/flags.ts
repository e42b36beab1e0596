import { loadFlags, Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Execution } from '../../execution.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** SF, ZF, AF, PF and CF, which LAHF and SAHF move. */
const LOW_FLAGS = 0xd5

const clc: Translator = () => (_general, execution) => {
  execution.replaceFlags(Rflags.CF, 0)
}

const stc: Translator = () => (_general, execution) => {
  execution.replaceFlags(Rflags.CF, Rflags.CF)
}

const cmc: Translator = () => (_general, execution) => {
  execution.replaceFlags(Rflags.CF, execution.carry ? 0 : Rflags.CF)
}

const cld: Translator =
  () =>
  (_general, { cpu }) => {
    cpu.controlFlags &= ~Rflags.DF
  }

const std: Translator =
  () =>
  (_general, { cpu }) => {
    cpu.controlFlags |= Rflags.DF
  }

const lahf: Translator = () => (general, execution) => {
  const flags = (execution.statusFlags & LOW_FLAGS) | Rflags.Fixed
  general[0] = (general[0]! & ~0xff00) | (flags << 8)
}

const sahf: Translator = () => (general, execution) => {
  execution.replaceFlags(LOW_FLAGS, general[0]! >>> 8)
}

/** PUSHF: RF and VM are pushed as 0 (SDM Vol. 2). In virtual-8086 mode it would ask IOPL, but that mode is not there. */
const pushf: Translator = (decoded) => {
  const size = decoded.stackBytes
  if (size === 8) {
    return (general, execution) => {
      execution.push64(general, pushedFlags(execution), 0)
    }
  }
  return (general, execution) => {
    execution.push(general, size, pushedFlags(execution))
  }
}

function pushedFlags({ cpu }: Execution): number {
  return cpu.rflags & ~(Rflags.RF | Rflags.VM)
}

/** POPF: what the privilege level does not let through stays as it was, without a word (SDM Vol. 2, table 4-16). */
const popf: Translator = (decoded) => {
  const size = decoded.stackBytes
  return (general, execution) => {
    const { cpu } = execution
    const value =
      size === 8 ? execution.loadStack64(general[9]!, general[8]!) : execution.top(general, size)
    execution.addToStackPointer(general, size)
    loadFlags(cpu, value, size, { byInterruptReturn: false })
    // An interrupt that was held back may come now, or single-stepping begin.
    execution.attention = true
  }
}

export const FLAGS: InstructionFamily = {
  name: 'flags',
  translators: new Map([
    [Mnemonic.Clc, clc],
    [Mnemonic.Stc, stc],
    [Mnemonic.Cmc, cmc],
    [Mnemonic.Cld, cld],
    [Mnemonic.Std, std],
    [Mnemonic.Lahf, lahf],
    [Mnemonic.Sahf, sahf],
    [Mnemonic.Pushf, pushf],
    [Mnemonic.Pushfd, pushf],
    [Mnemonic.Pushfq, pushf],
    [Mnemonic.Popf, popf],
    [Mnemonic.Popfd, popf],
    [Mnemonic.Popfq, popf],
  ]),
  endBlock: new Set([Mnemonic.Popf, Mnemonic.Popfd, Mnemonic.Popfq]),
}
