import { Gpr, Rflags, TripleFault, Vector } from '@trapdoor/core'
import { describe, expect, test } from 'vitest'
import { CODE, computer, DATA, HANDLERS, stackWords } from './computer.ts'

const NOP = 0x90
const STI = 0xfb
const CLI = 0xfa
const HLT = 0xf4
/** XOR ECX, ECX; DIV ECX. */
const DIVIDE_BY_ZERO = [0x31, 0xc9, 0xf7, 0xf1]

/** WRMSR of IA32_APIC_BASE with FEE00D00h. */
const SWITCH_TO_X2APIC = [0xb9, 0x1b, 0, 0, 0, 0xb8, 0, 0x0d, 0xe0, 0xfe, 0x31, 0xd2, 0x0f, 0x30]
/** WRMSR of the x2APIC's SELF IPI with 61h. */
const SEND_SELF_IPI = [0xb9, 0x3f, 8, 0, 0, 0xb8, 0x61, 0, 0, 0, 0x0f, 0x30]

describe('an exception', () => {
  test('of an instruction goes to its handler, with the instruction to be tried again', () => {
    const target = computer('64-bit')
    target.place(...DIVIDE_BY_ZERO)
    expect(target.run()).toBe(Vector.DE)
    expect(stackWords(target, 2)).toEqual([BigInt(CODE + 2), 8n])
  })

  test('is over when its handler returns', () => {
    const target = computer('64-bit')
    // MOV ECX, 1; IRETQ
    target.handle(Vector.DE, 0xb9, 1, 0, 0, 0, 0x48, 0xcf)
    target.place(...DIVIDE_BY_ZERO, HLT)
    expect(target.run()).toBeUndefined()
    expect(target.cpu.rip).toBe(BigInt(CODE + 5))
    expect(target.cpu.instructions).toBe(5)
  })

  test('that cannot be delivered, nor the double fault in its place, is thrown', () => {
    const target = computer('64-bit')
    target.cpu.idtr = { base: 0n, limit: 0 }
    target.place(0x0f, 0x0b)
    expect(() => target.run()).toThrow(TripleFault)
  })

  test('in protected mode pushes words of 32 bits', () => {
    const target = computer('protected')
    target.place(...DIVIDE_BY_ZERO)
    expect(target.run()).toBe(Vector.DE)
    const top = Number(target.cpu.rsp)
    expect([0, 4].map((at) => target.machine.memory.read32(top + at))).toEqual([CODE + 2, 8])
  })
})

describe('an interrupt', () => {
  test('comes where IF lets it in, and after one more instruction where STI did', () => {
    const target = computer('64-bit')
    target.place(STI, NOP, NOP)
    target.apic.request(0x40)
    expect(target.run()).toBe(0x40)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 2)])
  })

  test('comes in the one instruction between STI and CLI', () => {
    const target = computer('64-bit')
    target.place(STI, NOP, CLI, HLT)
    target.apic.request(0x40)
    expect(target.run()).toBe(0x40)
  })

  test('does not come between STI and CLI without an instruction between them', () => {
    const target = computer('64-bit')
    target.place(STI, CLI, HLT)
    target.apic.request(0x40)
    expect(target.run()).toBeUndefined()
  })

  test('does not come between a load of SS and the next instruction', () => {
    const target = computer('64-bit')
    target.cpu.interruptFlag = true
    // MOV EAX, SS; MOV SS, EAX; NOP; NOP
    target.place(0x8c, 0xd0, 0x8e, 0xd0, NOP, NOP)
    target.run(2)
    target.apic.request(0x41)
    expect(target.run()).toBe(0x41)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 5)])
  })

  test('waits for POPF and IRET to let it in', () => {
    for (const code of [
      // PUSH 200h; POPF
      [0x68, 0, 2, 0, 0, 0x9d],
      // PUSH 10h; PUSH 20000h; PUSH 200h; PUSH 8; PUSH next; IRETQ
      [
        0x6a,
        0x10,
        0x68,
        0,
        0,
        2,
        0,
        0x68,
        0,
        2,
        0,
        0,
        0x6a,
        8,
        0x68,
        25,
        0,
        1,
        0,
        0x48,
        0xcf,
        NOP,
        NOP,
        NOP,
        NOP,
      ],
    ]) {
      const target = computer('64-bit')
      target.place(...code, NOP, HLT)
      target.apic.request(0x50)
      expect(target.run()).toBe(0x50)
      expect(stackWords(target, 1)).toEqual([BigInt(CODE + code.length)])
    }
  })

  test('that a program sends to itself comes behind the instruction that does', () => {
    const target = computer('64-bit')
    target.cpu.interruptFlag = true
    target.place(...SWITCH_TO_X2APIC, ...SEND_SELF_IPI, NOP)
    expect(target.run()).toBe(0x61)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 26)])
  })

  test('is held back by CR8, and comes when that is lowered', () => {
    const target = computer('64-bit')
    target.cpu.interruptFlag = true
    target.apic.taskPriorityClass = 7
    target.apic.request(0x61)
    // NOP; XOR EAX, EAX; MOV CR8, RAX; NOP
    target.place(NOP, 0x31, 0xc0, 0x44, 0x0f, 0x22, 0xc0, NOP)
    expect(target.run()).toBe(0x61)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 7)])
  })
})

