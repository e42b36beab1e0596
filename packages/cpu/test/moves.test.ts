import { Gpr, Segment, virt } from '@trapdoor/core'
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
import { ALL_FLAGS, FLAGS, merged, sizePrefix, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

/** The condition with a code, by flags (SDM Vol. 2, table B-10). */
function holds(condition: number, flags: number): boolean {
  const has = (flag: number): boolean => (flags & flag) !== 0
  const base = [
    has(FLAGS.OF),
    has(FLAGS.CF),
    has(FLAGS.ZF),
    has(FLAGS.CF) || has(FLAGS.ZF),
    has(FLAGS.SF),
    has(FLAGS.PF),
    has(FLAGS.SF) !== has(FLAGS.OF),
    has(FLAGS.ZF) || has(FLAGS.SF) !== has(FLAGS.OF),
  ][condition >> 1]!
  return (condition & 1) === 0 ? base : !base
}

const flags = fc
  .array(fc.constantFrom(...Object.values(FLAGS)))
  .map((some) => some.reduce((all, flag) => all | flag, 0))

test.each([8, 16, 32, 64])('MOV of %i bits between registers, memory and immediates', (bits) => {
  const { cpu, machine } = target
  const size = bits === 8 ? 0 : 1
  fc.assert(
    fc.property(word, word, (first, second) => {
      cpu.general64[Gpr.RAX] = first
      cpu.general64[Gpr.RCX] = second
      cpu.general64[Gpr.RDI] = DATA
      execute(target, ...sizePrefix(bits), 0x88 + size, 0xc8)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(first, second, bits))
      machine.memory.write64(DATA_PHYSICAL, first)
      execute(target, ...sizePrefix(bits), 0x88 + size, 0x0f)
      const stored = first - BigInt.asUintN(bits, first) + BigInt.asUintN(bits, second)
      expect(machine.memory.read64(DATA_PHYSICAL)).toBe(stored)
      cpu.general64[Gpr.RAX] = first
      machine.memory.write64(DATA_PHYSICAL, second)
      execute(target, ...sizePrefix(bits), 0x8a + size, 0x07)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(first, second, bits))
      const immediate = [0x12, 0x34, 0x56, 0x87].slice(0, Math.min(bits / 8, 4))
      const value = BigInt.asIntN(Math.min(bits, 32), 0x8756_3412n)
      execute(target, ...sizePrefix(bits), 0xc6 + size, 0xc0, ...immediate)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(merged(first, second, bits), value, bits))
      machine.memory.write64(DATA_PHYSICAL, first)
      execute(target, ...sizePrefix(bits), 0xc6 + size, 0x07, ...immediate)
      expect(machine.memory.read64(DATA_PHYSICAL)).toBe(
        first - BigInt.asUintN(bits, first) + BigInt.asUintN(bits, value),
      )
    }),
    { numRuns: 20 },
  )
})

test('MOV of a 64-bit immediate, and with an absolute 64-bit address', () => {
  const { cpu } = target
  execute(target, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x88)
  expect(cpu.general64[Gpr.RAX]).toBe(0x8807_0605_0403_0201n)
  cpu.write64(DATA, 0x1234n)
  execute(target, 0x48, 0xa1, 0, 0, 0x50, 0, 0, 0, 0, 0)
  expect(cpu.general64[Gpr.RAX]).toBe(0x1234n)
})

