import { Mnemonic } from 'iced-x86'
import { reader, wideReader, writeRegister } from '../operands.ts'
import type { InstructionFamily, Translator } from './table.ts'

const push: Translator = (decoded) => {
  if (!decoded.isGeneral(0)) return undefined
  const size = decoded.stackBytes
  if (size === 8) {
    if (decoded.isRegister(0)) {
      const { word } = decoded.register(0)
      return (general, execution) => {
        execution.push64(general, general[word]!, general[word + 1]!)
      }
    }
    const read = wideReader(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      execution.push64(general, low, execution.high)
    }
  }
  const read = reader(decoded, 0, size)
  return (general, execution) => {
    execution.push(general, size, read(general, execution))
  }
}

const pop: Translator = (decoded) => {
  if (!decoded.isGeneral(0)) return undefined
  const size = decoded.stackBytes
  if (decoded.isRegister(0)) {
    if (size === 8) {
      const { word } = decoded.register(0)
      return (general, execution) => {
        const low = execution.loadStack64(general[9]!, general[8]!)
        const { high } = execution
        execution.addToStackPointer(general, 8)
        // POP RSP: what was read overwrites the increment (SDM Vol. 2, POP).
        general[word] = low
        general[word + 1] = high
      }
    }
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      const value = execution.pop(general, size)
      write(general, execution, value)
    }
  }
  const { memory } = decoded
  return (general, execution) => {
    // The address is made with RSP as it is after the increment; a fault of the store leaves RSP as it was.
    const low =
      size === 8 ? execution.loadStack64(general[9]!, general[8]!) : execution.top(general, size)
    const { high } = execution
    const before = general[8]!
    const beforeHigh = general[9]!
    execution.addToStackPointer(general, size)
    const address = execution.address(general, memory)
    const addressHigh = execution.addressHigh
    const after = general[8]!
    const afterHigh = general[9]!
    general[8] = before
    general[9] = beforeHigh
    if (size === 8) execution.store64(addressHigh, address, low, high)
    else if (size === 4) execution.store32(addressHigh, address, low)
    else execution.store16(addressHigh, address, low)
    general[8] = after
    general[9] = afterHigh
  }
}

/** LEAVE: RSP becomes RBP, and RBP is popped. */
const leave: Translator = (decoded) => {
  const size = decoded.stackBytes
  if (size === 8) {
    return (general, execution) => {
      const low = execution.loadStack64(general[11]!, general[10]!)
      const { high } = execution
      general[8] = general[10]!
      general[9] = general[11]!
      execution.addToStackPointer(general, 8)
      general[10] = low
      general[11] = high
    }
  }
  return (general, execution) => {
    const value = execution.leaveFrame(general, size)
    if (size === 4) {
      general[10] = value
      general[11] = 0
    } else {
      general[10] = (general[10]! & ~0xffff) | value
    }
  }
}

export const STACK: InstructionFamily = {
  name: 'stack',
  translators: new Map([
    [Mnemonic.Push, push],
    [Mnemonic.Pop, pop],
    [Mnemonic.Leave, leave],
  ]),
}
