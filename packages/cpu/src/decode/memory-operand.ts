import { Segment, type SegmentNumber } from '@trapdoor/core'

/** Words of {@link Cpu.general} that an operand without a base or an index points to, always 0. */
export const ZERO_WORD = 34
/** Words that hold the linear address of the block that is carried out. */
export const BLOCK_WORD = 32

/** How an address is made. */
const AddressKind = {
  /** Base and displacement, 64 bits, no segment base: RIP-relative and absolute addresses too. */
  Base: 0,
  /** The same with an index. */
  Indexed: 1,
  /** Anything else. */
  General: 2,
} as const

/** A memory operand. `base` and `index` are words of {@link Cpu.general}. */
export class MemoryOperand {
  readonly kind: number
  readonly base: number
  readonly index: number
  /** The index is shifted left by so much. */
  readonly scale: number
  /** Halves of the displacement. */
  readonly low: number
  readonly high: number
  readonly segment: SegmentNumber
  readonly addressBits: 16 | 32 | 64
  /** Bytes of the access, 1 where that is not known, and whether it writes: what a segment with a limit and rights looks at. */
  readonly bytes: number
  readonly writes: boolean

  constructor(parts: {
    readonly base: number
    readonly index: number
    readonly scale: number
    readonly low: number
    readonly high: number
    readonly segment: SegmentNumber
    readonly addressBits: 16 | 32 | 64
    readonly isFlat: boolean
    readonly bytes: number
    readonly writes: boolean
  }) {
    this.base = parts.base
    this.index = parts.index
    this.scale = parts.scale
    this.low = parts.low
    this.high = parts.high
    this.segment = parts.segment
    this.addressBits = parts.addressBits
    this.bytes = parts.bytes
    this.writes = parts.writes
    this.kind =
      !parts.isFlat || parts.addressBits !== 64
        ? AddressKind.General
        : parts.index === ZERO_WORD
          ? AddressKind.Base
          : AddressKind.Indexed
  }

  get usesStackSegment(): boolean {
    return this.segment === Segment.SS
  }
}
