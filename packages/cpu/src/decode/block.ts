import type { Execution } from '../execution.ts'
import type { CodeFrame } from './code-cache.ts'

/**
 * Carries out one instruction, or a comparison and the jump behind it. `general` is the CPU's own (see {@link Cpu.general}). A closure over numbers only: blocks are shared by all CPUs that run the same bytes.
 */
export type Operation = (general: Int32Array, execution: Execution) => void

/** Instructions that are carried out one after the other, decoded once for all who have the same frame in memory. */
export interface Block {
  readonly operations: readonly Operation[]
  /** How many instructions they are; the last operation may be two. */
  readonly instructions: number
  /** Bytes from the beginning of the block to each operation, and to the end of the last. */
  readonly offsets: readonly number[]
  /** Whether each operation addresses memory by SS. */
  readonly stackOperands: readonly boolean[]
  /** Whether the last operation leaves the address of the next instruction in the block words; else that is the one that follows. */
  readonly setsNext: boolean
  /** The page in which the one instruction of a block ends that lies across two. */
  readonly second: CodeFrame | undefined
}
