import fc from 'fast-check'

/** CF, PF, AF, ZF, SF and OF at their places in RFLAGS. */
export const FLAGS = { CF: 0x1, PF: 0x4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 } as const
export const ALL_FLAGS = 0x8d5

/** ZF, SF and PF of a result of `bits` bits (SDM Vol. 1, 3.4.3.1). */
export function flagsOf(result: bigint, bits: number): number {
  const ones = (result & 0xffn).toString(2).replaceAll('0', '').length
  return (
    (result === 0n ? FLAGS.ZF : 0) |
    (bit(result, bits - 1) ? FLAGS.SF : 0) |
    (ones % 2 === 0 ? FLAGS.PF : 0)
  )
}

/** Whether a bit of a number is set. */
export function bit(value: bigint, index: number): boolean {
  return ((value >> BigInt(index)) & 1n) === 1n
}

/** 64 random bits, with the numbers at which something changes among them more often. */
export const word: fc.Arbitrary<bigint> = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(
    0n,
    1n,
    0x7fn,
    0x80n,
    0xffn,
    0x7fffn,
    0x8000n,
    0x7fff_ffffn,
    0x8000_0000n,
    0xffff_ffffn,
    2n ** 63n,
    2n ** 64n - 1n,
  ),
)

/** What a write of `bits` bits leaves in a register: the upper half is cleared for 32, and kept for fewer (SDM Vol. 1, 3.4.1.1). */
export function merged(before: bigint, value: bigint, bits: number): bigint {
  const low = BigInt.asUintN(bits, value)
  return bits >= 32 ? low : before - BigInt.asUintN(bits, before) + low
}

/** The prefix that gives an instruction its operand size. */
export function sizePrefix(bits: number): number[] {
  return bits === 64 ? [0x48] : bits === 16 ? [0x66] : []
}
