const BYTES = 16

/** Sixteen bytes, as elements of each size. What an MMX instruction works on is the first eight. */
export class Vector {
  readonly words: Int32Array = new Int32Array(BYTES / 4)
  readonly int8: Int8Array
  readonly uint8: Uint8Array
  readonly int16: Int16Array
  readonly uint16: Uint16Array
  readonly uint32: Uint32Array
  readonly uint64: BigUint64Array

  constructor() {
    const { buffer } = this.words
    this.int8 = new Int8Array(buffer)
    this.uint8 = new Uint8Array(buffer)
    this.int16 = new Int16Array(buffer)
    this.uint16 = new Uint16Array(buffer)
    this.uint32 = new Uint32Array(buffer)
    this.uint64 = new BigUint64Array(buffer)
  }
}

/**
 * What an instruction does to its first operand, in place, with its second. `bytes` is 16 for XMM registers and 8 for MMX; `immediate` is 0 for an instruction without one.
 */
export type VectorOperation = (
  first: Vector,
  second: Vector,
  bytes: 8 | 16,
  immediate: number,
) => void

export function clamp(value: number, low: number, high: number): number {
  return value < low ? low : value > high ? high : value
}
