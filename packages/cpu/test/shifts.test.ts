import { Gpr } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { type CodeMachine, codeMachine, DATA, DATA_PHYSICAL, execute } from './code-machine.ts'
import { ALL_FLAGS, bit, FLAGS, flagsOf, merged, sizePrefix, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

interface Outcome {
  readonly result: bigint
  /** The flags that the SDM defines for this count. */
  readonly flags: number
  readonly defined: number
}

/** One bit after the other, as the SDM's pseudocode has it. */
function shiftByBit(
  name: string,
  value: bigint,
  count: number,
  bits: number,
  carryBefore: boolean,
): Outcome {
  let result = value
  let carry = carryBefore
  const top = bits - 1
  for (let step = 0; step < count; step++) {
    const leaving = name === 'shl' || name.endsWith('l') ? bit(result, top) : bit(result, 0)
    const before = result
    switch (name) {
      case 'shl':
        result = BigInt.asUintN(bits, result << 1n)
        break
      case 'shr':
        result >>= 1n
        break
      case 'sar':
        result = BigInt.asUintN(bits, BigInt.asIntN(bits, result) >> 1n)
        break
      case 'rol':
        result = BigInt.asUintN(bits, result << 1n) | (leaving ? 1n : 0n)
        break
      case 'ror':
        result = (result >> 1n) | (leaving ? 1n << BigInt(top) : 0n)
        break
      case 'rcl':
        result = BigInt.asUintN(bits, result << 1n) | (carry ? 1n : 0n)
        break
      default:
        result = (before >> 1n) | (carry ? 1n << BigInt(top) : 0n)
    }
    carry = leaving
  }
  const isRotation = name.startsWith('r')
  const overflow =
    name === 'shl' || name === 'rol' || name === 'rcl'
      ? bit(result, top) !== carry
      : name === 'shr'
        ? bit(value, top)
        : name === 'sar'
          ? false
          : bit(result, top) !== bit(result, top - 1)
  const isCarryDefined = isRotation || name === 'sar' || count <= bits
  return {
    result,
    flags:
      (carry ? FLAGS.CF : 0) | (overflow ? FLAGS.OF : 0) | (isRotation ? 0 : flagsOf(result, bits)),
    defined:
      (isCarryDefined ? FLAGS.CF : 0) |
      (count === 1 ? FLAGS.OF : 0) |
      (isRotation ? 0 : FLAGS.ZF | FLAGS.SF | FLAGS.PF),
  }
}

const SHIFTS = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'shl', 'sar'].map((name, extension) => ({
  name,
  extension,
}))

describe.each(SHIFTS)('$name /$extension', ({ name, extension }) => {
  test.each([8, 16, 32, 64])('of %i bits by CL, by an immediate and by 1', (bits) => {
    const { cpu, machine } = target
    const mask = bits === 64 ? 63 : 31
    const size = bits === 8 ? 0 : 1
    const check = (before: number, { result, flags, defined }: Outcome, count: number): void => {
      // A rotation leaves the flags but CF and OF, a count of 0 all.
      const set = count === 0 ? 0 : defined
      const kept =
        count === 0 ? ALL_FLAGS : name.startsWith('r') ? ALL_FLAGS & ~(FLAGS.CF | FLAGS.OF) : 0
      expect(cpu.statusFlags & (set | kept)).toBe((flags & set) | (before & kept))
      expect(cpu.general64[Gpr.RAX]).toBe(result)
    }
    fc.assert(
      fc.property(
        word,
        fc.nat(255),
        fc.constantFrom(0, FLAGS.CF, ALL_FLAGS),
        (value, cl, before) => {
          const count = cl & mask
          const operand = BigInt.asUintN(bits, value)
          const outcome = shiftByBit(name, operand, count, bits, (before & 1) !== 0)
          const expected = { ...outcome, result: merged(value, outcome.result, bits) }
          cpu.general64[Gpr.RAX] = value
          cpu.general64[Gpr.RCX] = BigInt(cl)
          cpu.rflags = before
          execute(target, ...sizePrefix(bits), 0xd2 + size, 0xc0 + extension * 8)
          check(before, expected, count)
          cpu.general64[Gpr.RAX] = value
          cpu.rflags = before
          execute(target, ...sizePrefix(bits), 0xc0 + size, 0xc0 + extension * 8, cl)
          check(before, expected, count)
          const once = shiftByBit(name, operand, 1, bits, (before & 1) !== 0)
          cpu.general64[Gpr.RAX] = value
          cpu.rflags = before
          execute(target, ...sizePrefix(bits), 0xd0 + size, 0xc0 + extension * 8)
          check(before, { ...once, result: merged(value, once.result, bits) }, 1)
          machine.memory.write64(DATA_PHYSICAL, value)
          cpu.general64[Gpr.RDI] = DATA
          cpu.rflags = before
          execute(target, ...sizePrefix(bits), 0xd2 + size, 0x07 + extension * 8)
          expect(machine.memory.read64(DATA_PHYSICAL)).toBe(value - operand + outcome.result)
        },
      ),
      { numRuns: 30 },
    )
  })
})

describe.each([
  { name: 'shld', opcode: 0xa4 },
  { name: 'shrd', opcode: 0xac },
])('$name', ({ name, opcode }) => {
  test.each([16, 32, 64])('of %i bits', (bits) => {
    const { cpu } = target
    const mask = bits === 64 ? 63 : 31
    fc.assert(
      fc.property(word, word, fc.nat(255), (first, second, counted) => {
        const count = counted & mask
        // Of 16 bits a larger count is undefined.
        fc.pre(count <= bits)
        const a = BigInt.asUintN(bits, first)
        const b = BigInt.asUintN(bits, second)
        const by = BigInt(count)
        const wide = BigInt(bits)
        const isLeft = name === 'shld'
        const result = BigInt.asUintN(
          bits,
          isLeft ? (a << by) | (b >> (wide - by)) : (a >> by) | (b << (wide - by)),
        )
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RDX] = second
        cpu.rflags = ALL_FLAGS
        execute(target, ...sizePrefix(bits), 0x0f, opcode, 0xd0, counted)
        const byImmediate = cpu.general64[Gpr.RAX]
        const flags = cpu.statusFlags
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RCX] = BigInt(counted)
        cpu.rflags = ALL_FLAGS
        execute(target, ...sizePrefix(bits), 0x0f, opcode + 1, 0xd0)
        expect([cpu.general64[Gpr.RAX], cpu.statusFlags]).toEqual([byImmediate, flags])
        expect(byImmediate).toBe(merged(first, count === 0 ? a : result, bits))
        const carry = count > 0 && bit(a, isLeft ? bits - count : count - 1)
        const defined = FLAGS.CF | FLAGS.ZF | FLAGS.SF | FLAGS.PF | (count === 1 ? FLAGS.OF : 0)
        const overflow = bit(a ^ result, bits - 1)
        const set = flagsOf(result, bits) | (carry ? FLAGS.CF : 0) | (overflow ? FLAGS.OF : 0)
        expect(flags & (count === 0 ? ALL_FLAGS : defined)).toBe(
          count === 0 ? ALL_FLAGS : set & defined,
        )
      }),
    )
  })
})
