import { Gpr, PageFault, phys, virt } from '@trapdoor/core'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { CODE, type CodeMachine, codeMachine, DATA, execute, STACK_TOP } from './code-machine.ts'
import { ALL_FLAGS, FLAGS, word } from './whole-numbers.ts'

let target: CodeMachine

beforeEach(() => {
  target = codeMachine()
})

describe('PUSH and POP', () => {
  test('move 64 bits, or 16', () => {
    const { cpu } = target
    fc.assert(
      fc.property(word, (value) => {
        cpu.rsp = STACK_TOP
        cpu.general64[Gpr.R9] = value
        cpu.general64[Gpr.RBX] = 0x5555_5555_5555_5555n
        execute(target, 0x41, 0x51) // push r9
        expect(cpu.rsp).toBe(STACK_TOP - 8n)
        expect(cpu.read64(cpu.rsp)).toBe(value)
        execute(target, 0x5b) // pop rbx
        expect([cpu.general64[Gpr.RBX], cpu.rsp]).toEqual([value, STACK_TOP])
        execute(target, 0x66, 0x53) // push bx
        expect(cpu.rsp).toBe(STACK_TOP - 2n)
        execute(target, 0x66, 0x59) // pop cx
        expect(cpu.general64[Gpr.RCX]! & 0xffffn).toBe(value & 0xffffn)
      }),
      { numRuns: 20 },
    )
  })

  test('of immediates extend the sign', () => {
    const { cpu } = target
    execute(target, 0x6a, 0xf0)
    execute(target, 0x68, 0, 0, 0, 0x80)
    expect([cpu.read64(cpu.rsp + 8n), cpu.read64(cpu.rsp)]).toEqual([
      0xffff_ffff_ffff_fff0n,
      0xffff_ffff_8000_0000n,
    ])
  })

  test('of RSP push what it was, and pop what is read', () => {
    const { cpu } = target
    execute(target, 0x54) // push rsp
    expect(cpu.read64(cpu.rsp)).toBe(STACK_TOP)
    cpu.write64(cpu.rsp, STACK_TOP - 0x100n)
    execute(target, 0x5c) // pop rsp
    expect(cpu.rsp).toBe(STACK_TOP - 0x100n)
  })

  test('of memory make the address with RSP as it is before the push, and after the pop', () => {
    const { cpu } = target
    cpu.rsp = STACK_TOP - 32n
    cpu.write64(cpu.rsp + 8n, 77n)
    execute(target, 0xff, 0x74, 0x24, 8) // push [rsp + 8]
    expect(cpu.read64(cpu.rsp)).toBe(77n)
    execute(target, 0x8f, 0x44, 0x24, 16) // pop [rsp + 16]
    expect(cpu.rsp).toBe(STACK_TOP - 32n)
    expect(cpu.read64(cpu.rsp + 16n)).toBe(77n)
  })

  test('that fault leave RSP', () => {
    const { cpu, tables } = target
    cpu.rsp = STACK_TOP - 0x8000n
    expect(() => execute(target, 0x50)).toThrow(PageFault)
    expect(cpu.rsp).toBe(STACK_TOP - 0x8000n)
    cpu.rsp = STACK_TOP
    expect(() => execute(target, 0x58)).toThrow(PageFault)
    expect(cpu.rsp).toBe(STACK_TOP)
    // pop [rdi]: the load is good, the store is not.
    cpu.rsp = STACK_TOP - 8n
    tables.changeRange(virt(DATA), 4096, (low, high) => [low & ~2, high])
    cpu.general64[Gpr.RDI] = DATA
    expect(() => execute(target, 0x8f, 0x07)).toThrow(expect.objectContaining({ access: 'write' }))
    expect(cpu.rsp).toBe(STACK_TOP - 8n)
  })

  test('carry over into the upper half of RSP', () => {
    const { cpu, tables } = target
    const boundary = 0x1_0000_0000n
    tables.mapRange(virt(boundary - 4096n), phys(0x80_0000), 8192)
    cpu.rsp = boundary
    cpu.general64[Gpr.RAX] = 1n
    execute(target, 0x50)
    expect(cpu.rsp).toBe(boundary - 8n)
    execute(target, 0x59)
    expect([cpu.rsp, cpu.general64[Gpr.RCX]]).toEqual([boundary, 1n])
  })
})

