import { GeneralProtection, Gpr } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { type CodeMachine, codeMachine, DATA, DATA_PHYSICAL, execute } from './code-machine.ts'
import { ALL_FLAGS, bit, FLAGS, merged, sizePrefix, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

describe.each([
  { name: 'BT', opcode: 0xa3, extension: 4, change: (value: bigint) => value },
  {
    name: 'BTS',
    opcode: 0xab,
    extension: 5,
    change: (value: bigint, mask: bigint) => value | mask,
  },
  {
    name: 'BTR',
    opcode: 0xb3,
    extension: 6,
    change: (value: bigint, mask: bigint) => value & ~mask,
  },
  {
    name: 'BTC',
    opcode: 0xbb,
    extension: 7,
    change: (value: bigint, mask: bigint) => value ^ mask,
  },
])('$name', ({ name, opcode, extension, change }) => {
  test.each([16, 32, 64])('of %i bits in a register', (bits) => {
    const { cpu } = target
    fc.assert(
      fc.property(word, word, (value, index) => {
        const at = Number(index & BigInt(bits - 1))
        const result = change(value, 1n << BigInt(at))
        const expected = name === 'BT' ? value : merged(value, result, bits)
        cpu.general64[Gpr.RAX] = value
        cpu.general64[Gpr.RCX] = index
        cpu.rflags = ALL_FLAGS
        execute(target, ...sizePrefix(bits), 0x0f, opcode, 0xc8)
        expect(cpu.general64[Gpr.RAX]).toBe(expected)
        expect(cpu.statusFlags & FLAGS.CF).toBe(bit(value, at) ? 1 : 0)
        expect(cpu.statusFlags & FLAGS.ZF).toBe(FLAGS.ZF)
        cpu.general64[Gpr.RAX] = value
        execute(
          target,
          ...sizePrefix(bits),
          0x0f,
          0xba,
          0xc0 + extension * 8,
          Number(index & 0xffn),
        )
        expect(cpu.general64[Gpr.RAX]).toBe(expected)
      }),
      { numRuns: 40 },
    )
  })

  test.each([16, 32, 64])('of %i bits reaches far in memory, both ways', (bits) => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(fc.integer({ min: -8000, max: 8000 }), word, (index, pattern) => {
        const middle = DATA_PHYSICAL + 0x2000
        const byte = middle + Math.floor(index / 8)
        const at = index & 7
        machine.memory.write8(byte, Number(pattern & 0xffn))
        const before = machine.memory.read8(byte)
        cpu.general64[Gpr.RDI] = DATA + 0x2000n
        cpu.general64[Gpr.RCX] = merged(pattern, BigInt(index), bits)
        execute(target, ...sizePrefix(bits), 0x0f, opcode, 0x0f)
        expect(cpu.statusFlags & FLAGS.CF).toBe((before >> at) & 1)
        const expected = Number(change(BigInt(before), 1n << BigInt(at)) & 0xffn)
        expect(machine.memory.read8(byte)).toBe(expected)
      }),
      { numRuns: 40 },
    )
  })
})

test.each([16, 32, 64])('bits of %i are counted and found', (bits) => {
  const { cpu } = target
  fc.assert(
    fc.property(
      fc.oneof(
        word,
        fc.nat(63).map((at) => 1n << BigInt(at)),
      ),
      word,
      (value, before) => {
        const operand = BigInt.asUintN(bits, value)
        const digits = operand.toString(2).padStart(bits, '0')
        const run = (...code: readonly number[]): { result: bigint; flags: number } => {
          cpu.general64[Gpr.RAX] = before
          cpu.general64[Gpr.RCX] = value
          const prefixes = code[0] === 0xf3 ? [0xf3] : []
          const rest = code.slice(prefixes.length)
          const size = sizePrefix(bits)
          // A mandatory prefix goes before REX, and beside 66.
          execute(
            target,
            ...(bits === 16 ? size : []),
            ...prefixes,
            ...(bits === 64 ? size : []),
            ...rest,
          )
          return { result: cpu.general64[Gpr.RAX]!, flags: cpu.statusFlags }
        }
        const isZero = operand === 0n
        const trailing = isZero ? bits : digits.length - 1 - digits.lastIndexOf('1')
        const leading = isZero ? bits : digits.indexOf('1')
        const bsf = run(0x0f, 0xbc, 0xc1)
        expect(bsf.result).toBe(isZero ? before : merged(before, BigInt(trailing), bits))
        expect(bsf.flags & FLAGS.ZF).toBe(isZero ? FLAGS.ZF : 0)
        const bsr = run(0x0f, 0xbd, 0xc1)
        expect(bsr.result).toBe(isZero ? before : merged(before, BigInt(bits - 1 - leading), bits))
        const tzcnt = run(0xf3, 0x0f, 0xbc, 0xc1)
        expect(tzcnt.result).toBe(merged(before, BigInt(trailing), bits))
        expect(tzcnt.flags & (FLAGS.CF | FLAGS.ZF)).toBe(
          (isZero ? FLAGS.CF : 0) | (trailing === 0 ? FLAGS.ZF : 0),
        )
        const lzcnt = run(0xf3, 0x0f, 0xbd, 0xc1)
        expect(lzcnt.result).toBe(merged(before, BigInt(leading), bits))
        const popcnt = run(0xf3, 0x0f, 0xb8, 0xc1)
        const ones = digits.replaceAll('0', '').length
        expect(popcnt.result).toBe(merged(before, BigInt(ones), bits))
        expect(popcnt.flags).toBe(isZero ? FLAGS.ZF : 0)
      },
    ),
    { numRuns: 60 },
  )
})

