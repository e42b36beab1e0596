import { Code, Decoder, DecoderError, DecoderOptions, FlowControl } from 'iced-x86'
import { GATE_BYTES, gate, isGatePrefix } from '../instructions/gate.ts'
import { compareAndBranch } from '../instructions/integer/compare-and-branch.ts'
import type { InstructionTable } from '../instructions/table.ts'
import { invalidOpcode, missingInstruction } from '../instructions/undefined.ts'
import type { Block, Operation } from './block.ts'
import { type CodeBits, DecodedInstruction } from './decoded-instruction.ts'
import { markDeadFlags } from './flag-liveness.ts'

/** Instructions of a block at the most. */
const LIMIT = 64
/** Bytes that are decoded at once at the most. */
const WINDOW = 512

/** What a block is made of. */
export interface BlockSource {
  /** Bytes from the first instruction on, to the end of its page; or on into the next where the first does not end in it. */
  readonly bytes: Uint8Array
  readonly bits: CodeBits
  readonly table: InstructionTable
  /** Instructions at the most. */
  readonly limit?: number
}

/** Decodes instructions up to one that branches, or one that the bytes do not hold whole. Undefined where that is the first. */
export function translateBlock({
  bytes,
  bits,
  table,
  limit = LIMIT,
}: BlockSource): Block | undefined {
  const window = bytes.subarray(0, WINDOW)
  const decoder = new Decoder(bits, window, DecoderOptions.None)
  const decoded: DecodedInstruction[] = []
  let last: Operation | undefined
  let end = 0
  try {
    while (decoded.length < limit) {
      const rest = window.subarray(end)
      if (isGatePrefix(rest)) {
        if (rest.length < GATE_BYTES) break
        last = gate(rest)
        end += GATE_BYTES
        break
      }
      const instruction = decoder.decode()
      if (decoder.lastError === DecoderError.NoMoreBytes) {
        instruction.free()
        break
      }
      const one = new DecodedInstruction(instruction, bits, end, rest)
      if (instruction.code === Code.INVALID) {
        instruction.free()
        last = invalidOpcode(rest)
        end++
        break
      }
      decoded.push(one)
      end = one.next
      if (instruction.flowControl !== FlowControl.Next || table.endsBlock(one)) break
    }
    if (end === 0) return undefined
    if (limit > 1) markDeadFlags(decoded)
    return assemble(decoded, last, end, table)
  } finally {
    for (const { instruction } of decoded) instruction.free()
    decoder.free()
  }
}

function assemble(
  decoded: readonly DecodedInstruction[],
  last: Operation | undefined,
  end: number,
  table: InstructionTable,
): Block {
  const [comparison, jump] = [decoded.at(-2), decoded.at(-1)]
  const fused =
    comparison === undefined || jump === undefined ? undefined : compareAndBranch(comparison, jump)
  const single = fused === undefined ? decoded : decoded.slice(0, -2)
  const operations = single.map(
    (one) => table.translate(one) ?? missingInstruction(one.instruction.toString(), one.bytes),
  )
  const offsets = single.map(({ offset }) => offset)
  const stackOperands = single.map((one) => usesStackSegment(one))
  const final = fused ?? last
  if (final !== undefined) {
    operations.push(final)
    offsets.push(fused === undefined ? (jump?.next ?? 0) : comparison!.offset)
    stackOperands.push(false)
  }
  offsets.push(end)
  return {
    operations,
    instructions: decoded.length + (last === undefined ? 0 : 1),
    offsets,
    stackOperands,
    setsNext: final !== undefined || single.some(({ endsBlock }) => endsBlock),
    second: undefined,
  }
}

function usesStackSegment(decoded: DecodedInstruction): boolean {
  for (let operand = 0; operand < decoded.operands; operand++) {
    if (decoded.isMemory(operand)) return decoded.memory.usesStackSegment
  }
  return false
}
