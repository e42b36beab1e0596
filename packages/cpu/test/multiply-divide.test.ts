import { DivideError, Gpr } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  CODE,
  type CodeMachine,
  codeMachine,
  DATA,
  DATA_PHYSICAL,
  execute,
} from './code-machine.ts'
import { FLAGS, merged, sizePrefix, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

/** The accumulator and its extension as they are for an operand size: AX; DX:AX; EDX:EAX; RDX:RAX. */
function double(bits: number): bigint {
  const { general64 } = target.cpu
  const low = BigInt.asUintN(bits, general64[Gpr.RAX]!)
  if (bits === 8) return BigInt.asUintN(16, general64[Gpr.RAX]!)
  return (BigInt.asUintN(bits, general64[Gpr.RDX]!) << BigInt(bits)) | low
}

const unsigned = (bits: number, value: bigint): bigint => BigInt.asUintN(bits, value)
const signed = (bits: number, value: bigint): bigint => BigInt.asIntN(bits, value)

const CARRY_AND_OVERFLOW = FLAGS.CF | FLAGS.OF

/** Whether code raises #DE. */
function isDivideError(code: readonly number[]): boolean {
  try {
    execute(target, ...code)
    return false
  } catch (error) {
    if (error instanceof DivideError) return true
    throw error
  }
}

describe.each([8, 16, 32, 64])('of %i bits', (bits) => {
  const size = bits === 8 ? 0 : 1

  test.each([
    { name: 'MUL', extension: 4, read: unsigned },
    { name: 'IMUL', extension: 5, read: signed },
  ])('$name leaves the whole product', ({ extension, read }) => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(word, word, (first, second) => {
        const product = read(bits, first) * read(bits, second)
        const isLarge = read(bits, product) !== product
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RDX] = first
        cpu.general64[Gpr.RCX] = second
        execute(target, ...sizePrefix(bits), 0xf6 + size, 0xc1 + extension * 8)
        expect(double(bits)).toBe(BigInt.asUintN(bits * 2, product))
        expect(cpu.statusFlags & CARRY_AND_OVERFLOW).toBe(isLarge ? CARRY_AND_OVERFLOW : 0)
        const isByte = bits === 8
        const high = isByte ? first : merged(first, product >> BigInt(bits), bits)
        expect(cpu.general64[Gpr.RDX]).toBe(high)
        expect(cpu.general64[Gpr.RAX]).toBe(merged(first, product, isByte ? 16 : bits))
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RDI] = DATA
        machine.memory.write64(DATA_PHYSICAL, second)
        execute(target, ...sizePrefix(bits), 0xf6 + size, 0x07 + extension * 8)
        expect(double(bits)).toBe(BigInt.asUintN(bits * 2, product))
      }),
      { numRuns: 50 },
    )
  })

  test.each([
    { name: 'DIV', extension: 6, read: unsigned },
    { name: 'IDIV', extension: 7, read: signed },
  ])('$name leaves quotient and remainder, or is #DE', ({ extension, read }) => {
    const { cpu } = target
    let refused = 0
    fc.assert(
      fc.property(word, word, word, fc.boolean(), (low, high, divisor, isFitting) => {
        // Most random dividends are too large for their divisors.
        const upper = isFitting ? (read === signed && low >> 63n === 1n ? -1n : 0n) : high
        cpu.general64[Gpr.RAX] = bits === 8 && isFitting ? low & 0xffn : low
        cpu.general64[Gpr.RDX] = BigInt.asUintN(64, upper)
        cpu.general64[Gpr.RCX] = divisor
        const [rax, rdx] = [cpu.general64[Gpr.RAX], cpu.general64[Gpr.RDX]]
        const dividend = read(bits * 2, double(bits))
        const by = read(bits, divisor)
        const quotient = by === 0n ? 0n : dividend / by
        const code = [...sizePrefix(bits), 0xf6 + size, 0xc1 + extension * 8]
        const isRefused = by === 0n || read(bits, quotient) !== quotient
        if (isRefused) refused++
        expect(isDivideError(code)).toBe(isRefused)
        const remainder = by === 0n ? 0n : dividend % by
        const both = (BigInt.asUintN(8, remainder) << 8n) | BigInt.asUintN(8, quotient)
        const results =
          bits === 8
            ? [merged(rax!, both, 16), rdx]
            : [merged(rax!, quotient, bits), merged(rdx!, remainder, bits)]
        expect([cpu.general64[Gpr.RAX], cpu.general64[Gpr.RDX]]).toEqual(
          isRefused ? [rax, rdx] : results,
        )
        expect(cpu.rip === CODE).toBe(isRefused)
      }),
      { numRuns: 120 },
    )
    expect(refused).toBeGreaterThan(0)
  })
})

test('the smallest number divided by -1 is #DE', () => {
  const { cpu } = target
  cpu.general64[Gpr.RAX] = 0x8000_0000n
  cpu.general64[Gpr.RDX] = 0xffff_ffffn
  cpu.general64[Gpr.RCX] = 0xffff_ffffn
  expect(() => execute(target, 0xf7, 0xf9)).toThrow(DivideError)
})

test.each([16, 32, 64])('IMUL with two and three operands of %i bits', (bits) => {
  const { cpu, machine } = target
  fc.assert(
    fc.property(word, word, (first, second) => {
      const product = BigInt.asIntN(bits, first) * BigInt.asIntN(bits, second)
      const isLarge = BigInt.asIntN(bits, product) !== product
      cpu.general64[Gpr.RAX] = first
      cpu.general64[Gpr.RCX] = second
      // imul rax, rcx
      execute(target, ...sizePrefix(bits), 0x0f, 0xaf, 0xc1)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(first, product, bits))
      expect(cpu.statusFlags & CARRY_AND_OVERFLOW).toBe(isLarge ? CARRY_AND_OVERFLOW : 0)
      // imul rdx, [rdi], imm8
      machine.memory.write64(DATA_PHYSICAL, first)
      cpu.general64[Gpr.RDI] = DATA
      cpu.general64[Gpr.RDX] = second
      execute(target, ...sizePrefix(bits), 0x6b, 0x17, Number(second & 0xffn))
      const small = BigInt.asIntN(bits, first) * BigInt.asIntN(8, second)
      expect(cpu.general64[Gpr.RDX]).toBe(merged(second, small, bits))
      // imul rax, rcx; test eax, eax: nobody looks at the flags of the first.
      cpu.general64[Gpr.RAX] = first
      execute(target, ...sizePrefix(bits), 0x0f, 0xaf, 0xc1, 0x85, 0xc0)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(first, product, bits))
    }),
  )
})

test('MULX leaves flags, and the high half where both targets are one register', () => {
  const { cpu } = target
  fc.assert(
    fc.property(word, word, (first, second) => {
      cpu.general64[Gpr.RDX] = first
      cpu.general64[Gpr.RCX] = second
      cpu.rflags = FLAGS.CF
      // mulx rax, rbx, rcx
      execute(target, 0xc4, 0xe2, 0xe3, 0xf6, 0xc1)
      const product = first * second
      expect(cpu.general64[Gpr.RAX]).toBe(product >> 64n)
      expect(cpu.general64[Gpr.RBX]).toBe(BigInt.asUintN(64, product))
      expect(cpu.statusFlags).toBe(FLAGS.CF)
      // mulx eax, eax, ecx
      execute(target, 0xc4, 0xe2, 0x7b, 0xf6, 0xc1)
      const small = BigInt.asUintN(32, first) * BigInt.asUintN(32, second)
      expect(cpu.general64[Gpr.RAX]).toBe(small >> 32n)
    }),
  )
})