describe('an NMI', () => {
  test('comes whatever IF is, and not again before IRET', () => {
    const target = computer('64-bit')
    target.place(NOP, NOP, NOP)
    target.handle(Vector.NMI, NOP, NOP, 0x48, 0xcf)
    target.events.requestNmi()
    target.run(1)
    expect(target.cpu.rip).toBe(BigInt(HANDLERS + Vector.NMI * 16 + 1))
    target.events.requestNmi()
    target.run(1)
    expect(target.cpu.rip).toBe(BigInt(HANDLERS + Vector.NMI * 16 + 2))
    // IRET, and the handler's first instruction again.
    target.run(2)
    expect(target.cpu.rip).toBe(BigInt(HANDLERS + Vector.NMI * 16 + 1))
  })
})

describe('a single step', () => {
  test('is one iteration of a repeated string instruction', () => {
    const target = computer('64-bit')
    const { cpu } = target
    target.place(0xf3, 0xaa, 0xf4)
    cpu.general64[Gpr.RDI] = BigInt(DATA)
    cpu.general64[Gpr.RCX] = 3n
    cpu.controlFlags |= Rflags.TF
    const { rip } = cpu
    expect(target.run()).toBe(Vector.DB)
    expect(cpu.general64[Gpr.RCX]).toBe(2n)
    expect(cpu.general64[Gpr.RDI]).toBe(BigInt(DATA + 1))
    expect(cpu.read64(cpu.rsp)).toBe(rip)
  })

  test('traps behind the instruction, with DR6.BS, and TF is clear in the handler', () => {
    const target = computer('64-bit')
    target.place(NOP, NOP)
    const { cpu } = target
    cpu.controlFlags |= Rflags.TF
    expect(target.run()).toBe(Vector.DB)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 1)])
    expect(cpu.debugRegisters[6]! & 0x4000n).toBe(0x4000n)
    expect(cpu.controlFlags & Rflags.TF).toBe(0)
  })
})

describe('HLT', () => {
  test('waits for the timer, and time passes', () => {
    const target = computer('64-bit')
    target.apic.write(0x3e0, 4, 0xb)
    target.apic.write(0x320, 4, 0x70)
    target.apic.write(0x380, 4, 1_000_000)
    target.place(STI, HLT, NOP)
    expect(target.run()).toBe(0x70)
    expect(target.events.clock).toBeGreaterThanOrEqual(1_000_000)
    expect(target.cpu.instructions).toBeLessThan(10)
    expect(stackWords(target, 1)).toEqual([BigInt(CODE + 2)])
  })

  test('ends the run where nothing can come: interrupts are off, or there is no timer, or the timer is masked', () => {
    for (const setUp of [
      (target: ReturnType<typeof computer>) => target.apic.request(0x40),
      ({ cpu }: ReturnType<typeof computer>) => {
        cpu.interruptFlag = true
      },
      ({ cpu, apic }: ReturnType<typeof computer>) => {
        cpu.interruptFlag = true
        apic.write(0x320, 4, 0x1_0070)
        apic.write(0x380, 4, 100)
      },
      ({ cpu, apic }: ReturnType<typeof computer>) => {
        cpu.interruptFlag = true
        apic.taskPriorityClass = 15
        apic.write(0x320, 4, 0x70)
        apic.write(0x380, 4, 100)
      },
    ]) {
      const target = computer('64-bit')
      setUp(target)
      target.place(HLT)
      expect(target.run()).toBeUndefined()
      expect(target.cpu.rip).toBe(BigInt(CODE + 1))
    }
  })

  test('counts as time in the time-stamp counter', () => {
    const target = computer('64-bit')
    target.apic.write(0x3e0, 4, 0xb)
    target.apic.write(0x320, 4, 0x70)
    target.apic.write(0x380, 4, 5000)
    target.handle(0x70, 0x0f, 0x31, HLT)
    target.place(STI, HLT)
    target.events.run({ maxInstructions: 100 })
    expect(Number(target.cpu.general64[Gpr.RAX])).toBeGreaterThanOrEqual(5000)
  })
})
