import { Code, Decoder, DecoderError, DecoderOptions, FlowControl } from 'iced-x86'
import { GATE_BYTES, gate, isGatePrefix } from '../instructions/gate.ts'
import { compareAndBranch } from '../instructions/integer/compare-and-branch.ts'
import { conditionOf } from '../instructions/integer/conditions.ts'
import type { InstructionTable } from '../instructions/table.ts'
import { invalidOpcode, missingInstruction } from '../instructions/undefined.ts'
import type { Block, Operation } from './block.ts'
import { type CodeBits, DecodedInstruction } from './decoded-instruction.ts'
import { isPlain, markDeadFlags } from './flag-liveness.ts'

/** Instructions of a block at the most, and conditional jumps among them: what lies behind a jump is decoded again for its target. */
const LIMIT = 32
const JUMPS = 3

/** What a block is made of. */
export interface BlockSource {
  /** A page; or the end of one and the beginning of the next, for an instruction that lies across. */
  readonly bytes: Uint8Array
  /** Where the first instruction begins in them. */
  readonly start: number
  readonly bits: CodeBits
  readonly table: InstructionTable
  /** Instructions at the most. */
  readonly limit?: number
  /** Told of each range of bytes, the end exclusive, that the block depends on. */
  readonly mark: (start: number, end: number) => void
}

/** What was decoded, and what a block ends with that is no instruction. */
interface Trace {
  readonly decoded: readonly DecodedInstruction[]
  readonly last: { readonly operation: Operation; readonly offset: number } | undefined
  /** Bytes from the beginning of the block to what comes after it. */
  readonly end: number
}

/** Decodes instructions from the first on, as long as it is known what comes next and the bytes hold it. Undefined where they do not hold the first. */
export function translateBlock(source: BlockSource): Block | undefined {
  const decoder = new Decoder(source.bits, source.bytes, DecoderOptions.None)
  const decoded: DecodedInstruction[] = []
  try {
    const trace = decodeTrace(source, decoder, decoded)
    if (trace === undefined) return undefined
    markDeadFlags(decoded)
    return assemble(trace, source.table)
  } finally {
    for (const { instruction } of decoded) instruction.free()
    decoder.free()
  }
}

function decodeTrace(
  { bytes, start, bits, table, limit = LIMIT, mark }: BlockSource,
  decoder: Decoder,
  decoded: DecodedInstruction[],
): Trace | undefined {
  const visited = new Set<number>()
  let at = start
  let jumps = 0
  while (decoded.length < limit && !visited.has(at)) {
    visited.add(at)
    const rest = bytes.subarray(at)
    const offset = at - start
    if (isGatePrefix(rest)) {
      if (rest.length < GATE_BYTES) break
      mark(at, at + GATE_BYTES)
      return { decoded, last: { operation: gate(rest), offset }, end: 0 }
    }
    decoder.position = at
    decoder.ip = BigInt.asUintN(64, BigInt(offset))
    const instruction = decoder.decode()
    if (decoder.lastError === DecoderError.NoMoreBytes) {
      instruction.free()
      break
    }
    if (instruction.code === Code.INVALID) {
      instruction.free()
      mark(at, Math.min(at + LONGEST, bytes.length))
      return { decoded, last: { operation: invalidOpcode(rest), offset }, end: 0 }
    }
    const one = new DecodedInstruction(instruction, bits, offset, rest)
    decoded.push(one)
    mark(at, at + instruction.length)
    at += instruction.length
    if (table.endsBlock(one)) break
    if (instruction.flowControl === FlowControl.ConditionalBranch) {
      jumps++
      if (jumps > JUMPS || bits !== 64 || conditionOf(one.mnemonic) === undefined) break
    } else if (instruction.isJmpShortOrNear || instruction.isCallNear) {
      // A jump without operations before it would leave none.
      const isFirst = decoded.length === 1 && !instruction.isCallNear
      const target = start + one.branchDistance
      const isInside = bits === 64 && target >= 0 && target < bytes.length
      if (!isInside || isFirst || one.isNarrowNearBranch || decoded.length === limit) break
      one.isFollowed = true
      at = target
    } else if (instruction.flowControl !== FlowControl.Next) {
      break
    }
  }
  return decoded.length === 0 ? undefined : { decoded, last: undefined, end: at - start }
}

/** The longest instruction (SDM Vol. 2, 2.3.11). */
const LONGEST = 15

function assemble({ decoded, last, end }: Trace, table: InstructionTable): Block {
  const operations: Operation[] = []
  const offsets: number[] = []
  const counts: number[] = []
  const ends: number[] = []
  const stackOperands: boolean[] = []
  const plain: boolean[] = []
  const add = (
    operation: Operation,
    offset: number,
    [before, up]: readonly [number, number],
    isStack = false,
    isOnRegisters = false,
  ): void => {
    operations.push(operation)
    offsets.push(offset)
    counts.push(before)
    ends.push(up)
    stackOperands.push(isStack)
    plain.push(isOnRegisters)
  }
  for (let index = 0; index < decoded.length; index++) {
    const one = decoded[index]!
    const following = decoded[index + 1]
    const fused = following === undefined ? undefined : compareAndBranch(one, following)
    if (fused !== undefined) {
      add(fused, one.offset, [index, index + 2])
      index++
    } else if (!one.isFollowed || one.instruction.isCallNear) {
      const operation =
        table.translate(one) ?? missingInstruction(one.instruction.toString(), one.bytes)
      add(operation, one.offset, [index, index + 1], usesStackSegment(one), isPlain(one))
    }
  }
  const instructions = decoded.length + (last === undefined ? 0 : 1)
  if (last !== undefined) add(last.operation, last.offset, [decoded.length, instructions])
  const setsNext = last !== undefined || decoded.at(-1)!.endsBlock
  return {
    operations,
    offsets: [...offsets, setsNext ? 0 : end],
    counts: [...counts, instructions],
    ends,
    starts: [...decoded.map(({ offset }) => offset), ...(last === undefined ? [] : [last.offset])],
    instructions,
    stackOperands,
    second: undefined,
    plain,
    runs: 0,
    whole: undefined,
  }
}

function usesStackSegment(decoded: DecodedInstruction): boolean {
  for (let operand = 0; operand < decoded.operands; operand++) {
    if (decoded.isMemory(operand)) return decoded.memory.usesStackSegment
  }
  return false
}
