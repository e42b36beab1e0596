import { BoundRangeExceeded, Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Execution } from '../../execution.ts'
import { readRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** Words of the registers that PUSHA pushes, in this order; the fifth is the stack pointer as it was. */
const ALL = [0, 2, 4, 6, 8, 10, 12, 14] as const
const STACK_POINTER = 8

const pushAll =
  (size: 2 | 4): Translator =>
  () =>
  (general, execution) => {
    const pointer = general[STACK_POINTER]!
    try {
      for (const word of ALL) {
        execution.push(general, size, word === STACK_POINTER ? pointer : general[word]!)
      }
    } catch (error) {
      // What was pushed before lies below the stack.
      general[STACK_POINTER] = pointer
      throw error
    }
  }

/** POPA: all but the stack pointer. */
const popAll =
  (size: 2 | 4): Translator =>
  () =>
  (general, execution) => {
    const pointer = general[STACK_POINTER]!
    const values: number[] = []
    try {
      for (let index = 0; index < ALL.length; index++) values.push(execution.pop(general, size))
    } catch (error) {
      general[STACK_POINTER] = pointer
      throw error
    }
    for (const [index, word] of ALL.toReversed().entries()) {
      if (word === STACK_POINTER) continue
      const value = values[index]!
      general[word] = size === 4 ? value : (general[word]! & ~0xffff) | (value & 0xffff)
    }
  }

/** BOUND: #BR for a signed index that is not within two signed bounds in memory. */
const bound: Translator = (decoded) => {
  const register = decoded.register(0)
  const read = readRegister(register)
  const { memory } = decoded
  const isWide = register.size === 4
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const second = (low + register.size) | 0
    const lower = isWide ? execution.load32(high, low) : signed16(execution.load16(high, low))
    const upper = isWide ? execution.load32(high, second) : signed16(execution.load16(high, second))
    const index = isWide ? read(general, execution) : signed16(read(general, execution))
    if (index >= lower && index <= upper) return
    throw execution.cpu.raise((site) => new BoundRangeExceeded(index, lower, upper, site))
  }
}

function signed16(value: number): number {
  return (value << 16) >> 16
}

const AL = 0xff
const AX = 0xffff

/** Sets SF, ZF and PF by a byte, AF and CF as told; OF is undefined, and cleared. */
function setDecimalFlags(
  execution: Execution,
  result: number,
  { adjusted, carry }: { readonly adjusted: boolean; readonly carry: boolean },
): void {
  let parity = result & AL
  parity ^= parity >>> 4
  const isEven = ((0x9669 >>> (parity & 0xf)) & 1) !== 0
  execution.statusFlags =
    (carry ? Rflags.CF : 0) |
    (isEven ? Rflags.PF : 0) |
    (adjusted ? Rflags.AF : 0) |
    ((result & AL) === 0 ? Rflags.ZF : 0) |
    ((result & 0x80) === 0 ? 0 : Rflags.SF)
}

/** DAA and DAS: packed decimal after an addition or subtraction (SDM Vol. 2). */
const adjustPacked =
  (sign: 1 | -1): Translator =>
  () =>
  (general, execution) => {
    const before = general[0]! & AL
    const hadCarry = execution.carry
    const adjusted = (before & 0xf) > 9 || execution.adjust
    let value = before
    let carry = hadCarry
    if (adjusted) {
      value += sign * 6
      // A borrow of the low digit counts for DAS alone; for DAA the second test covers the carry.
      carry = hadCarry || value < 0 || value > AL
    }
    if (before > 0x99 || hadCarry) {
      value += sign * 0x60
      carry = true
    } else if (sign === 1) {
      carry = false
    }
    general[0] = (general[0]! & ~AL) | (value & AL)
    setDecimalFlags(execution, value, { adjusted, carry })
  }

/** AAA and AAS: unpacked decimal. */
const adjustUnpacked =
  (sign: 1 | -1): Translator =>
  () =>
  (general, execution) => {
    const adjusted = (general[0]! & 0xf) > 9 || execution.adjust
    const value = (general[0]! & AX) + (adjusted ? sign * 0x106 : 0)
    general[0] = (general[0]! & ~AX) | (value & 0xff0f)
    setDecimalFlags(execution, value & 0xf, { adjusted, carry: adjusted })
  }

/** SALC: AL is FFH where CF is set, and else 0; processors have had it since the 8086, and manuals leave D6 out (kvm-unit-tests, x86/realmode.c, test_salc()). */
const salc: Translator = () => (general, execution) => {
  general[0] = (general[0]! & ~AL) | (execution.carry ? AL : 0)
}

/** AAM: AL divided by a base, quotient to AH. A base of 0 is #DE. */
const aam: Translator = (decoded) => {
  const base = decoded.immediate(0).low & AL
  return (general, execution) => {
    if (base === 0) throw execution.divideError()
    const value = general[0]! & AL
    const rest = value % base
    general[0] = (general[0]! & ~AX) | (Math.floor(value / base) << 8) | rest
    setDecimalFlags(execution, rest, { adjusted: false, carry: false })
  }
}

/** AAD: AH times a base, plus AL, to AL. */
const aad: Translator = (decoded) => {
  const base = decoded.immediate(0).low & AL
  return (general, execution) => {
    const value = ((general[0]! & AL) + ((general[0]! >>> 8) & AL) * base) & AL
    general[0] = (general[0]! & ~AX) | value
    setDecimalFlags(execution, value, { adjusted: false, carry: false })
  }
}

/** Instructions that 64-bit mode does not have. */
export const LEGACY: InstructionFamily = {
  name: 'legacy',
  translators: new Map([
    [Mnemonic.Pusha, pushAll(2)],
    [Mnemonic.Pushad, pushAll(4)],
    [Mnemonic.Popa, popAll(2)],
    [Mnemonic.Popad, popAll(4)],
    [Mnemonic.Bound, bound],
    [Mnemonic.Daa, adjustPacked(1)],
    [Mnemonic.Das, adjustPacked(-1)],
    [Mnemonic.Aaa, adjustUnpacked(1)],
    [Mnemonic.Aas, adjustUnpacked(-1)],
    [Mnemonic.Salc, salc],
    [Mnemonic.Aam, aam],
    [Mnemonic.Aad, aad],
  ]),
}
