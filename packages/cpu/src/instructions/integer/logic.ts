import { Mnemonic } from 'iced-x86'
import { binaryTranslator, comparisonTranslator, type HotForms, unaryTranslator } from './binary.ts'
import type { InstructionFamily, Translator } from '../table.ts'

const AND: HotForms = {
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

const TEST: HotForms = {
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
