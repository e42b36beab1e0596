// Through memory, as arithmetic on a bigint costs ten times as much. Memory is little endian, here as in the machine.
const WIDE: BigUint64Array = new BigUint64Array(1)
const HALVES: Int32Array = new Int32Array(WIDE.buffer)

/** The unsigned 64-bit value with these halves. */
export function joinHalves(high: number, low: number): bigint {
  HALVES[0] = low
  HALVES[1] = high
  return WIDE[0]!
}

/** The signed low half of the low 64 bits of a value. */
export function lowHalf(value: bigint): number {
  WIDE[0] = value
  return HALVES[0]!
}

/** The signed high half of the low 64 bits of a value. */
export function highHalf(value: bigint): number {
  WIDE[0] = value
  return HALVES[1]!
}
