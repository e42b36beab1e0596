import { Mnemonic } from 'iced-x86'
import type { Translator } from '../table.ts'

/** Conditions in the order of their codes, as iced's mnemonics end (SDM Vol. 2, table B-10). */
const NAMES = [
  'o',
  'no',
  'b',
  'ae',
  'e',
  'ne',
  'be',
  'a',
  's',
  'ns',
  'p',
  'np',
  'l',
  'ge',
  'le',
  'g',
] as const

const CONDITION_OF_JUMP: ReadonlyMap<Mnemonic, number> = new Map(
  NAMES.map((name, condition) => [Mnemonic[`J${name}`], condition]),
)

/** The condition of a conditional jump; undefined for other instructions. */
export function conditionOf(mnemonic: Mnemonic): number | undefined {
  return CONDITION_OF_JUMP.get(mnemonic)
}

/** Instructions that come once for each condition, by the prefix of their mnemonics. */
export function forConditions(
  prefix: 'Cmov' | 'Set' | 'J',
  translator: (condition: number) => Translator,
): [Mnemonic, Translator][] {
  return NAMES.map((name, condition) => [Mnemonic[`${prefix}${name}`], translator(condition)])
}
