import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import {
  reader,
  readRegister,
  wideReader,
  wideWriter,
  writer,
  writeRegister,
} from '../../operands.ts'
import { forConditions } from './conditions.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** MOV between general registers, memory and immediates. Segment, control and debug registers are another family's. */
const mov: Translator = (decoded) => {
  if (!decoded.isGeneral(0) || !decoded.isGeneral(1)) return undefined
  const size = decoded.size(0)
  if (decoded.isRegister(0)) {
    if (decoded.isMemory(1)) return load(decoded)
    if (size === 8) return moveToRegister64(decoded)
    if (size === 4) return moveToRegister32(decoded)
  } else if (size >= 4) {
    return store(decoded, size === 8)
  }
  const read = reader(decoded, 1, size)
  const write = writer(decoded, 0, size)
  return (general, execution) => {
    write(general, execution, read(general, execution))
  }
}

function moveToRegister64(decoded: DecodedInstruction): Operation {
  const { word } = decoded.register(0)
  if (decoded.isRegister(1)) {
    const other = decoded.register(1).word
    return (general) => {
      general[word] = general[other]!
      general[word + 1] = general[other + 1]!
    }
  }
  const { low, high } = decoded.immediate(1)
  return (general) => {
    general[word] = low
    general[word + 1] = high
  }
}

function moveToRegister32(decoded: DecodedInstruction): Operation {
  const { word } = decoded.register(0)
  if (decoded.isRegister(1)) {
    const other = decoded.register(1).word
    return (general) => {
      general[word] = general[other]!
      general[word + 1] = 0
    }
  }
  const { low } = decoded.immediate(1)
  return (general) => {
    general[word] = low
    general[word + 1] = 0
  }
}

function load(decoded: DecodedInstruction): Operation {
  const { memory } = decoded
  const { word, size } = decoded.register(0)
  if (size === 8) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      general[word] = execution.load64(execution.addressHigh, low)
      general[word + 1] = execution.high
    }
  }
  if (size === 4) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      general[word] = execution.load32(execution.addressHigh, low)
      general[word + 1] = 0
    }
  }
  const read = reader(decoded, 1, size)
  const write = writeRegister(decoded.register(0))
  return (general, execution) => {
    write(general, execution, read(general, execution))
  }
}

function store(decoded: DecodedInstruction, isWide: boolean): Operation {
  const { memory } = decoded
  if (decoded.isRegister(1)) {
    const { word } = decoded.register(1)
    if (isWide) {
      return (general, execution) => {
        const low = execution.address(general, memory)
        execution.store64(execution.addressHigh, low, general[word]!, general[word + 1]!)
      }
    }
    return (general, execution) => {
      const low = execution.address(general, memory)
      execution.store32(execution.addressHigh, low, general[word]!)
    }
  }
  const immediate = decoded.immediate(1)
  if (isWide) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      execution.store64(execution.addressHigh, low, immediate.low, immediate.high)
    }
  }
  return (general, execution) => {
    const low = execution.address(general, memory)
    execution.store32(execution.addressHigh, low, immediate.low)
  }
}

const lea: Translator = (decoded) => {
  const { memory } = decoded
  const { word, size } = decoded.register(0)
  if (size === 8 && memory.kind !== 2) {
    return (general, execution) => {
      general[word] = execution.address(general, memory)
      general[word + 1] = execution.addressHigh
    }
  }
  if (size === 4 && memory.kind !== 2) {
    return (general, execution) => {
      general[word] = execution.address(general, memory)
      general[word + 1] = 0
    }
  }
  if (size === 8) {
    return (general, execution) => {
      general[word] = execution.effectiveAddress(general, memory)
      general[word + 1] = execution.addressHigh
    }
  }
  const write = writeRegister(decoded.register(0))
  return (general, execution) => {
    write(general, execution, execution.effectiveAddress(general, memory))
  }
}

const movzx: Translator = (decoded) => {
  const from = decoded.size(1)
  const read = reader(decoded, 1, from)
  const { word, size } = decoded.register(0)
  if (size === 2) {
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      write(general, execution, read(general, execution))
    }
  }
  if (decoded.isMemory(1)) {
    const { memory } = decoded
    if (from === 1) {
      return (general, execution) => {
        const low = execution.address(general, memory)
        general[word] = execution.load8(execution.addressHigh, low)
        general[word + 1] = 0
      }
    }
    return (general, execution) => {
      const low = execution.address(general, memory)
      general[word] = execution.load16(execution.addressHigh, low)
      general[word + 1] = 0
    }
  }
  const other = decoded.register(1)
  const { shift } = other
  const mask = from === 1 ? 0xff : 0xffff
  return (general) => {
    general[word] = (general[other.word]! >>> shift) & mask
    general[word + 1] = 0
  }
}

/** MOVSX and MOVSXD. */
const movsx: Translator = (decoded) => {
  const from = decoded.size(1)
  const read = reader(decoded, 1, from)
  const shift = from === 1 ? 24 : from === 2 ? 16 : 0
  const { word, size } = decoded.register(0)
  if (size === 8) {
    return (general, execution) => {
      const value = (read(general, execution) << shift) >> shift
      general[word] = value
      general[word + 1] = value >> 31
    }
  }
  const write = writeRegister(decoded.register(0))
  return (general, execution) => {
    write(general, execution, (read(general, execution) << shift) >> shift)
  }
}

/** MOVSXD with a 16-bit operand, which extends nothing: AMD's processors load 32 bits all the same, as a page fault shows (seen on an EPYC 9004). */
const movsxd: Translator = (decoded) => {
  const move = movsx(decoded)!
  if (decoded.size(0) !== 2 || !decoded.isMemory(1)) return move
  const { memory } = decoded
  return (general, execution) => {
    if (execution.cpu.machine.features.vendor === 'amd') {
      const low = execution.address(general, memory)
      execution.load32(execution.addressHigh, low)
    }
    move(general, execution)
  }
}