describe('addresses', () => {
  /** lea rax, … */
  test.each<[string, number[], bigint]>([
    ['[rcx]', [0x48, 0x8d, 0x01], 0x1111_0000_0000n],
    ['[rcx - 1]', [0x48, 0x8d, 0x41, 0xff], 0x1110_ffff_ffffn],
    ['[rcx + 0x7fffffff]', [0x48, 0x8d, 0x81, 0xff, 0xff, 0xff, 0x7f], 0x1111_7fff_ffffn],
    ['[rcx + rdx * 8]', [0x48, 0x8d, 0x04, 0xd1], 0x1111_0000_0000n + 0x8_c000_0000n * 8n],
    ['[rcx + rdx * 1 + 1]', [0x48, 0x8d, 0x44, 0x11, 1], 0x1111_0000_0001n + 0x8_c000_0000n],
    ['[rdx * 4 + 16]', [0x48, 0x8d, 0x04, 0x95, 16, 0, 0, 0], 0x8_c000_0000n * 4n + 16n],
    ['[rbx] of -16', [0x48, 0x8d, 0x03], 0xffff_ffff_ffff_fff0n],
    ['[rbx + 0x20], over the top', [0x48, 0x8d, 0x43, 0x20], 0x10n],
    ['[0x12345678]', [0x48, 0x8d, 0x04, 0x25, 0x78, 0x56, 0x34, 0x12], 0x1234_5678n],
    ['[-16]', [0x48, 0x8d, 0x04, 0x25, 0xf0, 0xff, 0xff, 0xff], 0xffff_ffff_ffff_fff0n],
    ['[rip - 16]', [0x48, 0x8d, 0x05, 0xf0, 0xff, 0xff, 0xff], CODE + 7n - 16n],
    ['[ecx + edx]', [0x67, 0x48, 0x8d, 0x04, 0x11], 0xc000_0000n],
    ['[ebx + 0x20]', [0x67, 0x48, 0x8d, 0x43, 0x20], 0x10n],
    ['eax of [rbx]', [0x8d, 0x03], 0xffff_fff0n],
    ['ax of [rbx]', [0x66, 0x8d, 0x03], 0x5555_5555_5555_fff0n],
  ])('%s', (_name, code, expected) => {
    const { cpu } = target
    cpu.general64[Gpr.RAX] = 0x5555_5555_5555_5555n
    cpu.general64[Gpr.RCX] = 0x1111_0000_0000n
    cpu.general64[Gpr.RDX] = 0x8_c000_0000n
    cpu.general64[Gpr.RBX] = 0xffff_ffff_ffff_fff0n
    execute(target, ...code)
    expect(cpu.general64[Gpr.RAX]).toBe(expected)
  })

  test('of FS and GS begin at their bases, which LEA does not add', () => {
    const { cpu } = target
    const base = { ...cpu.segments[Segment.GS]!, base: DATA - 0x1000n }
    cpu.loadSegment(Segment.GS, base)
    cpu.write64(DATA + 8n, 77n)
    cpu.general64[Gpr.RCX] = 0x1000n
    // mov rax, gs:[rcx + 8]; lea rdx, gs:[rcx + 8]
    execute(target, 0x65, 0x48, 0x8b, 0x41, 8)
    expect(cpu.general64[Gpr.RAX]).toBe(77n)
    execute(target, 0x65, 0x48, 0x8d, 0x51, 8)
    expect(cpu.general64[Gpr.RDX]).toBe(0x1008n)
  })
})

test('MOVZX, MOVSX and MOVSXD widen', () => {
  const { cpu, machine } = target
  cpu.general64[Gpr.RDI] = DATA
  machine.memory.write64(DATA_PHYSICAL, 0x8182_8384_8586_8788n)
  const cases: readonly [number[], bigint][] = [
    [[0x0f, 0xb6, 0x07], 0x88n],
    [[0x48, 0x0f, 0xb7, 0x07], 0x8788n],
    [[0x66, 0x0f, 0xb6, 0x07], 0xffff_ffff_ffff_0088n],
    [[0x0f, 0xbe, 0x07], 0xffff_ff88n],
    [[0x48, 0x0f, 0xbe, 0x07], 0xffff_ffff_ffff_ff88n],
    [[0x48, 0x0f, 0xbf, 0x07], 0xffff_ffff_ffff_8788n],
    [[0x66, 0x0f, 0xbe, 0x07], 0xffff_ffff_ffff_ff88n],
    [[0x48, 0x63, 0x07], 0xffff_ffff_8586_8788n],
  ]
  for (const [code, expected] of cases) {
    cpu.general64[Gpr.RAX] = 2n ** 64n - 1n
    execute(target, ...code)
    expect(cpu.general64[Gpr.RAX]).toBe(expected)
  }
  cpu.general64[Gpr.RCX] = 0x1234_5678_9abc_82def0n & (2n ** 64n - 1n)
  // movsx eax, ch
  execute(target, 0x0f, 0xbe, 0xc5)
  expect(cpu.general64[Gpr.RAX]).toBe(0xffff_ffden)
  // movzx ebx, ch
  execute(target, 0x0f, 0xb6, 0xdd)
  expect(cpu.general64[Gpr.RBX]).toBe(0xden)
})

