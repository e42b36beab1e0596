import { Rflags, Segment, type SegmentNumber } from '@trapdoor/core'
import { type Instruction, Mnemonic, OpKind, Register } from 'iced-x86'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { checkIoPrivilege, input, output, type PortSize } from './ports.ts'
import type { InstructionFamily, Translator } from '../table.ts'

/** Words of RCX, RSI and RDI. */
const COUNT = 2
/** The word of RDX, which holds the port of INS and OUTS. */
const DATA = 4
const SOURCE = 12
const DESTINATION = 14
/** Iterations that are carried out one by one before interrupts are looked at again. */
const SLICE = 256
/** Below this, a bulk operation costs more than its iterations. */
const BULK_BYTES = 16

type ElementSize = 1 | 2 | 4 | 8

/** What a string instruction needs to know of its encoding. */
interface StringForm {
  readonly size: ElementSize
  readonly addressBits: 16 | 32 | 64
  /** The segment of the source; the destination is always in ES. */
  readonly segment: SegmentNumber
  /** 64-bit mode with 64-bit addresses and no segment base: linear addresses are what the registers hold. */
  readonly isFlat: boolean
}

/** One iteration, registers and all; false where a repetition ends with it. Registers change after the last access that can fault. */
type Iteration = (general: Int32Array, execution: Execution, form: StringForm) => boolean

/** Several iterations at once in pages whose words are at hand; how many. 0 where there is no such way, or it does not pay. */
type Bulk = (general: Int32Array, execution: Execution, form: StringForm, count: number) => number

function stringForm(decoded: DecodedInstruction, size: ElementSize): StringForm {
  const { instruction, bits } = decoded
  let addressBits: 16 | 32 | 64 = bits
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const found = ADDRESS_BITS.get(instruction.opKind(operand))
    if (found !== undefined) addressBits = found
  }
  const prefix = instruction.segmentPrefix
  const segment = prefix === Register.None ? Segment.DS : ((prefix - Register.ES) as SegmentNumber)
  const isFlat =
    bits === 64 && addressBits === 64 && segment !== Segment.FS && segment !== Segment.GS
  return { size, addressBits, segment, isFlat }
}

const ADDRESS_BITS: ReadonlyMap<OpKind, 16 | 32 | 64> = new Map([
  [OpKind.MemorySegSI, 16],
  [OpKind.MemorySegESI, 32],
  [OpKind.MemorySegRSI, 64],
  [OpKind.MemoryESDI, 16],
  [OpKind.MemoryESEDI, 32],
  [OpKind.MemoryESRDI, 64],
])

/** The linear address that RSI or RDI points to: the low half, and the high one in `addressHigh`. */
function pointedTo(
  general: Int32Array,
  execution: Execution,
  { isFlat, addressBits }: StringForm,
  word: number,
  segment: SegmentNumber,
): number {
  if (isFlat) {
    execution.addressHigh = general[word + 1]!
    return general[word]!
  }
  return execution.segmentAddress(general[word + 1]!, general[word]!, addressBits, segment)
}

/** Moves a pointer or a counter by a signed number of bytes, as far as the address size has it. */
function move(general: Int32Array, word: number, bytes: number, { addressBits }: StringForm): void {
  const low = general[word]!
  if (addressBits === 16) {
    general[word] = (low & ~0xffff) | ((low + bytes) & 0xffff)
    return
  }
  general[word] = low + bytes
  if (addressBits === 32) {
    general[word + 1] = 0
    return
  }
  const sum = (low >>> 0) + bytes
  if (sum > 0xffff_ffff) general[word + 1] = general[word + 1]! + 1
  else if (sum < 0) general[word + 1] = general[word + 1]! - 1
}

/** RCX, ECX or CX, as far as a number of 32 bits goes: more iterations than that come later. */
function remaining(general: Int32Array, { addressBits }: StringForm): number {
  const low = general[COUNT]!
  if (addressBits === 16) return low & 0xffff
  return addressBits === 64 && general[COUNT + 1] !== 0 ? 0xffff_ffff : low >>> 0
}

