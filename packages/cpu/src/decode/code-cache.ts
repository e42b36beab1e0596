import type { PhysicalMemory } from '@trapdoor/core'
import type { Block } from './block.ts'
import type { CodeBits } from './decoded-instruction.ts'

const PAGE = 4096
const LINE_SHIFT = 4
const LINES = PAGE >> LINE_SHIFT

/** What was decoded of the bytes of a frame, whoever has that frame in memory. */
export class CodeFrame {
  /** False once the bytes were changed in place. */
  isCurrent = true
  readonly #blocks: Map<CodeBits, (Block | undefined)[]> = new Map()
  readonly #across: Map<CodeBits, Map<number, Block>> = new Map()
  readonly #singles: Map<CodeBits, (Block | undefined)[]> = new Map()
  /** 1 for each line of 16 bytes of which something was decoded. */
  readonly #decoded: Uint8Array = new Uint8Array(LINES)

  /** Blocks by the offset of their first byte, those apart that lie in two pages. */
  blocks(bits: CodeBits): (Block | undefined)[] {
    return byBits(this.#blocks, bits)
  }

  /** Blocks of one instruction that ends in the page behind, by the offset of its first byte. */
  across(bits: CodeBits): Map<number, Block> {
    let blocks = this.#across.get(bits)
    if (blocks === undefined) {
      blocks = new Map()
      this.#across.set(bits, blocks)
    }
    return blocks
  }

  /** Blocks of one instruction, for whoever wants to stop after it. */
  singles(bits: CodeBits): (Block | undefined)[] {
    return byBits(this.#singles, bits)
  }

  /** Notes that the bytes `start` up to `end` (exclusive) were decoded. */
  markDecoded(start: number, end: number): void {
    this.#decoded.fill(1, start >>> LINE_SHIFT, ((Math.min(end, PAGE) - 1) >>> LINE_SHIFT) + 1)
  }

  /** Whether any of the bytes `start` up to `end` (exclusive) may have been decoded. */
  holdsCode(start: number, end: number): boolean {
    const last = (end - 1) >>> LINE_SHIFT
    for (let line = start >>> LINE_SHIFT; line <= last; line++) {
      if (this.#decoded[line] === 1) return true
    }
    return false
  }
}

/**
 * Decoded code by the identity of the array that holds its bytes. Forks share the arrays of the frames that neither side has written to, and with them what was decoded; an array that is shared is never
 * written to, so that only the one memory that has an array for itself can change it, and says so.
 */
export class CodeCache {
  readonly #buffers: WeakMap<ArrayBufferLike, (CodeFrame | undefined)[]> = new WeakMap()

  /** What is decoded of a frame of a memory, from now on kept up to date by {@link written}. */
  frame(memory: PhysicalMemory, frame: number): CodeFrame {
    // Watching may move nothing, but it comes first: the frame is to be found as it will be.
    memory.watchCode(frame)
    const words = memory.locate(frame)
    const index = (words.byteOffset + memory.base * 4) / PAGE
    let frames = this.#buffers.get(words.buffer)
    if (frames === undefined) {
      frames = []
      this.#buffers.set(words.buffer, frames)
    }
    const known = frames[index]
    if (known !== undefined) return known
    const added = new CodeFrame()
    frames[index] = added
    return added
  }

  /** Whether any of the bytes `start` up to `end` (exclusive) of a frame may have been decoded. */
  isDecoded(memory: PhysicalMemory, frame: number, start: number, end: number): boolean {
    const words = memory.locate(frame)
    const index = (words.byteOffset + memory.base * 4) / PAGE
    return this.#buffers.get(words.buffer)?.[index]?.holdsCode(start, end) ?? false
  }

  /** The bytes `start` up to `end` (exclusive) of a frame were written to. */
  written(memory: PhysicalMemory, frame: number, start: number, end: number): void {
    if (!this.isDecoded(memory, frame, start, end)) return
    const words = memory.locate(frame)
    const frames = this.#buffers.get(words.buffer)!
    const index = (words.byteOffset + memory.base * 4) / PAGE
    frames[index]!.isCurrent = false
    frames[index] = undefined
  }
}

function byBits(
  blocks: Map<CodeBits, (Block | undefined)[]>,
  bits: CodeBits,
): (Block | undefined)[] {
  let page = blocks.get(bits)
  if (page === undefined) {
    // Code that changes itself has its page made anew each time: Array.from takes a hundred times as long.
    page = Array<Block | undefined>(PAGE).fill(undefined)
    blocks.set(bits, page)
  }
  return page
}
