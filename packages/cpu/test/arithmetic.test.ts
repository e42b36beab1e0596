import { Gpr } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { type CodeMachine, codeMachine, DATA, DATA_PHYSICAL, execute } from './code-machine.ts'
import { ALL_FLAGS, FLAGS, flagsOf, merged, sizePrefix, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

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

const OPERATIONS = Object.entries(OPCODES).map(([name, reference], index) => ({
  name,
  reference,
  index,
}))
const SIZES = [8, 16, 32, 64]

describe.each(OPERATIONS)('$name', ({ reference, index }) => {
  const isComparison = index === 7

  test.each(SIZES)('of %i bits in registers gives what whole numbers give', (bits) => {
    const opcode = index * 8 + (bits === 8 ? 0 : 1)
    fc.assert(
      fc.property(word, word, fc.boolean(), (first, second, carry) => {
        const { cpu } = target
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RCX] = second
        cpu.rflags = carry ? ALL_FLAGS : 0
        // op rax, rcx
        execute(target, ...sizePrefix(bits), opcode, 0xc8)
        const a = BigInt.asUintN(bits, first)
        const b = BigInt.asUintN(bits, second)
        const { result, flags } = reference(a, b, carry ? 1n : 0n, bits)
        const expected = isComparison ? first : merged(first, result, bits)
        expect(cpu.general64[Gpr.RAX]).toBe(expected)
        expect(cpu.general64[Gpr.RCX]).toBe(second)
        expect(cpu.statusFlags).toBe(flags)
      }),
      { numRuns: 40 },
    )
  })

  test.each(SIZES)('of %i bits in memory, and with an immediate', (bits) => {
    const { memory } = target.machine
    fc.assert(
      fc.property(word, word, fc.boolean(), (first, second, carry) => {
        const { cpu } = target
        const a = BigInt.asUintN(bits, first)
        const b = BigInt.asUintN(bits, second)
        const exact = reference(a, b, carry ? 1n : 0n, bits)
        const begin = (): void => {
          cpu.general64[Gpr.RAX] = first
          cpu.general64[Gpr.RCX] = second
          cpu.general64[Gpr.RDI] = DATA
          cpu.rflags = carry ? ALL_FLAGS : 0
        }
        const size = bits === 8 ? 0 : 1
        // op [rdi], rcx
        memory.write64(DATA_PHYSICAL, first)
        begin()
        execute(target, ...sizePrefix(bits), index * 8 + size, 0x0f)
        const stored = first - a + (isComparison ? a : exact.result)
        expect(memory.read64(DATA_PHYSICAL)).toBe(stored)
        expect(cpu.statusFlags).toBe(exact.flags)
        // op rax, [rdi]
        memory.write64(DATA_PHYSICAL, second)
        begin()
        execute(target, ...sizePrefix(bits), index * 8 + 2 + size, 0x07)
        const loaded = isComparison ? first : merged(first, exact.result, bits)
        expect(cpu.general64[Gpr.RAX]).toBe(loaded)
        expect(cpu.statusFlags).toBe(exact.flags)
        // op rax, imm8, sign-extended
        begin()
        execute(
          target,
          ...sizePrefix(bits),
          0x80 + size * 3,
          0xc0 + index * 8,
          Number(second & 0xffn),
        )
        const immediate = BigInt.asUintN(bits, BigInt.asIntN(8, second))
        const by = reference(a, immediate, carry ? 1n : 0n, bits)
        const left = isComparison ? first : merged(first, by.result, bits)
        expect(cpu.general64[Gpr.RAX]).toBe(left)
        expect(cpu.statusFlags).toBe(by.flags)
        // op [rdi], imm8
        memory.write64(DATA_PHYSICAL, first)
        begin()
        execute(
          target,
          ...sizePrefix(bits),
          0x80 + size * 3,
          0x07 + index * 8,
          Number(second & 0xffn),
        )
        expect(memory.read64(DATA_PHYSICAL)).toBe(first - a + (isComparison ? a : by.result))
        expect(cpu.statusFlags).toBe(by.flags)
      }),
      { numRuns: 20 },
    )
  })
})

