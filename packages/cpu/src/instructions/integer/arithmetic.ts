import { Mnemonic } from 'iced-x86'
import {
  binaryTranslator,
  type ComparisonForms,
  comparisonTranslator,
  type HotForms,
  unaryTranslator,
} from './binary.ts'
import type { InstructionFamily, Translator } from '../table.ts'

const ADD: HotForms = {
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    general[word] = execution.add32(general[word]!, value)
    general[word + 1] = 0
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    general[word] = execution.add64(general[word]!, general[word + 1]!, low, execution.high)
    general[word + 1] = execution.high
  },
  registers32: (word, other) => (general, execution) => {
    general[word] = execution.add32(general[word]!, general[other]!)
    general[word + 1] = 0
  },
  immediate32: (word, value) => (general, execution) => {
    general[word] = execution.add32(general[word]!, value)
    general[word + 1] = 0
  },
  registers64: (word, other) => (general, execution) => {
    general[word] = execution.add64(
      general[word]!,
      general[word + 1]!,
      general[other]!,
      general[other + 1]!,
    )
    general[word + 1] = execution.high
  },
  immediate64: (word, low, high) => (general, execution) => {
    general[word] = execution.add64(general[word]!, general[word + 1]!, low, high)
    general[word + 1] = execution.high
  },
  flagless: {
    registers32: (word, other) => (general) => {
      general[word] = general[word]! + general[other]!
      general[word + 1] = 0
    },
    immediate32: (word, value) => (general) => {
      general[word] = general[word]! + value
      general[word + 1] = 0
    },
    registers64: (word, other) => (general) => {
      const first = general[word]!
      const result = (first + general[other]!) | 0
      general[word + 1] =
        general[word + 1]! + general[other + 1]! + (result >>> 0 < first >>> 0 ? 1 : 0)
      general[word] = result
    },
    immediate64: (word, low, high) => (general) => {
      const first = general[word]!
      const result = (first + low) | 0
      general[word] = result
      general[word + 1] = general[word + 1]! + high + (result >>> 0 < first >>> 0 ? 1 : 0)
    },
  },
}

const SUB: HotForms = {
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    general[word] = execution.sub32(general[word]!, value)
    general[word + 1] = 0
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    general[word] = execution.sub64(general[word]!, general[word + 1]!, low, execution.high)
    general[word + 1] = execution.high
  },
  registers32: (word, other) => (general, execution) => {
    general[word] = execution.sub32(general[word]!, general[other]!)
    general[word + 1] = 0
  },
  immediate32: (word, value) => (general, execution) => {
    general[word] = execution.sub32(general[word]!, value)
    general[word + 1] = 0
  },
  registers64: (word, other) => (general, execution) => {
    general[word] = execution.sub64(
      general[word]!,
      general[word + 1]!,
      general[other]!,
      general[other + 1]!,
    )
    general[word + 1] = execution.high
  },
  immediate64: (word, low, high) => (general, execution) => {
    general[word] = execution.sub64(general[word]!, general[word + 1]!, low, high)
    general[word + 1] = execution.high
  },
  flagless: {
    registers32: (word, other) => (general) => {
      general[word] = general[word]! - general[other]!
      general[word + 1] = 0
    },
    immediate32: (word, value) => (general) => {
      general[word] = general[word]! - value
      general[word + 1] = 0
    },
    registers64: (word, other) => (general) => {
      const first = general[word]!
      const second = general[other]!
      general[word + 1] =
        general[word + 1]! - general[other + 1]! - (first >>> 0 < second >>> 0 ? 1 : 0)
      general[word] = first - second
    },
    immediate64: (word, low, high) => (general) => {
      const first = general[word]!
      general[word] = first - low
      general[word + 1] = general[word + 1]! - high - (first >>> 0 < low >>> 0 ? 1 : 0)
    },
  },
}

