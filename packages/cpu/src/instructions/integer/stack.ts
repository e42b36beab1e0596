import { Mnemonic } from 'iced-x86'
import type { Execution } from '../../execution.ts'
import { reader, wideReader, writeRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

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

/** ENTER: a frame with room, and at levels above 0 with pointers to the frames around it (SDM Vol. 2, ENTER). */
const enter: Translator = (decoded) => {
  const size = decoded.stackBytes
  const room = decoded.immediate(0).low & 0xffff
  const level = decoded.immediate(1).low & 0x1f
  return (general, execution) => {
    const before = general.slice(8, 12)
    try {
      pushFramePointer(general, execution, size)
      const frame = general.slice(8, 10)
      if (level > 0) {
        for (let nested = 1; nested < level; nested++) {
          // RBP is the stack pointer of the frames around, one level further out each time.
          const stack = general.slice(8, 10)
          general.set(before.subarray(2, 4), 8)
          execution.addToStackPointer(general, -size * nested)
          const pointer =
            size === 8
              ? execution.loadStack64(general[9]!, general[8]!)
              : execution.top(general, size)
          const pointerHigh = execution.high
          general.set(stack, 8)
          if (size === 8) execution.push64(general, pointer, pointerHigh)
          else execution.push(general, size, pointer)
        }
        if (size === 8) execution.push64(general, frame[0]!, frame[1]!)
        else execution.push(general, size, frame[0]!)
      }
      setFramePointer(general, size, frame[0]!, frame[1]!)
      execution.addToStackPointer(general, -room)
      // The last byte of the frame has to be writable (SDM Vol. 2: a write access to the new top of the stack).
      execution.checkStackWrite(general)
    } catch (error) {
      general.set(before, 8)
      throw error
    }
  }
}

function pushFramePointer(general: Int32Array, execution: Execution, size: 2 | 4 | 8): void {
  if (size === 8) execution.push64(general, general[10]!, general[11]!)
  else execution.push(general, size, general[10]!)
}

function setFramePointer(general: Int32Array, size: 2 | 4 | 8, low: number, high: number): void {
  if (size === 2) {
    general[10] = (general[10]! & ~0xffff) | (low & 0xffff)
    return
  }
  general[10] = low
  general[11] = size === 8 ? high : 0
}

/** PUSHA: the general registers, with SP as it was before. */
const pusha: Translator = (decoded) => {
  const size = decoded.stackBytes === 2 ? 2 : 4
  return (general, execution) => {
    const pointer = general.slice(8, 10)
    try {
      for (let register = 0; register < 8; register++) {
        execution.push(general, size, register === 4 ? pointer[0]! : general[register * 2]!)
      }
    } catch (error) {
      general.set(pointer, 8)
      throw error
    }
  }
}

/** POPA: the general registers but SP. */
const popa: Translator = (decoded) => {
  const size = decoded.stackBytes === 2 ? 2 : 4
  return (general, execution) => {
    const before = general.slice(0, 16)
    try {
      for (let register = 7; register >= 0; register--) {
        const value = execution.pop(general, size)
        if (register === 4) continue
        general[register * 2] = size === 4 ? value : (general[register * 2]! & ~0xffff) | value
      }
    } catch (error) {
      general.set(before)
      throw error
    }
  }
}

export const STACK: InstructionFamily = {
  name: 'stack',
  translators: new Map([
    [Mnemonic.Push, push],
    [Mnemonic.Pop, pop],
    [Mnemonic.Leave, leave],
    [Mnemonic.Enter, enter],
    [Mnemonic.Pusha, pusha],
    [Mnemonic.Pushad, pusha],
    [Mnemonic.Popa, popa],
    [Mnemonic.Popad, popa],
  ]),
}