const xchg: Translator = (decoded) => {
  const size = decoded.size(0)
  const memoryOperand = decoded.isMemory(0) ? 0 : decoded.isMemory(1) ? 1 : undefined
  if (memoryOperand === undefined) return exchangeRegisters(decoded)
  const { memory } = decoded
  const register = decoded.register(1 - memoryOperand)
  const { word } = register
  if (size === 8) {
    return (general, execution) => {
      const low = execution.address(general, memory)
      const high = execution.addressHigh
      const value = execution.loadToModify64(high, low)
      const valueHigh = execution.high
      execution.store64(high, low, general[word]!, general[word + 1]!)
      general[word] = value
      general[word + 1] = valueHigh
    }
  }
  const read = readRegister(register)
  const write = writeRegister(register)
  return (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    let value: number
    if (size === 4) {
      value = execution.loadToModify32(high, low)
      execution.store32(high, low, read(general, execution))
    } else if (size === 2) {
      value = execution.loadToModify16(high, low)
      execution.store16(high, low, read(general, execution))
    } else {
      value = execution.loadToModify8(high, low)
      execution.store8(high, low, read(general, execution))
    }
    write(general, execution, value)
  }
}

function exchangeRegisters(decoded: DecodedInstruction): Operation {
  const first = decoded.register(0)
  const second = decoded.register(1)
  if (first.size === 8) {
    return (general) => {
      const low = general[first.word]!
      const high = general[first.word + 1]!
      general[first.word] = general[second.word]!
      general[first.word + 1] = general[second.word + 1]!
      general[second.word] = low
      general[second.word + 1] = high
    }
  }
  const [readFirst, readSecond] = [readRegister(first), readRegister(second)]
  const [writeFirst, writeSecond] = [writeRegister(first), writeRegister(second)]
  return (general, execution) => {
    const value = readFirst(general, execution)
    writeFirst(general, execution, readSecond(general, execution))
    writeSecond(general, execution, value)
  }
}

const cmov =
  (condition: number): Translator =>
  (decoded) => {
    const { word, size } = decoded.register(0)
    if (size === 8) {
      const read = wideReader(decoded, 1)
      return (general, execution) => {
        // The operand is read, and may fault, whatever the condition is.
        const low = read(general, execution)
        if (execution.condition(condition)) {
          general[word] = low
          general[word + 1] = execution.high
        }
      }
    }
    const read = reader(decoded, 1, size)
    if (size === 4) {
      return (general, execution) => {
        const value = read(general, execution)
        if (execution.condition(condition)) general[word] = value
        general[word + 1] = 0
      }
    }
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      const value = read(general, execution)
      if (execution.condition(condition)) write(general, execution, value)
    }
  }

const setcc =
  (condition: number): Translator =>
  (decoded) => {
    const write = writer(decoded, 0, 1)
    return (general, execution) => {
      write(general, execution, execution.condition(condition) ? 1 : 0)
    }
  }

const bswap: Translator = (decoded) => {
  const { word, size } = decoded.register(0)
  // Of 16 bits the result is undefined (SDM Vol. 2, BSWAP); processors clear them.
  if (size === 2) {
    return (general) => {
      general[word] = general[word]! & ~0xffff
    }
  }
  if (size === 4) {
    return (general) => {
      general[word] = swapBytes(general[word]!)
      general[word + 1] = 0
    }
  }
  return (general) => {
    const low = general[word]!
    general[word] = swapBytes(general[word + 1]!)
    general[word + 1] = swapBytes(low)
  }
}

const movbe: Translator = (decoded) => {
  const size = decoded.isRegister(0) ? decoded.size(0) : decoded.size(1)
  if (size === 8) {
    const read = wideReader(decoded, 1)
    const write = wideWriter(decoded, 0)
    return (general, execution) => {
      const low = read(general, execution)
      const { high } = execution
      write(general, execution, swapBytes(high), swapBytes(low))
    }
  }
  const read = reader(decoded, 1, size)
  const write = writer(decoded, 0, size)
  const shift = size === 2 ? 16 : 0
  return (general, execution) => {
    write(general, execution, swapBytes(read(general, execution)) >>> shift)
  }
}

/** XLAT: the byte at RBX + AL, by BX or EBX where the address size says so. */
const xlat: Translator = (decoded) => {
  const { base, addressBits, segment } = decoded.memory
  return (general, execution) => {
    const entry = join(general[base + 1]!, general[base]!) + BigInt(general[0]! & 0xff)
    const low = execution.segmentAddress(highHalf(entry), lowHalf(entry), addressBits, segment)
    general[0] = (general[0]! & ~0xff) | execution.load8(execution.addressHigh, low)
  }
}

function swapBytes(value: number): number {
  return (value >>> 24) | ((value >>> 8) & 0xff00) | ((value << 8) & 0xff_0000) | (value << 24)
}

export const MOVES: InstructionFamily = {
  name: 'moves',
  translators: new Map([
    [Mnemonic.Mov, mov],
    [Mnemonic.Lea, lea],
    [Mnemonic.Movzx, movzx],
    [Mnemonic.Movsx, movsx],
    [Mnemonic.Movsxd, movsxd],
    [Mnemonic.Movnti, mov],
    [Mnemonic.Xchg, xchg],
    [Mnemonic.Bswap, bswap],
    [Mnemonic.Movbe, movbe],
    [Mnemonic.Xlatb, xlat],
    ...forConditions('Cmov', cmov),
    ...forConditions('Set', setcc),
  ]),
}
