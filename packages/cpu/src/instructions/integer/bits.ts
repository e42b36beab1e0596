import { Rflags } from '@trapdoor/core'
import { Mnemonic } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction, OperandSize } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { reader, wideReader, writeRegister } from '../../operands.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** What BT, BTS, BTR and BTC do with a word that holds the bit. */
type BitChange = (value: number, mask: number) => number

const BIT_CHANGES = {
  bts: (value, mask) => value | mask,
  btr: (value, mask) => value & ~mask,
  btc: (value, mask) => value ^ mask,
} satisfies Record<string, BitChange>

/** CF is the bit that was; the other flags, undefined but for ZF, stay (SDM Vol. 2, BT). */
const bitTest =
  (change: BitChange | undefined): Translator =>
  (decoded) => {
    const size = decoded.size(0)
    if (decoded.isRegister(0)) return bitOfRegister(decoded, size, change)
    return bitOfMemory(decoded, size, change)
  }

function bitOfRegister(
  decoded: DecodedInstruction,
  size: OperandSize,
  change: BitChange | undefined,
): Operation {
  const { word } = decoded.register(0)
  const index = reader(decoded, 1, decoded.isImmediate(1) ? 1 : size)
  const bits = size * 8
  return (general, execution) => {
    const bit = index(general, execution) & (bits - 1)
    const at = word + (bit >>> 5)
    const value = general[at]!
    execution.replaceFlags(Rflags.CF, (value >>> bit) & 1)
    if (change !== undefined) general[at] = change(value, 1 << bit)
    if (size === 4 && change !== undefined) general[word + 1] = 0
  }
}

/** An index in a register reaches beyond the operand: it is a signed number of bits, of which the operands before and after are a part. */
function bitOfMemory(
  decoded: DecodedInstruction,
  size: OperandSize,
  change: BitChange | undefined,
): Operation {
  const { memory } = decoded
  const isImmediate = decoded.isImmediate(1)
  const index: (general: Int32Array, execution: Execution) => bigint = isImmediate
    ? constantIndex(decoded, size)
    : registerIndex(decoded, size)
  return (general, execution) => {
    const position = index(general, execution)
    const low = execution.address(general, memory)
    // The byte that holds the bit would do; the processor accesses the whole operand.
    const operand = position >> BigInt(Math.log2(size * 8))
    const at = execution.addressBeyond(low, operand * BigInt(size), memory)
    const atHigh = execution.addressHigh
    const bit = Number(BigInt.asUintN(Math.log2(size * 8), position))
    const isWritten = change !== undefined
    const value = loadOperand(execution, size, atHigh, at, isWritten)
    const valueHigh = execution.high
    const isUpper = bit >= 32
    const half = isUpper ? valueHigh : value
    execution.replaceFlags(Rflags.CF, (half >>> bit) & 1)
    if (change === undefined) return
    const changed = change(half, 1 << bit)
    if (size === 8) {
      execution.store64(atHigh, at, isUpper ? value : changed, isUpper ? changed : valueHigh)
    } else if (size === 4) {
      execution.store32(atHigh, at, changed)
    } else {
      execution.store16(atHigh, at, changed)
    }
  }
}

function constantIndex(decoded: DecodedInstruction, size: OperandSize): () => bigint {
  const bit = BigInt(decoded.immediate(1).low & (size * 8 - 1))
  return () => bit
}

function registerIndex(
  decoded: DecodedInstruction,
  size: OperandSize,
): (general: Int32Array, execution: Execution) => bigint {
  const { word } = decoded.register(1)
  if (size === 8) {
    return (general) => BigInt(general[word + 1]!) * 0x1_0000_0000n + BigInt(general[word]! >>> 0)
  }
  const shift = size === 2 ? 16 : 0
  return (general) => BigInt((general[word]! << shift) >> shift)
}

function loadOperand(
  execution: Execution,
  size: OperandSize,
  high: number,
  low: number,
  isWritten: boolean,
): number {
  if (size === 8)
    return isWritten ? execution.loadToModify64(high, low) : execution.load64(high, low)
  if (size === 4)
    return isWritten ? execution.loadToModify32(high, low) : execution.load32(high, low)
  return isWritten ? execution.loadToModify16(high, low) : execution.load16(high, low)
}

