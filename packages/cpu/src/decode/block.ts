import type { Execution } from '../execution.ts'
import type { CodeFrame } from './code-cache.ts'

/**
 * Carries out one instruction, or a comparison and the jump behind it. `general` is the CPU's own (see {@link Cpu.general}). A closure over numbers only: blocks are shared by all CPUs that run the same
 * bytes.
 */
export type Operation = (general: Int32Array, execution: Execution) => void

/**
 * Instructions in the order in which they are carried out as long as no conditional jump is taken, decoded once for all who have the same frame in memory: direct jumps and calls within the page are followed, and an
 * operation that leaves the block in the middle does so by {@link Execution.leave}.
 */
export interface Block {
  readonly operations: readonly Operation[]
  /**
   * Bytes from the beginning of the block to each operation, negative where it went backwards; and to what comes after the last, or 0 where the last operation leaves the address of the next instruction in
   * the block words.
   */
  readonly offsets: readonly number[]
  /** Instructions before each operation, and all. */
  readonly counts: readonly number[]
  /** Instructions up to each operation: a jump behind it that was followed has none of its own. */
  readonly ends: readonly number[]
  /** All instructions, as offsets. */
  readonly starts: readonly number[]
  /** How many they are. */
  readonly instructions: number
  /** Whether each operation addresses memory by SS. */
  readonly stackOperands: readonly boolean[]
  /** The page in which the one instruction of a block ends that lies across two. */
  readonly second: CodeFrame | undefined
  /** Whether each operation can neither fault nor leave the block. */
  readonly plain: readonly boolean[]
  /** How often the operations were carried out one by one. */
  runs: number
  /** All operations as one function, once the block is hot; it returns how many were carried out. */
  whole: ((general: Int32Array, execution: Execution) => number) | undefined
}
