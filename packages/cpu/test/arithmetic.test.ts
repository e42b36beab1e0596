import { Gpr } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { type CodeMachine, codeMachine, execute } from './code-machine.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

const FLAGS = { CF: 0x1, PF: 0x4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 }

/** ZF, SF and PF of a result of `bits` bits (SDM Vol. 1, 3.4.3.1). */
function flagsOf(result: bigint, bits: number): number {
  const ones = (result & 0xffn).toString(2).replaceAll('0', '').length
  return (
    (result === 0n ? FLAGS.ZF : 0) |
    (result >> BigInt(bits - 1) === 0n ? 0 : FLAGS.SF) |
    (ones % 2 === 0 ? FLAGS.PF : 0)
  )
}

/** Sum or difference and flags, of whole numbers without end. */
function reckon(
  sign: 1n | -1n,
  first: bigint,
  second: bigint,
  carry: bigint,
  bits: number,
): { result: bigint; flags: number } {
  const exact = first + sign * (second + carry)
  const signed = BigInt.asIntN(bits, first) + sign * (BigInt.asIntN(bits, second) + carry)
  const result = BigInt.asUintN(bits, exact)
  const nibble = (first & 0xfn) + sign * ((second & 0xfn) + carry)
  return {
    result,
    flags:
      flagsOf(result, bits) |
      (exact === result ? 0 : FLAGS.CF) |
      (signed === BigInt.asIntN(bits, result) ? 0 : FLAGS.OF) |
      (nibble >= 0n && nibble <= 15n ? 0 : FLAGS.AF),
  }
}

/** Opcodes of the forms with a register in r/m and one in reg: 8 bits; one more is the others. */
const OPCODES = {
  add: (a, b, _c, bits) => reckon(1n, a, b, 0n, bits),
  or: (a, b, _c, bits) => ({ result: a | b, flags: flagsOf(a | b, bits) }),
  adc: (a, b, c, bits) => reckon(1n, a, b, c, bits),
  sbb: (a, b, c, bits) => reckon(-1n, a, b, c, bits),
  and: (a, b, _c, bits) => ({ result: a & b, flags: flagsOf(a & b, bits) }),
  sub: (a, b, _c, bits) => reckon(-1n, a, b, 0n, bits),
  xor: (a, b, _c, bits) => ({ result: a ^ b, flags: flagsOf(a ^ b, bits) }),
  cmp: (a, b, _c, bits) => ({ result: a, flags: reckon(-1n, a, b, 0n, bits).flags }),
} satisfies Record<
  string,
  (a: bigint, b: bigint, c: bigint, bits: number) => { result: bigint; flags: number }
>

const word = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(
    0n,
    1n,
    0x7fn,
    0x80n,
    0xffn,
    0x7fff_ffffn,
    0x8000_0000n,
    2n ** 63n,
    2n ** 64n - 1n,
  ),
)

describe.each(
  Object.entries(OPCODES).map(([name, reference], index) => ({ name, reference, index })),
)('$name', ({ reference, index }) => {
  test.each([8, 16, 32, 64])('of %i bits gives result and flags as whole numbers do', (bits) => {
    const prefix = bits === 64 ? [0x48] : bits === 16 ? [0x66] : []
    const opcode = index * 8 + (bits === 8 ? 0 : 1)
    fc.assert(
      fc.property(word, word, fc.boolean(), (first, second, carry) => {
        const { cpu } = target
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RCX] = second
        cpu.rflags = carry ? 0x8d5 : 0
        // op rax, rcx
        execute(target, ...prefix, opcode, 0xc8)
        const a = BigInt.asUintN(bits, first)
        const b = BigInt.asUintN(bits, second)
        const { result, flags } = reference(a, b, carry ? 1n : 0n, bits)
        const isComparison = index === 7
        const upper = bits === 32 && !isComparison ? 0n : first - BigInt.asUintN(bits, first)
        expect(cpu.general64[Gpr.RAX]).toBe(upper + result)
        expect(cpu.general64[Gpr.RCX]).toBe(second)
        expect(cpu.statusFlags).toBe(flags)
      }),
    )
  })
})
