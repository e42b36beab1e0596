import { Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { highHalf, join, lowHalf } from '../../halves.ts'
import { reader, wideReader } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/**
 * BMI1, BMI2 and ADX: a function of one or two operands of 32 or 64 bits, as unsigned numbers of so many bits. They are rare enough to be written with bigint. Returns the result; what it sets
 * of the flags it sets itself.
 */
type Reckoning = (first: bigint, second: bigint, bits: number, execution: Execution) => bigint

/** ZF and SF by a result, CF as given, OF, AF and PF clear. */
function setFlags(execution: Execution, result: bigint, bits: number, carry: boolean): void {
  execution.statusFlags =
    (result === 0n ? Rflags.ZF : 0) |
    (result >> BigInt(bits - 1) === 0n ? 0 : Rflags.SF) |
    (carry ? Rflags.CF : 0)
}

function reckoningTranslator(
  reckon: Reckoning,
  firstOperand: number,
  secondOperand: number,
): Translator {
  return (decoded) => {
    const { word, size } = decoded.register(0)
    const bits = size * 8
    const first = unsignedReader(decoded, firstOperand)
    const second = unsignedReader(decoded, secondOperand)
    return (general, execution) => {
      const a = first(general, execution)
      const b = second(general, execution)
      const result = reckon(a, b, bits, execution)
      general[word] = lowHalf(result)
      general[word + 1] = size === 8 ? highHalf(result) : 0
    }
  }
}

function unsignedReader(
  decoded: DecodedInstruction,
  operand: number,
): (general: Int32Array, execution: Execution) => bigint {
  if (decoded.isImmediate(operand)) {
    const value = BigInt(decoded.immediate(operand).low & 0xff)
    return () => value
  }
  if (decoded.size(operand) === 8) {
    const read = wideReader(decoded, operand)
    return (general, execution) => {
      const low = read(general, execution)
      return join(execution.high, low)
    }
  }
  const read = reader(decoded, operand, 4)
  return (general, execution) => BigInt(read(general, execution) >>> 0)
}

const andn: Reckoning = (first, second, bits, execution) => {
  const result = BigInt.asUintN(bits, ~first) & second
  setFlags(execution, result, bits, false)
  return result
}

/** `second` has the first bit in bits 7 to 0, and how many in bits 15 to 8. */
const bextr: Reckoning = (first, second, bits, execution) => {
  const result = BigInt.asUintN(Number((second >> 8n) & 0xffn), first >> (second & 0xffn))
  setFlags(execution, result, bits, false)
  return result
}

const blsi: Reckoning = (value, _second, bits, execution) => {
  const result = value & BigInt.asUintN(bits, -value)
  setFlags(execution, result, bits, value !== 0n)
  return result
}

const blsmsk: Reckoning = (value, _second, bits, execution) => {
  const result = value ^ BigInt.asUintN(bits, value - 1n)
  setFlags(execution, result, bits, value === 0n)
  return result
}

const blsr: Reckoning = (value, _second, bits, execution) => {
  const result = value & BigInt.asUintN(bits, value - 1n)
  setFlags(execution, result, bits, value === 0n)
  return result
}

const bzhi: Reckoning = (value, index, bits, execution) => {
  const kept = Number(index & 0xffn)
  const result = BigInt.asUintN(kept, value)
  setFlags(execution, result, bits, kept > bits - 1)
  return result
}

const pdep: Reckoning = (value, mask, bits) => {
  let result = 0n
  let taken = 0n
  for (let bit = 0n; bit < BigInt(bits); bit++) {
    if (((mask >> bit) & 1n) === 0n) continue
    result |= ((value >> taken) & 1n) << bit
    taken++
  }
  return result
}

const pext: Reckoning = (value, mask, bits) => {
  let result = 0n
  let given = 0n
  for (let bit = 0n; bit < BigInt(bits); bit++) {
    if (((mask >> bit) & 1n) === 0n) continue
    result |= ((value >> bit) & 1n) << given
    given++
  }
  return result
}

const rorx: Reckoning = (value, count, bits) => {
  const turns = count & BigInt(bits - 1)
  return (value >> turns) | (value << (BigInt(bits) - turns))
}

const sarx: Reckoning = (value, count, bits) =>
  BigInt.asIntN(bits, value) >> (count & BigInt(bits - 1))

const shlx: Reckoning = (value, count, bits) => value << (count & BigInt(bits - 1))

const shrx: Reckoning = (value, count, bits) => value >> (count & BigInt(bits - 1))

/** ADCX carries through CF alone, ADOX through OF. */
const addThrough =
  (flag: number): Reckoning =>
  (first, second, bits, execution) => {
    const carried = (execution.statusFlags & flag) === 0 ? 0n : 1n
    const sum = first + second + carried
    execution.replaceFlags(flag, sum >> BigInt(bits) === 0n ? 0 : flag)
    return BigInt.asUintN(bits, sum)
  }

export const BIT_MANIPULATION: InstructionFamily = {
  name: 'bit manipulation',
  translators: new Map([
    [Mnemonic.Andn, reckoningTranslator(andn, 1, 2)],
    [Mnemonic.Bextr, reckoningTranslator(bextr, 1, 2)],
    [Mnemonic.Blsi, reckoningTranslator(blsi, 1, 1)],
    [Mnemonic.Blsmsk, reckoningTranslator(blsmsk, 1, 1)],
    [Mnemonic.Blsr, reckoningTranslator(blsr, 1, 1)],
    [Mnemonic.Bzhi, reckoningTranslator(bzhi, 1, 2)],
    [Mnemonic.Pdep, reckoningTranslator(pdep, 1, 2)],
    [Mnemonic.Pext, reckoningTranslator(pext, 1, 2)],
    [Mnemonic.Rorx, reckoningTranslator(rorx, 1, 2)],
    [Mnemonic.Sarx, reckoningTranslator(sarx, 1, 2)],
    [Mnemonic.Shlx, reckoningTranslator(shlx, 1, 2)],
    [Mnemonic.Shrx, reckoningTranslator(shrx, 1, 2)],
    [Mnemonic.Adcx, reckoningTranslator(addThrough(Rflags.CF), 0, 1)],
    [Mnemonic.Adox, reckoningTranslator(addThrough(Rflags.OF), 0, 1)],
  ]),
}