test('CRC32 accumulates with the Castagnoli polynomial', () => {
  const { cpu, machine } = target
  // RFC 3720, B.4: 32 bytes of zeros, and the numbers from 0 to 31.
  const check = (bytes: Uint8Array, size: 1 | 4 | 8): bigint => {
    machine.memory.write(DATA_PHYSICAL, bytes)
    cpu.general64[Gpr.RAX] = 0xffff_ffffn
    for (let at = 0; at < bytes.length; at += size) {
      cpu.general64[Gpr.RDI] = DATA + BigInt(at)
      execute(
        target,
        0xf2,
        ...(size === 8 ? [0x48] : []),
        0x0f,
        0x38,
        size === 1 ? 0xf0 : 0xf1,
        0x07,
      )
    }
    return cpu.general64[Gpr.RAX]! ^ 0xffff_ffffn
  }
  for (const size of [1, 4, 8] as const) {
    expect(check(new Uint8Array(32), size)).toBe(0x8a91_36aan)
    expect(
      check(
        Uint8Array.from({ length: 32 }, (_, index) => index),
        size,
      ),
    ).toBe(0x46dd_794en)
  }
})

/** BMI1 and BMI2 by their SDM pseudocode; `a` is in RCX, `b` in RDX. */
const MANIPULATIONS: readonly {
  readonly name: string
  /** VEX bytes after C4, without W; opcode and ModRM for RAX. */
  readonly code: readonly number[]
  readonly reference: (a: bigint, b: bigint, bits: number) => bigint
  readonly carry?: (a: bigint, b: bigint, bits: number) => boolean
}[] = [
  { name: 'ANDN', code: [0xe2, 0x70, 0xf2, 0xc2], reference: (a, b) => ~a & b },
  {
    name: 'BEXTR',
    code: [0xe2, 0x68, 0xf7, 0xc1],
    reference: (a, b) => BigInt.asUintN(Number((b >> 8n) & 0xffn), a >> (b & 0xffn)),
  },
  {
    name: 'BLSI',
    code: [0xe2, 0x78, 0xf3, 0xd9],
    reference: (a) => a & -a,
    carry: (a) => a !== 0n,
  },
  {
    name: 'BLSMSK',
    code: [0xe2, 0x78, 0xf3, 0xd1],
    reference: (a) => a ^ (a - 1n),
    carry: (a) => a === 0n,
  },
  {
    name: 'BLSR',
    code: [0xe2, 0x78, 0xf3, 0xc9],
    reference: (a) => a & (a - 1n),
    carry: (a) => a === 0n,
  },
  {
    name: 'BZHI',
    code: [0xe2, 0x68, 0xf5, 0xc1],
    reference: (a, b, bits) => BigInt.asUintN(Math.min(Number(b & 0xffn), bits), a),
    carry: (_a, b, bits) => Number(b & 0xffn) >= bits,
  },
  { name: 'PDEP', code: [0xe2, 0x73, 0xf5, 0xc2], reference: deposit },
  { name: 'PEXT', code: [0xe2, 0x72, 0xf5, 0xc2], reference: extract },
  {
    name: 'SARX',
    code: [0xe2, 0x6a, 0xf7, 0xc1],
    reference: (a, b, bits) => BigInt.asIntN(bits, a) >> count(b, bits),
  },
  { name: 'SHLX', code: [0xe2, 0x69, 0xf7, 0xc1], reference: (a, b, bits) => a << count(b, bits) },
  { name: 'SHRX', code: [0xe2, 0x6b, 0xf7, 0xc1], reference: (a, b, bits) => a >> count(b, bits) },
]

function count(value: bigint, bits: number): bigint {
  return value & BigInt(bits - 1)
}