function stride(execution: Execution, { size }: StringForm): number {
  return (execution.cpu.controlFlags & Rflags.DF) === 0 ? size : -size
}

function load(execution: Execution, high: number, low: number, size: ElementSize): number {
  if (size === 1) return execution.load8(high, low)
  if (size === 2) return execution.load16(high, low)
  return size === 4 ? execution.load32(high, low) : execution.load64(high, low)
}

function store(
  execution: Execution,
  high: number,
  low: number,
  size: ElementSize,
  value: number,
  valueHigh: number,
): void {
  if (size === 1) execution.store8(high, low, value)
  else if (size === 2) execution.store16(high, low, value)
  else if (size === 4) execution.store32(high, low, value)
  else execution.store64(high, low, value, valueHigh)
}

function compare(
  execution: Execution,
  size: ElementSize,
  low: number,
  high: number,
  secondLow: number,
  secondHigh: number,
): void {
  if (size === 8) execution.sub64(low, high, secondLow, secondHigh)
  else if (size === 4) execution.sub32(low, secondLow)
  else execution.subSmall(low, secondLow, size === 1 ? 24 : 16)
}

const movs: Iteration = (general, execution, form) => {
  const { size, segment } = form
  const from = pointedTo(general, execution, form, SOURCE, segment)
  const value = load(execution, execution.addressHigh, from, size)
  const { high } = execution
  const to = pointedTo(general, execution, form, DESTINATION, Segment.ES)
  store(execution, execution.addressHigh, to, size, value, high)
  const bytes = stride(execution, form)
  move(general, SOURCE, bytes, form)
  move(general, DESTINATION, bytes, form)
  return true
}

const stos: Iteration = (general, execution, form) => {
  const to = pointedTo(general, execution, form, DESTINATION, Segment.ES)
  store(execution, execution.addressHigh, to, form.size, general[0]!, general[1]!)
  move(general, DESTINATION, stride(execution, form), form)
  return true
}

const lods: Iteration = (general, execution, form) => {
  const { size, segment } = form
  const from = pointedTo(general, execution, form, SOURCE, segment)
  const value = load(execution, execution.addressHigh, from, size)
  if (size === 8) general[1] = execution.high
  else if (size === 4) general[1] = 0
  general[0] =
    size === 1
      ? (general[0]! & ~0xff) | value
      : size === 2
        ? (general[0]! & ~0xffff) | value
        : value
  move(general, SOURCE, stride(execution, form), form)
  return true
}

const scas =
  (wanted: boolean | undefined): Iteration =>
  (general, execution, form) => {
    const { size } = form
    const from = pointedTo(general, execution, form, DESTINATION, Segment.ES)
    const value = load(execution, execution.addressHigh, from, size)
    const mask = size === 1 ? 0xff : size === 2 ? 0xffff : -1
    compare(execution, size, general[0]! & mask, general[1]!, value, execution.high)
    move(general, DESTINATION, stride(execution, form), form)
    return execution.zero === wanted
  }

const cmps =
  (wanted: boolean | undefined): Iteration =>
  (general, execution, form) => {
    const { size, segment } = form
    const from = pointedTo(general, execution, form, SOURCE, segment)
    const first = load(execution, execution.addressHigh, from, size)
    const firstHigh = execution.high
    const to = pointedTo(general, execution, form, DESTINATION, Segment.ES)
    const second = load(execution, execution.addressHigh, to, size)
    compare(execution, size, first, firstHigh, second, execution.high)
    const bytes = stride(execution, form)
    move(general, SOURCE, bytes, form)
    move(general, DESTINATION, bytes, form)
    return execution.zero === wanted
  }