const CMP: ComparisonForms = {
  memoryImmediate32: (memory, value) => (general, execution) => {
    const low = execution.address(general, memory)
    execution.sub32(execution.load32(execution.addressHigh, low), value)
  },
  memoryImmediate64: (memory, secondLow, secondHigh) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.sub64(low, execution.high, secondLow, secondHigh)
  },
  memoryRegister32: (memory, word) => (general, execution) => {
    const low = execution.address(general, memory)
    execution.sub32(execution.load32(execution.addressHigh, low), general[word]!)
  },
  memoryRegister64: (memory, word) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.sub64(low, execution.high, general[word]!, general[word + 1]!)
  },
  immediate8: (read, value) => (general, execution) => {
    execution.subSmall(read(general, execution), value, 24)
  },
  memoryImmediateSmall: (memory, value, shift) => (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const first = shift === 24 ? execution.load8(high, low) : execution.load16(high, low)
    execution.subSmall(first, value, shift)
  },
  memorySmall: (memory, read, shift) => (general, execution) => {
    const low = execution.address(general, memory)
    const high = execution.addressHigh
    const first = shift === 24 ? execution.load8(high, low) : execution.load16(high, low)
    execution.subSmall(first, read(general, execution), shift)
  },
  memory32: (word, memory) => (general, execution) => {
    const low = execution.address(general, memory)
    const value = execution.load32(execution.addressHigh, low)
    execution.sub32(general[word]!, value)
  },
  memory64: (word, memory) => (general, execution) => {
    const at = execution.address(general, memory)
    const low = execution.load64(execution.addressHigh, at)
    execution.sub64(general[word]!, general[word + 1]!, low, execution.high)
  },
  registers32: (word, other) => (general, execution) => {
    execution.sub32(general[word]!, general[other]!)
  },
  immediate32: (word, value) => (general, execution) => {
    execution.sub32(general[word]!, value)
  },
  registers64: (word, other) => (general, execution) => {
    execution.sub64(general[word]!, general[word + 1]!, general[other]!, general[other + 1]!)
  },
  immediate64: (word, low, high) => (general, execution) => {
    execution.sub64(general[word]!, general[word + 1]!, low, high)
  },
}

const add: Translator = binaryTranslator(
  {
    of32: (execution, first, second) => execution.add32(first, second),
    ofSmall: (execution, first, second, shift) => execution.addSmall(first, second, shift),
    of64: (execution, low, high, secondLow, secondHigh) =>
      execution.add64(low, high, secondLow, secondHigh),
  },
  ADD,
)

const SUBTRACTION = {
  of32: (execution, first, second) => execution.sub32(first, second),
  ofSmall: (execution, first, second, shift) => execution.subSmall(first, second, shift),
  of64: (execution, low, high, secondLow, secondHigh) =>
    execution.sub64(low, high, secondLow, secondHigh),
} satisfies Parameters<typeof binaryTranslator>[0]

const adc: Translator = binaryTranslator({
  of32: (execution, first, second) => execution.adc32(first, second),
  ofSmall: (execution, first, second, shift) => execution.adcSmall(first, second, shift),
  of64: (execution, low, high, secondLow, secondHigh) =>
    execution.adc64(low, high, secondLow, secondHigh),
})

const sbb: Translator = binaryTranslator({
  of32: (execution, first, second) => execution.sbb32(first, second),
  ofSmall: (execution, first, second, shift) => execution.sbbSmall(first, second, shift),
  of64: (execution, low, high, secondLow, secondHigh) =>
    execution.sbb64(low, high, secondLow, secondHigh),
})

const neg: Translator = unaryTranslator({
  of32: (execution, value) => execution.sub32(0, value),
  ofSmall: (execution, value, shift) => execution.subSmall(0, value, shift),
  of64: (execution, low, high) => execution.sub64(0, 0, low, high),
  flagless32: (word) => (general) => {
    general[word] = (0 - general[word]!) | 0
    general[word + 1] = 0
  },
  flagless64: (word) => (general) => {
    const low = general[word]!
    general[word] = (0 - low) | 0
    general[word + 1] = 0 - general[word + 1]! - (low === 0 ? 0 : 1)
  },
})

const inc: Translator = unaryTranslator({
  of32: (execution, value) => execution.inc32(value),
  ofSmall: (execution, value, shift) => execution.incSmall(value, shift),
  of64: (execution, low, high) => execution.inc64(low, high),
  flagless32: (word) => (general) => {
    general[word] = general[word]! + 1
    general[word + 1] = 0
  },
  flagless64: (word) => (general) => {
    const low = (general[word]! + 1) | 0
    general[word] = low
    if (low === 0) general[word + 1] = general[word + 1]! + 1
  },
})

const dec: Translator = unaryTranslator({
  of32: (execution, value) => execution.dec32(value),
  ofSmall: (execution, value, shift) => execution.decSmall(value, shift),
  of64: (execution, low, high) => execution.dec64(low, high),
  flagless32: (word) => (general) => {
    general[word] = general[word]! - 1
    general[word + 1] = 0
  },
  flagless64: (word) => (general) => {
    const low = general[word]!
    general[word] = low - 1
    if (low === 0) general[word + 1] = general[word + 1]! - 1
  },
})

export const ARITHMETIC: InstructionFamily = {
  name: 'arithmetic',
  translators: new Map([
    [Mnemonic.Add, add],
    [Mnemonic.Sub, binaryTranslator(SUBTRACTION, SUB)],
    [Mnemonic.Cmp, comparisonTranslator(SUBTRACTION, CMP)],
    [Mnemonic.Adc, adc],
    [Mnemonic.Sbb, sbb],
    [Mnemonic.Neg, neg],
    [Mnemonic.Inc, inc],
    [Mnemonic.Dec, dec],
  ]),
}
