import { Mnemonic } from 'iced-x86'
import type { InstructionFamily, Translator } from '../table.ts'

const cbw: Translator = () => (general) => {
  const low = general[0]!
  general[0] = (low & ~0xffff) | (((low << 24) >> 24) & 0xffff)
}

const cwde: Translator = () => (general) => {
  general[0] = (general[0]! << 16) >> 16
  general[1] = 0
}

const cdqe: Translator = () => (general) => {
  general[1] = general[0]! >> 31
}

const cwd: Translator = () => (general) => {
  general[4] = (general[4]! & ~0xffff) | (((general[0]! << 16) >> 31) & 0xffff)
}

const cdq: Translator = () => (general) => {
  general[4] = general[0]! >> 31
  general[5] = 0
}

const cqo: Translator = () => (general) => {
  const sign = general[1]! >> 31
  general[4] = sign
  general[5] = sign
}

export const CONVERSIONS: InstructionFamily = {
  name: 'conversions',
  translators: new Map([
    [Mnemonic.Cbw, cbw],
    [Mnemonic.Cwde, cwde],
    [Mnemonic.Cdqe, cdqe],
    [Mnemonic.Cwd, cwd],
    [Mnemonic.Cdq, cdq],
    [Mnemonic.Cqo, cqo],
  ]),
}