/** Digits of a number with the lowest first. */
function digitsUpwards(value: bigint, bits: number): string[] {
  return value.toString(2).padStart(bits, '0').split('').toReversed()
}

function deposit(value: bigint, mask: bigint, bits: number): bigint {
  const source = digitsUpwards(value, bits)
  const placed = digitsUpwards(mask, bits).map((digit) => (digit === '1' ? source.shift()! : '0'))
  return BigInt(`0b${placed.toReversed().join('')}`)
}

function extract(value: bigint, mask: bigint, bits: number): bigint {
  const chosen = digitsUpwards(mask, bits)
  const kept = digitsUpwards(value, bits).filter((_digit, index) => chosen[index] === '1')
  return BigInt(`0b0${kept.toReversed().join('')}`)
}

test.each(MANIPULATIONS)('$name', ({ name, code, reference, carry }) => {
  const { cpu } = target
  fc.assert(
    fc.property(word, word, fc.constantFrom(32, 64), (first, second, bits) => {
      const a = BigInt.asUintN(bits, first)
      const b = BigInt.asUintN(bits, second)
      cpu.general64[Gpr.RCX] = first
      cpu.general64[Gpr.RDX] = second
      cpu.rflags = ALL_FLAGS
      const [map, vex, opcode, modrm] = code
      execute(target, 0xc4, map!, vex! | (bits === 64 ? 0x80 : 0), opcode!, modrm!)
      const result = BigInt.asUintN(bits, reference(a, b, bits))
      expect(cpu.general64[Gpr.RAX]).toBe(result)
      const leavesFlags = ['PDEP', 'PEXT', 'SARX', 'SHLX', 'SHRX'].includes(name)
      const defined = leavesFlags ? ALL_FLAGS : FLAGS.CF | FLAGS.OF | FLAGS.ZF
      const set = (result === 0n ? FLAGS.ZF : 0) | (carry?.(a, b, bits) === true ? FLAGS.CF : 0)
      expect(cpu.statusFlags & defined).toBe(leavesFlags ? ALL_FLAGS : set)
    }),
  )
})

test('RORX turns by an immediate and leaves flags', () => {
  const { cpu } = target
  cpu.general64[Gpr.RCX] = 0x1122_3344_5566_7788n
  cpu.rflags = ALL_FLAGS
  execute(target, 0xc4, 0xe3, 0xfb, 0xf0, 0xc1, 8)
  expect(cpu.general64[Gpr.RAX]).toBe(0x8811_2233_4455_6677n)
  execute(target, 0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 0)
  expect(cpu.general64[Gpr.RAX]).toBe(0x5566_7788n)
  expect(cpu.statusFlags).toBe(ALL_FLAGS)
})

test('ADCX and ADOX carry through CF and through OF', () => {
  const { cpu } = target
  fc.assert(
    fc.property(word, word, fc.constantFrom(0, FLAGS.CF, FLAGS.OF, ALL_FLAGS), (a, b, before) => {
      for (const [prefix, flag] of [
        [0x66, FLAGS.CF],
        [0xf3, FLAGS.OF],
      ] as const) {
        cpu.general64[Gpr.RAX] = a
        cpu.general64[Gpr.RCX] = b
        cpu.rflags = before
        execute(target, prefix, 0x48, 0x0f, 0x38, 0xf6, 0xc1)
        const sum = a + b + ((before & flag) === 0 ? 0n : 1n)
        expect(cpu.general64[Gpr.RAX]).toBe(BigInt.asUintN(64, sum))
        expect(cpu.statusFlags).toBe((before & ~flag) | (sum >> 64n === 0n ? 0 : flag))
      }
    }),
    { numRuns: 40 },
  )
})