/** Opcode extension in FE/FF or F6/F7, and what the instruction does to the operand. */
const UNARY: readonly {
  readonly name: string
  readonly opcode: number
  readonly extension: number
  readonly reference: (a: bigint, bits: number, flags: number) => { result: bigint; flags: number }
}[] = [
  {
    name: 'inc',
    opcode: 0xfe,
    extension: 0,
    reference: (a, bits, flags) => keepCarry(reckon(1n, a, 1n, 0n, bits), flags),
  },
  {
    name: 'dec',
    opcode: 0xfe,
    extension: 1,
    reference: (a, bits, flags) => keepCarry(reckon(-1n, a, 1n, 0n, bits), flags),
  },
  {
    name: 'not',
    opcode: 0xf6,
    extension: 2,
    reference: (a, bits, flags) => ({ result: BigInt.asUintN(bits, ~a), flags }),
  },
  { name: 'neg', opcode: 0xf6, extension: 3, reference: (a, bits) => reckon(-1n, 0n, a, 0n, bits) },
]

function keepCarry(
  { result, flags }: { result: bigint; flags: number },
  before: number,
): { result: bigint; flags: number } {
  return { result, flags: (flags & ~FLAGS.CF) | (before & FLAGS.CF) }
}

describe.each(UNARY)('$name', ({ opcode, extension, reference }) => {
  test.each(SIZES)('of %i bits', (bits) => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(word, fc.constantFrom(0, FLAGS.CF, ALL_FLAGS), (value, before) => {
        const { result, flags } = reference(BigInt.asUintN(bits, value), bits, before)
        const code = opcode + (bits === 8 ? 0 : 1)
        cpu.general64[Gpr.RAX] = value
        cpu.rflags = before
        execute(target, ...sizePrefix(bits), code, 0xc0 + extension * 8)
        expect(cpu.general64[Gpr.RAX]).toBe(merged(value, result, bits))
        expect(cpu.statusFlags).toBe(flags)
        machine.memory.write64(DATA_PHYSICAL, value)
        cpu.general64[Gpr.RDI] = DATA
        cpu.rflags = before
        execute(target, ...sizePrefix(bits), code, 0x07 + extension * 8)
        expect(machine.memory.read64(DATA_PHYSICAL)).toBe(
          value - BigInt.asUintN(bits, value) + result,
        )
        expect(cpu.statusFlags).toBe(flags)
      }),
      { numRuns: 40 },
    )
  })
})

test('AH, CH, DH and BH are bits 15 to 8', () => {
  const { cpu } = target
  cpu.general64[Gpr.RAX] = 0x1111_1111_1111_f011n
  cpu.general64[Gpr.RBX] = 0x2222_2222_2222_1122n
  // add ah, bh
  execute(target, 0x00, 0xfc)
  expect(cpu.general64[Gpr.RAX]).toBe(0x1111_1111_1111_0111n)
  expect(cpu.statusFlags & FLAGS.CF).toBe(FLAGS.CF)
  // With a REX prefix the same number is SPL. add spl, dil
  cpu.rsp = 0x7fff_00f0n
  cpu.general64[Gpr.RDI] = 0x20n
  execute(target, 0x40, 0x00, 0xfc)
  expect(cpu.rsp).toBe(0x7fff_0010n)
})

test('TEST sets flags by AND and writes nothing', () => {
  const { cpu } = target
  fc.assert(
    fc.property(word, word, fc.constantFrom(8, 16, 32, 64), (first, second, bits) => {
      cpu.general64[Gpr.RAX] = first
      cpu.general64[Gpr.RCX] = second
      execute(target, ...sizePrefix(bits), bits === 8 ? 0x84 : 0x85, 0xc8)
      const both = BigInt.asUintN(bits, first & second)
      expect(cpu.statusFlags).toBe(flagsOf(both, bits))
      expect(cpu.general64[Gpr.RAX]).toBe(first)
      target.machine.memory.write64(DATA_PHYSICAL, first)
      cpu.general64[Gpr.RDI] = DATA
      // test [rdi], rcx
      execute(target, ...sizePrefix(bits), bits === 8 ? 0x84 : 0x85, 0x0f)
      expect(cpu.statusFlags).toBe(flagsOf(both, bits))
      // test byte [rdi], 0x5a
      execute(target, 0xf6, 0x07, 0x5a)
      expect(cpu.statusFlags).toBe(flagsOf(first & 0x5an, 8))
    }),
  )
})
