import { Gpr } from '@trapdoor/core'
import { Code, Mnemonic } from 'iced-x86'

import { CODE_64, CODE_REGIONS, DATA_REGIONS, WRITABLE_BYTES } from '../native/layout.ts'
import type { CaseState } from './state.ts'

const { RSP, RBP } = Gpr
/** POPF with these would end the child process, or trap. */
const TF_AND_AC = 0x4_0100n

/** An address that can be written, around which the window lies: a multiple of `alignment` (bytes). */
export function writablePlace(state: CaseState, alignment: number, onlyLow = false): bigint {
  for (;;) {
    const address = state.chooseAddress(alignment, onlyLow)
    const region = DATA_REGIONS.find(
      (start) => address >= start + 16n && address < start + BigInt(WRITABLE_BYTES - 16),
    )
    if (region !== undefined) return address
  }
}

/** The stack lies in the window, and what may be popped as an address leads to code. */
export function prepareStack(state: CaseState): void {
  const { encoding, random } = state
  const { bits } = encoding.form
  const usesStackPointer = encoding.memory?.base === RSP
  if (!usesStackPointer) {
    // RETF may read no more than the selector's own bytes, which shows where its slot lies across two pages.
    const isAligned = random.percent(70) || encoding.mnemonic === Mnemonic.Retf
    const address = state.target ?? state.chooseAddress(isAligned ? 8 : 1, bits === 32)
    // Above and below the operand, where there is one, so that both lie in the window.
    const offset = state.target === undefined ? 0 : random.below(33) - 16
    state.registers[RSP] = BigInt.asUintN(bits, address + BigInt(offset))
  }
  const top = state.registers[RSP]!
  FILLED.get(encoding.mnemonic)?.(state, top)
}

type FillStack = (state: CaseState, top: bigint) => void

/** What lies on the stack before instructions that pop an address or flags. */
const FILLED: ReadonlyMap<Mnemonic, FillStack> = new Map<Mnemonic, FillStack>([
  [
    Mnemonic.Ret,
    (state, top) => {
      state.put(top, branchTarget(state), state.encoding.form.bits / 8)
    },
  ],
  [
    Mnemonic.Retf,
    (state, top) => {
      const bytes = FAR_RETURN_BYTES.get(state.encoding.form.code) ?? 8
      state.put(top, branchTarget(state), bytes)
      state.put(top + BigInt(bytes), selector(state), bytes)
    },
  ],
  [Mnemonic.Popf, fillFlags],
  [Mnemonic.Popfd, fillFlags],
  [Mnemonic.Popfq, fillFlags],
  [
    Mnemonic.Leave,
    (state) => {
      state.registers[RBP] = state.chooseAddress(1, state.encoding.form.bits === 32)
    },
  ],
  [
    Mnemonic.Enter,
    ({ registers, random }, top) => {
      registers[RBP] = top + BigInt(random.below(64))
    },
  ],
])

/** Whole words of the window, as TF and AC may be set in what lies beside it. */
function fillFlags(state: CaseState): void {
  const place = state.random.percent(95) ? writablePlace(state, 8) : DATA_REGIONS[0]! - 16n
  state.registers[RSP] = place
  state.put(place, state.value() & ~TF_AND_AC, 8)
}

const FAR_RETURN_BYTES: ReadonlyMap<Code, number> = new Map([
  [Code.Retfw, 2],
  [Code.Retfw_imm16, 2],
  [Code.Retfd, 4],
  [Code.Retfd_imm16, 4],
])

export function branchTarget({ random, encoding }: CaseState): bigint {
  if (encoding.form.bits === 32) return BigInt(random.word())
  if (random.percent(50)) return CODE_REGIONS[random.below(2)]! + BigInt(random.below(8192))
  return BigInt.asUintN(64, BigInt.asIntN(47, random.bits(47)))
}

export function selector({ random }: CaseState): bigint {
  return BigInt(random.percent(80) ? CODE_64 : random.pick([0, 3, 0x10, 0x2b, 0x33, 0xfff3]))
}