describe('ENTER and LEAVE', () => {
  test('make a frame and take it away', () => {
    const { cpu } = target
    cpu.general64[Gpr.RBP] = 0x1234n
    execute(target, 0xc8, 0x20, 0, 0) // enter 32, 0
    expect(cpu.general64[Gpr.RBP]).toBe(STACK_TOP - 8n)
    expect(cpu.rsp).toBe(STACK_TOP - 40n)
    expect(cpu.read64(STACK_TOP - 8n)).toBe(0x1234n)
    execute(target, 0xc9)
    expect([cpu.rsp, cpu.general64[Gpr.RBP]]).toEqual([STACK_TOP, 0x1234n])
  })

  test('copy the pointers of the frames around', () => {
    const { cpu } = target
    const outer = STACK_TOP - 0x10n
    cpu.general64[Gpr.RBP] = outer
    cpu.write64(outer - 8n, 0xaaaan)
    cpu.write64(outer - 16n, 0xbbbbn)
    cpu.rsp = STACK_TOP - 0x100n
    execute(target, 0xc8, 8, 0, 3) // enter 8, 3
    const frame = STACK_TOP - 0x108n
    expect(cpu.general64[Gpr.RBP]).toBe(frame)
    const words = [0n, 8n, 16n, 24n].map((down) => cpu.read64(frame - down))
    expect(words).toEqual([outer, 0xaaaan, 0xbbbbn, frame])
    expect(cpu.rsp).toBe(frame - 24n - 8n)
  })

  test('that fault leave RSP and RBP', () => {
    const { cpu } = target
    cpu.general64[Gpr.RBP] = 0x1234n
    expect(() => execute(target, 0xc8, 0, 0x80, 0)).toThrow(PageFault)
    expect([cpu.rsp, cpu.general64[Gpr.RBP]]).toEqual([STACK_TOP, 0x1234n])
    cpu.general64[Gpr.RBP] = 0x90_0000n
    expect(() => execute(target, 0xc9)).toThrow(PageFault)
    expect([cpu.rsp, cpu.general64[Gpr.RBP]]).toEqual([STACK_TOP, 0x90_0000n])
  })
})

describe('CALL and RET', () => {
  test('near, relative and indirect, with and without words to drop', () => {
    const { cpu } = target
    execute(target, 0xe8, 0x10, 0, 0, 0)
    expect(cpu.rip).toBe(CODE + 0x15n)
    expect(cpu.read64(cpu.rsp)).toBe(CODE + 5n)
    execute(target, 0xc3)
    expect([cpu.rip, cpu.rsp]).toEqual([CODE + 5n, STACK_TOP])
    cpu.general64[Gpr.RAX] = 0xffff_8000_0000_0000n
    execute(target, 0xff, 0xd0) // call rax
    expect(cpu.rip).toBe(0xffff_8000_0000_0000n)
    execute(target, 0xc2, 0x18, 0) // ret 24
    expect([cpu.rip, cpu.rsp]).toEqual([CODE + 2n, STACK_TOP + 24n])
    cpu.rsp = STACK_TOP
    cpu.general64[Gpr.RDI] = DATA
    cpu.write64(DATA, 0x1234n)
    execute(target, 0xff, 0x17) // call [rdi]
    expect(cpu.rip).toBe(0x1234n)
    execute(target, 0xff, 0x27) // jmp [rdi]
    expect([cpu.rip, cpu.rsp]).toEqual([0x1234n, STACK_TOP - 8n])
  })

  test('to an address that is not canonical are #GP, and change nothing', () => {
    const { cpu } = target
    const bad = 0x8000_0000_0000n
    cpu.general64[Gpr.RAX] = bad
    expect(() => execute(target, 0xff, 0xd0)).toThrow(expect.objectContaining({ value: bad }))
    expect(() => execute(target, 0xff, 0xe0)).toThrow(expect.objectContaining({ value: bad }))
    expect([cpu.rip, cpu.rsp]).toEqual([CODE, STACK_TOP])
    cpu.rsp = STACK_TOP - 8n
    cpu.write64(cpu.rsp, bad)
    expect(() => execute(target, 0xc3)).toThrow(expect.objectContaining({ mnemonic: '#GP' }))
    expect([cpu.rip, cpu.rsp]).toEqual([CODE, STACK_TOP - 8n])
  })

  test('a call whose push faults is not done', () => {
    const { cpu } = target
    cpu.rsp = STACK_TOP - 0x8000n
    expect(() => execute(target, 0xe8, 0, 0, 0, 0)).toThrow(PageFault)
    expect([cpu.rip, cpu.rsp]).toEqual([CODE, STACK_TOP - 0x8000n])
  })
})