test('XCHG swaps registers, and a register with memory', () => {
  const { cpu, machine } = target
  fc.assert(
    fc.property(word, word, fc.constantFrom(8, 16, 32, 64), (first, second, bits) => {
      const size = bits === 8 ? 0 : 1
      cpu.general64[Gpr.RCX] = first
      cpu.general64[Gpr.RDX] = second
      cpu.general64[Gpr.RDI] = DATA
      execute(target, ...sizePrefix(bits), 0x86 + size, 0xd1)
      expect(cpu.general64[Gpr.RCX]).toBe(merged(first, second, bits))
      expect(cpu.general64[Gpr.RDX]).toBe(merged(second, first, bits))
      cpu.general64[Gpr.RCX] = first
      machine.memory.write64(DATA_PHYSICAL, second)
      execute(target, ...sizePrefix(bits), 0x86 + size, 0x0f)
      expect(cpu.general64[Gpr.RCX]).toBe(merged(first, second, bits))
      expect(machine.memory.read64(DATA_PHYSICAL)).toBe(
        second - BigInt.asUintN(bits, second) + BigInt.asUintN(bits, first),
      )
    }),
    { numRuns: 40 },
  )
  cpu.general64[Gpr.RAX] = 0x1122n
  // xchg al, ah
  execute(target, 0x86, 0xe0)
  expect(cpu.general64[Gpr.RAX]).toBe(0x2211n)
})

test('SETcc, CMOVcc and Jcc ask the sixteen conditions', () => {
  const { cpu } = target
  fc.assert(
    fc.property(fc.nat(15), flags, word, word, (condition, set, first, second) => {
      const isTrue = holds(condition, set)
      cpu.general64[Gpr.RAX] = first
      cpu.general64[Gpr.RCX] = second
      cpu.rflags = set
      execute(target, 0x0f, 0x90 | condition, 0xc0)
      expect(cpu.general64[Gpr.RAX]).toBe(merged(first, isTrue ? 1n : 0n, 8))
      for (const bits of [16, 32, 64]) {
        cpu.general64[Gpr.RAX] = first
        execute(target, ...sizePrefix(bits), 0x0f, 0x40 | condition, 0xc1)
        // A move that is not done clears the upper half all the same.
        expect(cpu.general64[Gpr.RAX]).toBe(merged(first, isTrue ? second : first, bits))
      }
      execute(target, 0x70 | condition, 0x10)
      expect(cpu.rip).toBe(CODE + (isTrue ? 0x12n : 2n))
      execute(target, 0x0f, 0x80 | condition, 0xf0, 0xff, 0xff, 0xff)
      expect(cpu.rip).toBe(CODE + (isTrue ? -10n : 6n))
      expect(cpu.statusFlags).toBe(set)
    }),
    { numRuns: 200 },
  )
})

test('CMOVcc reads memory whatever the condition', () => {
  const { cpu } = target
  cpu.general64[Gpr.RDI] = 0x90_0000n
  cpu.rflags = 0
  // cmovz rax, [rdi]
  expect(() => execute(target, 0x48, 0x0f, 0x44, 0x07)).toThrow(
    expect.objectContaining({ address: 0x90_0000n }),
  )
})

