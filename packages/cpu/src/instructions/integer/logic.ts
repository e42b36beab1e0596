import { Mnemonic } from 'iced-x86'
import {
  binaryTranslator,
  type ComparisonForms,
  comparisonTranslator,
  type HotForms,
  unaryTranslator,
} from './binary.ts'
import type { InstructionFamily, Translator } from '../table.ts'

const AND: HotForms = {
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    general[word] = execution.logic32(general[word]! & value)
    general[word + 1] = 0
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    const high = general[word + 1]! & execution.high
    general[word] = execution.logic64(general[word]! & low, high)
    general[word + 1] = high
  },
  registers32: (word, other) => (general, execution) => {
    general[word] = execution.logic32(general[word]! & general[other]!)
    general[word + 1] = 0
  },
  immediate32: (word, value) => (general, execution) => {
    general[word] = execution.logic32(general[word]! & value)
    general[word + 1] = 0
  },
  registers64: (word, other) => (general, execution) => {
    const high = general[word + 1]! & general[other + 1]!
    general[word] = execution.logic64(general[word]! & general[other]!, high)
    general[word + 1] = high
  },
  immediate64: (word, low, high) => (general, execution) => {
    const resultHigh = general[word + 1]! & high
    general[word] = execution.logic64(general[word]! & low, resultHigh)
    general[word + 1] = resultHigh
  },
  flagless: {
    registers32: (word, other) => (general) => {
      general[word] = general[word]! & general[other]!
      general[word + 1] = 0
    },
    immediate32: (word, value) => (general) => {
      general[word] = general[word]! & value
      general[word + 1] = 0
    },
    registers64: (word, other) => (general) => {
      general[word] = general[word]! & general[other]!
      general[word + 1] = general[word + 1]! & general[other + 1]!
    },
    immediate64: (word, low, high) => (general) => {
      general[word] = general[word]! & low
      general[word + 1] = general[word + 1]! & high
    },
  },
}

const OR: HotForms = {
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    general[word] = execution.logic32(general[word]! | value)
    general[word + 1] = 0
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    const high = general[word + 1]! | execution.high
    general[word] = execution.logic64(general[word]! | low, high)
    general[word + 1] = high
  },
  registers32: (word, other) => (general, execution) => {
    general[word] = execution.logic32(general[word]! | general[other]!)
    general[word + 1] = 0
  },
  immediate32: (word, value) => (general, execution) => {
    general[word] = execution.logic32(general[word]! | value)
    general[word + 1] = 0
  },
  registers64: (word, other) => (general, execution) => {
    const high = general[word + 1]! | general[other + 1]!
    general[word] = execution.logic64(general[word]! | general[other]!, high)
    general[word + 1] = high
  },
  immediate64: (word, low, high) => (general, execution) => {
    const resultHigh = general[word + 1]! | high
    general[word] = execution.logic64(general[word]! | low, resultHigh)
    general[word + 1] = resultHigh
  },
  flagless: {
    registers32: (word, other) => (general) => {
      general[word] = general[word]! | general[other]!
      general[word + 1] = 0
    },
    immediate32: (word, value) => (general) => {
      general[word] = general[word]! | value
      general[word + 1] = 0
    },
    registers64: (word, other) => (general) => {
      general[word] = general[word]! | general[other]!
      general[word + 1] = general[word + 1]! | general[other + 1]!
    },
    immediate64: (word, low, high) => (general) => {
      general[word] = general[word]! | low
      general[word + 1] = general[word + 1]! | high
    },
  },
}

const XOR: HotForms = {
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    general[word] = execution.logic32(general[word]! ^ value)
    general[word + 1] = 0
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    const high = general[word + 1]! ^ execution.high
    general[word] = execution.logic64(general[word]! ^ low, high)
    general[word + 1] = high
  },
  registers32: (word, other) => (general, execution) => {
    general[word] = execution.logic32(general[word]! ^ general[other]!)
    general[word + 1] = 0
  },
  immediate32: (word, value) => (general, execution) => {
    general[word] = execution.logic32(general[word]! ^ value)
    general[word + 1] = 0
  },
  registers64: (word, other) => (general, execution) => {
    const high = general[word + 1]! ^ general[other + 1]!
    general[word] = execution.logic64(general[word]! ^ general[other]!, high)
    general[word + 1] = high
  },
  immediate64: (word, low, high) => (general, execution) => {
    const resultHigh = general[word + 1]! ^ high
    general[word] = execution.logic64(general[word]! ^ low, resultHigh)
    general[word + 1] = resultHigh
  },
  flagless: {
    registers32: (word, other) => (general) => {
      general[word] = general[word]! ^ general[other]!
      general[word + 1] = 0
    },
    immediate32: (word, value) => (general) => {
      general[word] = general[word]! ^ value
      general[word + 1] = 0
    },
    registers64: (word, other) => (general) => {
      general[word] = general[word]! ^ general[other]!
      general[word + 1] = general[word + 1]! ^ general[other + 1]!
    },
    immediate64: (word, low, high) => (general) => {
      general[word] = general[word]! ^ low
      general[word + 1] = general[word + 1]! ^ high
    },
  },
}