describe('atomics', () => {
  test('XADD swaps and adds', () => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(word, word, fc.constantFrom(8, 16, 32, 64), (first, second, bits) => {
        const size = bits === 8 ? 0 : 1
        cpu.general64[Gpr.RDI] = DATA
        cpu.general64[Gpr.RCX] = second
        machine.memory.write64(DATA_PHYSICAL, first)
        // lock xadd [rdi], rcx
        execute(target, 0xf0, ...sizePrefix(bits), 0x0f, 0xc0 + size, 0x0f)
        const sum = BigInt.asUintN(bits, first + second)
        expect(machine.memory.read64(DATA_PHYSICAL)).toBe(first - BigInt.asUintN(bits, first) + sum)
        expect(cpu.general64[Gpr.RCX]).toBe(merged(second, first, bits))
        expect(cpu.statusFlags & FLAGS.ZF).toBe(sum === 0n ? FLAGS.ZF : 0)
        cpu.general64[Gpr.RAX] = first
        cpu.general64[Gpr.RCX] = second
        // xadd rax, rcx
        execute(target, ...sizePrefix(bits), 0x0f, 0xc0 + size, 0xc8)
        expect(cpu.general64[Gpr.RAX]).toBe(merged(first, sum, bits))
        expect(cpu.general64[Gpr.RCX]).toBe(merged(second, first, bits))
      }),
      { numRuns: 40 },
    )
  })

  test('CMPXCHG stores where the accumulator is equal, and loads it where not', () => {
    const { cpu, machine } = target
    fc.assert(
      fc.property(
        word,
        word,
        word,
        fc.boolean(),
        fc.constantFrom(8, 16, 32, 64),
        (held, replacement, other, isEqual, bits) => {
          const size = bits === 8 ? 0 : 1
          const expected = isEqual ? held : other
          const matches = BigInt.asUintN(bits, expected) === BigInt.asUintN(bits, held)
          cpu.general64[Gpr.RDI] = DATA
          cpu.general64[Gpr.RAX] = expected
          cpu.general64[Gpr.RCX] = replacement
          machine.memory.write64(DATA_PHYSICAL, held)
          execute(target, 0xf0, ...sizePrefix(bits), 0x0f, 0xb0 + size, 0x0f)
          const stored = matches ? BigInt.asUintN(bits, replacement) : BigInt.asUintN(bits, held)
          expect(machine.memory.read64(DATA_PHYSICAL)).toBe(
            held - BigInt.asUintN(bits, held) + stored,
          )
          expect(cpu.general64[Gpr.RAX]).toBe(matches ? expected : merged(expected, held, bits))
          expect(cpu.statusFlags & FLAGS.ZF).toBe(matches ? FLAGS.ZF : 0)
          cpu.general64[Gpr.RAX] = expected
          cpu.general64[Gpr.RDX] = held
          // cmpxchg rdx, rcx
          execute(target, ...sizePrefix(bits), 0x0f, 0xb0 + size, 0xca)
          expect(cpu.general64[Gpr.RDX]).toBe(matches ? merged(held, replacement, bits) : held)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('CMPXCHG8B and CMPXCHG16B compare pairs', () => {
    const { cpu, machine } = target
    cpu.general64[Gpr.RDI] = DATA
    machine.memory.write64(DATA_PHYSICAL, 0x1111_1111_2222_2222n)
    machine.memory.write64(DATA_PHYSICAL + 8, 0x3333n)
    const set = (rdx: bigint, rax: bigint, rcx: bigint, rbx: bigint): void => {
      cpu.general64[Gpr.RDX] = rdx
      cpu.general64[Gpr.RAX] = rax
      cpu.general64[Gpr.RCX] = rcx
      cpu.general64[Gpr.RBX] = rbx
    }
    set(0n, 0n, 0n, 0n)
    cpu.rflags = ALL_FLAGS
    execute(target, 0xf0, 0x0f, 0xc7, 0x0f)
    expect([cpu.general64[Gpr.RDX], cpu.general64[Gpr.RAX]]).toEqual([0x1111_1111n, 0x2222_2222n])
    expect(cpu.statusFlags).toBe(ALL_FLAGS & ~FLAGS.ZF)
    set(0xffff_ffff_1111_1111n, 0x2222_2222n, 5n, 6n)
    execute(target, 0x0f, 0xc7, 0x0f)
    expect(machine.memory.read64(DATA_PHYSICAL)).toBe(0x5_0000_0006n)
    expect(cpu.statusFlags & FLAGS.ZF).toBe(FLAGS.ZF)
    set(0x3333n, 0x5_0000_0006n, 7n, 8n)
    execute(target, 0x48, 0x0f, 0xc7, 0x0f)
    expect([0, 8].map((at) => machine.memory.read64(DATA_PHYSICAL + at))).toEqual([8n, 7n])
    execute(target, 0x48, 0x0f, 0xc7, 0x0f)
    expect([cpu.general64[Gpr.RDX], cpu.general64[Gpr.RAX]]).toEqual([7n, 8n])
    cpu.general64[Gpr.RDI] = DATA + 8n
    expect(() => execute(target, 0x48, 0x0f, 0xc7, 0x0f)).toThrow(GeneralProtection)
  })

  test('LOCK before an instruction that cannot have it is #UD', () => {
    // lock mov [rdi], eax; lock add eax, ecx
    for (const code of [
      [0xf0, 0x89, 0x07],
      [0xf0, 0x01, 0xc8],
    ]) {
      expect(() => execute(target, ...code)).toThrow(expect.objectContaining({ mnemonic: '#UD' }))
    }
  })
})