describe('LOOP and its like', () => {
  test.each<[string, number[], bigint, number, boolean, bigint]>([
    ['LOOP of 2', [0xe2, 0x10], 2n, 0, true, 1n],
    ['LOOP of 1', [0xe2, 0x10], 1n, 0, false, 0n],
    ['LOOP of 0', [0xe2, 0x10], 0n, 0, true, 2n ** 64n - 1n],
    ['LOOP by ECX', [0x67, 0xe2, 0x0f], 0xf_0000_0001n, 0, false, 0n],
    ['LOOPE with ZF', [0xe1, 0x10], 2n, FLAGS.ZF, true, 1n],
    ['LOOPE without', [0xe1, 0x10], 2n, 0, false, 1n],
    ['LOOPNE with ZF', [0xe0, 0x10], 2n, FLAGS.ZF, false, 1n],
    ['LOOPNE without', [0xe0, 0x10], 2n, 0, true, 1n],
    ['JRCXZ of 0', [0xe3, 0x10], 0n, 0, true, 0n],
    ['JRCXZ of 2^32', [0xe3, 0x10], 2n ** 32n, 0, false, 2n ** 32n],
    ['JECXZ of 2^32', [0x67, 0xe3, 0x0f], 2n ** 32n, 0, true, 2n ** 32n],
  ])('%s', (_name, code, count, flags, isTaken, left) => {
    const { cpu } = target
    cpu.general64[Gpr.RCX] = count
    cpu.rflags = flags
    execute(target, ...code)
    expect(cpu.rip).toBe(CODE + (isTaken ? 0x12n : BigInt(code.length)))
    expect(cpu.general64[Gpr.RCX]).toBe(left)
    expect(cpu.statusFlags).toBe(flags)
  })
})

describe('flags', () => {
  test('are set, cleared and turned one by one', () => {
    const { cpu } = target
    cpu.rflags = FLAGS.ZF
    execute(target, 0xf9) // stc
    expect(cpu.statusFlags).toBe(FLAGS.ZF | FLAGS.CF)
    execute(target, 0xf5) // cmc
    expect(cpu.statusFlags).toBe(FLAGS.ZF)
    execute(target, 0xf5)
    execute(target, 0xf8) // clc
    expect(cpu.statusFlags).toBe(FLAGS.ZF)
    execute(target, 0xfd) // std
    expect(cpu.rflags).toBe(0x402 | FLAGS.ZF)
    execute(target, 0xfc) // cld
    expect(cpu.rflags).toBe(0x2 | FLAGS.ZF)
  })

  test('go to AH and back', () => {
    const { cpu } = target
    cpu.rflags = ALL_FLAGS
    execute(target, 0x9f) // lahf
    expect(cpu.general64[Gpr.RAX]).toBe(0xd700n)
    cpu.general64[Gpr.RAX] = 0x4100n
    execute(target, 0x9e) // sahf
    expect(cpu.statusFlags).toBe(FLAGS.OF | FLAGS.CF | (FLAGS.ZF & 0x41))
  })

  test('go to the stack and back, as far as the privilege level lets them', () => {
    const { cpu } = target
    cpu.rflags = ALL_FLAGS | 0x200 | 0x4_0000
    execute(target, 0x9c) // pushf
    expect(cpu.read64(cpu.rsp)).toBe(BigInt(ALL_FLAGS | 0x4_0202))
    cpu.write64(cpu.rsp, 0xffff_ffff_ffff_ffffn)
    execute(target, 0x9d) // popf
    // ID, AC, NT, IOPL, OF, DF, IF, TF and the status flags; RF, VM, VIF and VIP are not taken.
    expect(cpu.rflags).toBe(0x24_7fd7)
    expect(cpu.rsp).toBe(STACK_TOP)
    cpu.controlFlags = 0
    cpu.interruptFlag = false
    cpu.cpl = 3
    for (const page of [CODE, STACK_TOP - 0x1000n]) {
      target.tables.changeRange(virt(page), 4096, (low, high) => [low | 4, high])
    }
    cpu.writeCr3(cpu.cr3)
    cpu.rsp = STACK_TOP - 8n
    cpu.write64(cpu.rsp, 0xffff_ffffn)
    execute(target, 0x9d)
    expect(cpu.rflags & 0x3200).toBe(0)
    expect(cpu.rflags & 0x4000).toBe(0x4000)
  })
})