/** The right to write is checked before the port is read, as a fault repeats the instruction. */
const ins: Iteration = (general, execution, form) => {
  const size = form.size as PortSize
  const port = general[DATA]! & 0xffff
  checkIoPrivilege(execution, port, size)
  const to = pointedTo(general, execution, form, DESTINATION, Segment.ES)
  const toHigh = execution.addressHigh
  execution.loadToModify(toHigh, to, size)
  execution.store(toHigh, to, size, input(execution, port, size))
  move(general, DESTINATION, stride(execution, form), form)
  return true
}

const outs: Iteration = (general, execution, form) => {
  const size = form.size as PortSize
  const port = general[DATA]! & 0xffff
  checkIoPrivilege(execution, port, size)
  const from = pointedTo(general, execution, form, SOURCE, form.segment)
  output(execution, port, size, load(execution, execution.addressHigh, from, size))
  move(general, SOURCE, stride(execution, form), form)
  return true
}

/** REP STOS upwards within a page. */
const bulkStos: Bulk = (general, execution, form, count) => {
  const { size } = form
  const low = general[DESTINATION]!
  const elements = Math.min(count, Math.floor((4096 - (low & 4095)) / size))
  if (!isBulk(execution, form, elements)) return 0
  const bytes = execution.pageBytes(general[DESTINATION + 1]!, low, 'write')
  if (bytes === undefined) return 0
  const start = low & 4095
  const end = start + elements * size
  if (size === 1) {
    bytes.fill(general[0]!, start, end)
  } else {
    const pattern = new Int32Array([general[0]!, general[1]!])
    bytes.set(new Uint8Array(pattern.buffer, 0, size), start)
    // Doubles what is there until the range is full.
    for (let done = size; done < end - start; done *= 2) {
      bytes.copyWithin(start + done, start, Math.min(start + done, end - done))
    }
  }
  move(general, DESTINATION, elements * size, form)
  return elements
}

/** REP MOVS upwards within a page of each. */
const bulkMovs: Bulk = (general, execution, form, count) => {
  const { size } = form
  const from = general[SOURCE]!
  const to = general[DESTINATION]!
  const elements = Math.min(
    count,
    Math.floor((4096 - (from & 4095)) / size),
    Math.floor((4096 - (to & 4095)) / size),
  )
  if (!isBulk(execution, form, elements)) return 0
  // A fault of the source comes first; but the frame that is copied for the destination may be the source's, so that this is asked for again.
  if (execution.pageBytes(general[SOURCE + 1]!, from, 'read') === undefined) return 0
  const target = execution.pageBytes(general[DESTINATION + 1]!, to, 'write')
  const source = execution.pageBytes(general[SOURCE + 1]!, from, 'read')
  if (target === undefined || source === undefined) return 0
  const start = from & 4095
  const length = elements * size
  // An element that was stored may be loaded again further on: then it goes one by one.
  const distance = target.byteOffset + (to & 4095) - source.byteOffset - start
  if (target.buffer === source.buffer && distance > 0 && distance < length) return 0
  target.set(source.subarray(start, start + length), to & 4095)
  move(general, SOURCE, length, form)
  move(general, DESTINATION, length, form)
  return elements
}

function isBulk(execution: Execution, { isFlat, size }: StringForm, elements: number): boolean {
  return isFlat && elements * size >= BULK_BYTES && (execution.cpu.controlFlags & Rflags.DF) === 0
}

/**
 * Repeats an iteration RCX times, some of them at a time: RIP stays until all are done, so that an interrupt or a fault finds registers as after the last iteration. Instructions are counted as QEMU's plugins
 * do: each iteration is one, and so is the last look at RCX when that is what ends it.
 */