/** BSF and BSR: of 0 the destination stays, as all processors have it, and ZF is set. */
const bitScan =
  (isForward: boolean): Translator =>
  (decoded) => {
    const { word, size } = decoded.register(0)
    const find = isForward ? lowestBit : highestBit
    if (size === 8) {
      const read = wideReader(decoded, 1)
      return (general, execution) => {
        const low = read(general, execution)
        const { high } = execution
        const isZero = (low | high) === 0
        execution.setResult(64, isZero ? 0 : 1, 0, false, false)
        if (isZero) return
        general[word] = find(low, high)
        general[word + 1] = 0
      }
    }
    const read = reader(decoded, 1, size)
    const write = writeRegister(decoded.register(0))
    return (general, execution) => {
      const value = read(general, execution)
      execution.setResult(32, value === 0 ? 0 : 1, 0, false, false)
      if (value !== 0) write(general, execution, find(value, 0))
    }
  }

function lowestBit(low: number, high: number): number {
  return low === 0 ? 63 - Math.clz32(high & -high) : 31 - Math.clz32(low & -low)
}

function highestBit(low: number, high: number): number {
  return high === 0 ? 31 - Math.clz32(low) : 63 - Math.clz32(high)
}

/** TZCNT and LZCNT: ZF tells a result of 0, CF an operand of 0; the others, undefined, are cleared. */
const count =
  (isTrailing: boolean): Translator =>
  (decoded) => {
    const size = decoded.size(0)
    const bits = size * 8
    const write = writeRegister(decoded.register(0))
    const { word } = decoded.register(0)
    if (size === 8) {
      const read = wideReader(decoded, 1)
      return (general, execution) => {
        const low = read(general, execution)
        const { high } = execution
        const isZero = (low | high) === 0
        const result = isZero ? 64 : isTrailing ? lowestBit(low, high) : 63 - highestBit(low, high)
        execution.statusFlags = (isZero ? Rflags.CF : 0) | (result === 0 ? Rflags.ZF : 0)
        general[word] = result
        general[word + 1] = 0
      }
    }
    const read = reader(decoded, 1, size)
    return (general, execution) => {
      const value = read(general, execution)
      const found = isTrailing ? lowestBit(value, 0) : bits - 1 - highestBit(value, 0)
      const result = value === 0 ? bits : found
      execution.statusFlags = (value === 0 ? Rflags.CF : 0) | (result === 0 ? Rflags.ZF : 0)
      write(general, execution, result)
    }
  }

function ones(value: number): number {
  let rest = value - ((value >>> 1) & 0x5555_5555)
  rest = (rest & 0x3333_3333) + ((rest >>> 2) & 0x3333_3333)
  return Math.imul((rest + (rest >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24
}

const popcnt: Translator = (decoded) => {
  const size = decoded.size(0)
  const write = writeRegister(decoded.register(0))
  if (size === 8) {
    const read = wideReader(decoded, 1)
    const { word } = decoded.register(0)
    return (general, execution) => {
      const result = ones(read(general, execution)) + ones(execution.high)
      execution.statusFlags = result === 0 ? Rflags.ZF : 0
      general[word] = result
      general[word + 1] = 0
    }
  }
  const read = reader(decoded, 1, size)
  return (general, execution) => {
    const result = ones(read(general, execution))
    execution.statusFlags = result === 0 ? Rflags.ZF : 0
    write(general, execution, result)
  }
}

/** CRC32 accumulates with the polynomial 11EDC6F41H, bits reflected (SDM Vol. 2, CRC32). */
const CRC32C = 0x82f6_3b78

const crc32: Translator = (decoded) => {
  const { word } = decoded.register(0)
  const size = decoded.size(1)
  if (size === 8) {
    const read = wideReader(decoded, 1)
    return (general, execution) => {
      const low = read(general, execution)
      const { high } = execution
      general[word] = accumulate(accumulate(general[word]!, low, 32), high, 32)
      general[word + 1] = 0
    }
  }
  const read = reader(decoded, 1, size)
  return (general, execution) => {
    general[word] = accumulate(general[word]!, read(general, execution), size * 8)
    general[word + 1] = 0
  }
}

function accumulate(before: number, value: number, bits: number): number {
  let sum = before ^ value
  for (let bit = 0; bit < bits; bit++) sum = (sum >>> 1) ^ (CRC32C & -(sum & 1))
  return sum
}

export const BITS: InstructionFamily = {
  name: 'bits',
  translators: new Map([
    [Mnemonic.Bt, bitTest(undefined)],
    [Mnemonic.Bts, bitTest(BIT_CHANGES.bts)],
    [Mnemonic.Btr, bitTest(BIT_CHANGES.btr)],
    [Mnemonic.Btc, bitTest(BIT_CHANGES.btc)],
    [Mnemonic.Bsf, bitScan(true)],
    [Mnemonic.Bsr, bitScan(false)],
    [Mnemonic.Tzcnt, count(true)],
    [Mnemonic.Lzcnt, count(false)],
    [Mnemonic.Popcnt, popcnt],
    [Mnemonic.Crc32, crc32],
  ]),
}
