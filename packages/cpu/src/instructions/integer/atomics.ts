import { Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import { readRegister, writeRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** A CPU carries out instructions one at a time, and other CPUs none meanwhile, so that these are atomic with a LOCK prefix or without. */

const xadd: Translator = (decoded) => {
  const { word, size } = decoded.register(1)
  if (size === 8) return xadd64(decoded, word)
  const source = decoded.register(1)
  const readSource = readRegister(source)
  const writeSource = writeRegister(source)
  const shift = size === 1 ? 24 : 16
  if (decoded.isRegister(0)) {
    const readTarget = readRegister(decoded.register(0))
    const writeTarget = writeRegister(decoded.register(0))
    return (general, execution) => {
      const value = readTarget(general, execution)
      const added = readSource(general, execution)
      const sum =
        size === 4 ? execution.add32(value, added) : execution.addSmall(value, added, shift)
      writeSource(general, execution, value)
      writeTarget(general, execution, sum)
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const value = execution.loadToModify(high, low, size)
    const added = readSource(general, execution)
    execution.store(high, low, size, value + added)
    if (size === 4) execution.add32(value, added)
    else execution.addSmall(value, added, shift)
    writeSource(general, execution, value)
  }
}

function xadd64(decoded: DecodedInstruction, word: number): Operation {
  if (decoded.isRegister(0)) {
    const target = decoded.register(0).word
    return (general, execution) => {
      const low = general[target]!
      const high = general[target + 1]!
      const sum = execution.add64(low, high, general[word]!, general[word + 1]!)
      general[word] = low
      general[word + 1] = high
      general[target] = sum
      general[target + 1] = execution.high
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    const at = execution.address(general, memory)
    const atHigh = execution.addressHigh
    const low = execution.loadToModify64(atHigh, at)
    const { high } = execution
    // The right to write was checked: the store cannot fault, so that flags may come first.
    const sum = execution.add64(low, high, general[word]!, general[word + 1]!)
    execution.store64(atHigh, at, sum, execution.high)
    general[word] = low
    general[word + 1] = high
  }
}

/** CMPXCHG: memory is written in any case, with what it held where the comparison fails (SDM Vol. 2). */
const cmpxchg: Translator = (decoded) => {
  const { size } = decoded.register(1)
  if (size === 8) return cmpxchg64(decoded)
  const source = readRegister(decoded.register(1))
  const mask = size === 1 ? 0xff : size === 2 ? 0xffff : -1
  const shift = size === 1 ? 24 : 16
  const setAccumulator = writeRegister({ word: 0, shift: 0, size })
  if (decoded.isRegister(0)) {
    const read = readRegister(decoded.register(0))
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      const value = read(general, execution)
      const expected = general[0]! & mask
      if (size === 4) execution.sub32(expected, value)
      else execution.subSmall(expected, value, shift)
      if (expected === value) write(general, execution, source(general, execution))
      else setAccumulator(general, execution, value)
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const value = execution.loadToModify(high, low, size)
    const expected = general[0]! & mask
    const isEqual = expected === value
    execution.store(high, low, size, isEqual ? source(general, execution) : value)
    if (size === 4) execution.sub32(expected, value)
    else execution.subSmall(expected, value, shift)
    if (!isEqual) setAccumulator(general, execution, value)
  }
}

function cmpxchg64(decoded: DecodedInstruction): Operation {
  const { word } = decoded.register(1)
  if (decoded.isRegister(0)) {
    const target = decoded.register(0).word
    return (general, execution) => {
      const low = general[target]!
      const high = general[target + 1]!
      execution.sub64(general[0]!, general[1]!, low, high)
      if (execution.zero) {
        general[target] = general[word]!
        general[target + 1] = general[word + 1]!
      } else {
        general[0] = low
        general[1] = high
      }
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    const at = execution.address(general, memory)
    const atHigh = execution.addressHigh
    const low = execution.loadToModify64(atHigh, at)
    const { high } = execution
    const isEqual = general[0] === low && general[1] === high
    if (isEqual) execution.store64(atHigh, at, general[word]!, general[word + 1]!)
    else execution.store64(atHigh, at, low, high)
    execution.sub64(general[0]!, general[1]!, low, high)
    if (!isEqual) {
      general[0] = low
      general[1] = high
    }
  }
}

/** CMPXCHG8B: EDX:EAX with memory, and ECX:EBX to it. ZF alone changes. */
const cmpxchg8b: Translator = (decoded) => {
  const { memory } = decoded
  return (general, execution) => {
    const at = execution.address(general, memory)
    const atHigh = execution.addressHigh
    const low = execution.loadToModify64(atHigh, at)
    const { high } = execution
    const isEqual = general[0] === low && general[4] === high
    if (isEqual) execution.store64(atHigh, at, general[6]!, general[2]!)
    else execution.store64(atHigh, at, low, high)
    execution.replaceFlags(Rflags.ZF, isEqual ? Rflags.ZF : 0)
    if (isEqual) return
    general[0] = low
    general[1] = 0
    general[4] = high
    general[5] = 0
  }
}

/** CMPXCHG16B: RDX:RAX, RCX:RBX; an address that is not a multiple of 16 is #GP(0). */
const cmpxchg16b: Translator = (decoded) => {
  const { memory } = decoded
  return (general, execution) => {
    const at = execution.address(general, memory)
    const atHigh = execution.addressHigh
    if ((at & 15) !== 0) throw execution.generalProtection('CMPXCHG16B needs an aligned operand')
    const low = execution.loadToModify64(atHigh, at)
    const lowHigh = execution.high
    const second = execution.loadToModify64(atHigh, at + 8)
    const secondHigh = execution.high
    const isEqual =
      general[0] === low &&
      general[1] === lowHigh &&
      general[4] === second &&
      general[5] === secondHigh
    if (isEqual) {
      execution.store64(atHigh, at, general[6]!, general[7]!)
      execution.store64(atHigh, at + 8, general[2]!, general[3]!)
    } else {
      execution.store64(atHigh, at, low, lowHigh)
      execution.store64(atHigh, at + 8, second, secondHigh)
      general[0] = low
      general[1] = lowHigh
      general[4] = second
      general[5] = secondHigh
    }
    execution.replaceFlags(Rflags.ZF, isEqual ? Rflags.ZF : 0)
  }
}

export const ATOMICS: InstructionFamily = {
  name: 'atomics',
  translators: new Map([
    [Mnemonic.Xadd, xadd],
    [Mnemonic.Cmpxchg, cmpxchg],
    [Mnemonic.Cmpxchg8b, cmpxchg8b],
    [Mnemonic.Cmpxchg16b, cmpxchg16b],
  ]),
}