const TEST: ComparisonForms = {
  memoryImmediate32: (memory, value) => (general, execution) => {
    const low = execution.address(general, memory)
    execution.logic32(execution.load32(execution.addressHigh, low) & value)
  },
  memoryImmediate64: (memory, secondLow, secondHigh) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.logic64(low & secondLow, execution.high & secondHigh)
  },
  memoryRegister32: (memory, word) => (general, execution) => {
    const low = execution.address(general, memory)
    execution.logic32(execution.load32(execution.addressHigh, low) & general[word]!)
  },
  memoryRegister64: (memory, word) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.logic64(low & general[word]!, execution.high & general[word + 1]!)
  },
  immediate8: (read, value) => (general, execution) => {
    execution.logicSmall(read(general, execution) & value, 24)
  },
  memoryImmediateSmall: (memory, value, shift) => (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const first = shift === 24 ? execution.load8(high, low) : execution.load16(high, low)
    execution.logicSmall(first & value, shift)
  },
  memorySmall: (memory, read, shift) => (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const first = shift === 24 ? execution.load8(high, low) : execution.load16(high, low)
    execution.logicSmall(first & read(general, execution), shift)
  },
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    execution.logic32(general[word]! & value)
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.logic64(general[word]! & low, general[word + 1]! & execution.high)
  },
  registers32: (word, other) => (general, execution) => {
    execution.logic32(general[word]! & general[other]!)
  },
  immediate32: (word, value) => (general, execution) => {
    execution.logic32(general[word]! & value)
  },
  registers64: (word, other) => (general, execution) => {
    execution.logic64(general[word]! & general[other]!, general[word + 1]! & general[other + 1]!)
  },
  immediate64: (word, low, high) => (general, execution) => {
    execution.logic64(general[word]! & low, general[word + 1]! & high)
  },
}

const CONJUNCTION = {
  of32: (execution, first, second) => execution.logic32(first & second),
  ofSmall: (execution, first, second, shift) => execution.logicSmall(first & second, shift),
  of64: (execution, low, high, secondLow, secondHigh) =>
    execution.logic64(low & secondLow, high & secondHigh),
} satisfies Parameters<typeof binaryTranslator>[0]

const or: Translator = binaryTranslator(
  {
    of32: (execution, first, second) => execution.logic32(first | second),
    ofSmall: (execution, first, second, shift) => execution.logicSmall(first | second, shift),
    of64: (execution, low, high, secondLow, secondHigh) =>
      execution.logic64(low | secondLow, high | secondHigh),
  },
  OR,
)

const xor: Translator = binaryTranslator(
  {
    of32: (execution, first, second) => execution.logic32(first ^ second),
    ofSmall: (execution, first, second, shift) => execution.logicSmall(first ^ second, shift),
    of64: (execution, low, high, secondLow, secondHigh) =>
      execution.logic64(low ^ secondLow, high ^ secondHigh),
  },
  XOR,
)

const not: Translator = unaryTranslator({
  of32: (_execution, value) => ~value,
  ofSmall: (_execution, value) => ~value,
  of64: (execution, low, high) => {
    execution.high = ~high
    return ~low
  },
  flagless32: (word) => (general) => {
    general[word] = ~general[word]!
    general[word + 1] = 0
  },
  flagless64: (word) => (general) => {
    general[word] = ~general[word]!
    general[word + 1] = ~general[word + 1]!
  },
})

export const LOGIC: InstructionFamily = {
  name: 'logic',
  translators: new Map([
    [Mnemonic.And, binaryTranslator(CONJUNCTION, AND)],
    [Mnemonic.Or, or],
    [Mnemonic.Xor, xor],
    [Mnemonic.Test, comparisonTranslator(CONJUNCTION, TEST)],
    [Mnemonic.Not, not],
  ]),
}