test('BSWAP and MOVBE turn bytes around', () => {
  const { cpu, machine } = target
  cpu.general64[Gpr.RAX] = 0x1122_3344_5566_7788n
  execute(target, 0x48, 0x0f, 0xc8)
  expect(cpu.general64[Gpr.RAX]).toBe(0x8877_6655_4433_2211n)
  execute(target, 0x0f, 0xc8)
  expect(cpu.general64[Gpr.RAX]).toBe(0x1122_3344n)
  cpu.general64[Gpr.RDI] = DATA
  for (const [bits, expected] of [
    [16, 0x4433_0000_0000_0000n],
    [32, 0x4433_2211_0000_0000n],
    [64, 0x4433_2211_0000_0000n],
  ] as const) {
    machine.memory.write64(DATA_PHYSICAL, 0n)
    // movbe [rdi], rax; movbe rcx, [rdi]
    execute(target, ...sizePrefix(bits), 0x0f, 0x38, 0xf1, 0x07)
    expect(machine.memory.read64(DATA_PHYSICAL) >> BigInt(0)).toBe(
      bits === 64 ? expected : expected >> BigInt(bits === 16 ? 48 : 32),
    )
    cpu.general64[Gpr.RCX] = 0n
    execute(target, ...sizePrefix(bits), 0x0f, 0x38, 0xf0, 0x0f)
    expect(cpu.general64[Gpr.RCX]).toBe(BigInt.asUintN(bits, 0x1122_3344n))
  }
})

test('XLAT looks AL up in the table at RBX, of which FS may be the beginning', () => {
  const { cpu, machine } = target
  machine.memory.write8(DATA_PHYSICAL + 0x1f0, 0x77)
  cpu.general64[Gpr.RBX] = DATA + 0x100n
  cpu.general64[Gpr.RAX] = 0x1234_5678_9abc_def0n
  execute(target, 0xd7)
  expect(cpu.general64[Gpr.RAX]).toBe(0x1234_5678_9abc_de77n)
  cpu.loadSegment(Segment.FS, { ...cpu.segments[Segment.FS]!, base: DATA })
  cpu.general64[Gpr.RBX] = 0x100n
  cpu.general64[Gpr.RAX] = 0xf0n
  execute(target, 0x64, 0xd7)
  expect(cpu.general64[Gpr.RAX]).toBe(0x77n)
})

test('the accumulator widens into itself and into RDX', () => {
  const { cpu } = target
  const begin = 0x1234_5678_8765_8081n
  const cases: readonly [number[], number, bigint][] = [
    [[0x66, 0x98], Gpr.RAX, 0x1234_5678_8765_ff81n],
    [[0x98], Gpr.RAX, 0xffff_8081n],
    [[0x48, 0x98], Gpr.RAX, 0xffff_ffff_8765_8081n],
    [[0x66, 0x99], Gpr.RDX, 0x5555_5555_5555_ffffn],
    [[0x99], Gpr.RDX, 0xffff_ffffn],
    [[0x48, 0x99], Gpr.RDX, 0n],
  ]
  for (const [code, register, expected] of cases) {
    cpu.general64[Gpr.RAX] = begin
    cpu.general64[Gpr.RDX] = 0x5555_5555_5555_5555n
    execute(target, ...code)
    expect(cpu.general64[register]).toBe(expected)
  }
})

test('what a store needs is checked before anything is changed', () => {
  const { cpu, tables } = target
  tables.changeRange(virt(DATA), 4096, (low, high) => [low & ~2, high])
  cpu.general64[Gpr.RDI] = DATA
  cpu.general64[Gpr.RAX] = 5n
  cpu.rflags = ALL_FLAGS
  for (const code of [
    [0x48, 0x87, 0x07], // xchg [rdi], rax
    [0x48, 0x01, 0x07], // add [rdi], rax
    [0xff, 0x07], // inc dword [rdi]
    [0xd0, 0x27], // shl byte [rdi], 1
    [0xf0, 0x48, 0x0f, 0xc1, 0x07], // lock xadd [rdi], rax
    [0x0f, 0x94, 0x07], // setz [rdi]
  ]) {
    expect(() => execute(target, ...code)).toThrow(
      expect.objectContaining({ errorCode: 3, access: 'write' }),
    )
    expect([cpu.general64[Gpr.RAX], cpu.statusFlags, cpu.rip]).toEqual([5n, ALL_FLAGS, CODE])
  }
})