function repeated(
  { offset, next }: DecodedInstruction,
  form: StringForm,
  iteration: Iteration,
  bulk?: Bulk,
): Operation {
  return (general, execution) => {
    // A single step is one iteration: the trap comes behind each, as it does in QEMU and on processors.
    const allowed = execution.singleStepDue ? 1 : Math.max(execution.quota, 1)
    let count = Math.min(remaining(general, form), allowed)
    if (remaining(general, form) === 0) {
      execution.branch(general, next)
      return
    }
    const atOnce = bulk === undefined ? 0 : bulk(general, execution, form, count)
    if (atOnce > 0) {
      move(general, COUNT, -atOnce, form)
      execution.countIterations(atOnce)
    } else {
      count = Math.min(count, SLICE)
      for (let done = 0; done < count; done++) {
        const goesOn = iteration(general, execution, form)
        move(general, COUNT, -1, form)
        execution.countIterations(1)
        if (!goesOn) {
          // The block counts the instruction once more.
          execution.countIterations(-1)
          execution.branch(general, next)
          return
        }
      }
    }
    if (remaining(general, form) === 0) {
      execution.branch(general, next)
    } else {
      execution.countIterations(-1)
      execution.branch(general, offset)
    }
  }
}

function translator(
  size: ElementSize,
  iterationFor: (wanted: boolean | undefined) => Iteration,
  bulk?: Bulk,
): Translator {
  return (decoded) => {
    const { instruction } = decoded
    if (!instruction.isStringInstruction) return undefined
    const form = stringForm(decoded, size)
    if (!decoded.isRepeated) {
      const iteration = iterationFor(undefined)
      return (general, execution) => {
        iteration(general, execution, form)
      }
    }
    decoded.endsBlock = true
    const repetition = repeated(decoded, form, iterationFor(instruction.hasRepPrefix), bulk)
    if (comparesElements(instruction)) return restoringFlags(repetition)
    const iteration = iterationFor(undefined)
    return iteration === ins || iteration === outs ? askingFirst(repetition, form) : repetition
  }
}

/** Processors look at the right to a port before they look at RCX. */
function askingFirst(operation: Operation, { size }: StringForm): Operation {
  return (general, execution) => {
    checkIoPrivilege(execution, general[DATA]! & 0xffff, size as PortSize)
    operation(general, execution)
  }
}

function comparesElements({ rflagsWritten }: Instruction): boolean {
  return rflagsWritten !== 0
}

/** A fault during repeated comparisons leaves the flags as they were before them on Intel's processors (SDM Vol. 2, REP); on AMD's, whose manual says nothing of it, they are those of the last comparison (seen on an EPYC). */
function restoringFlags(operation: Operation): Operation {
  return (general, execution) => {
    const { statusFlags } = execution
    try {
      operation(general, execution)
    } catch (error) {
      if (execution.cpu.machine.features.vendor === 'intel') execution.statusFlags = statusFlags
      throw error
    }
  }
}

const SIZES = [
  ['b', 1],
  ['w', 2],
  ['d', 4],
  ['q', 8],
] as const

function family(
  name: 'Movs' | 'Stos' | 'Lods' | 'Scas' | 'Cmps',
  iterationFor: (wanted: boolean | undefined) => Iteration,
  bulk?: Bulk,
): [Mnemonic, Translator][] {
  return SIZES.map(([letter, size]) => [
    Mnemonic[`${name}${letter}`],
    translator(size, iterationFor, bulk),
  ])
}

export const STRINGS: InstructionFamily = {
  name: 'strings',
  // MOVSD and CMPSD are instructions of SSE, too.
  translators: new Map([
    ...family('Movs', () => movs, bulkMovs),
    ...family('Stos', () => stos, bulkStos),
    ...family('Lods', () => lods),
    ...family('Scas', scas),
    ...family('Cmps', cmps),
    [Mnemonic.Insb, translator(1, () => ins)],
    [Mnemonic.Insw, translator(2, () => ins)],
    [Mnemonic.Insd, translator(4, () => ins)],
    [Mnemonic.Outsb, translator(1, () => outs)],
    [Mnemonic.Outsw, translator(2, () => outs)],
    [Mnemonic.Outsd, translator(4, () => outs)],
  ]),
}
