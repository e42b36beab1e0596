import { describe, expect, test } from 'vitest'
import {
  farCall,
  farJump,
  farReturn,
  interruptReturn,
  loadLocalDescriptorTable,
  loadTaskRegister,
  Machine,
  Rflags,
  Segment,
  ZEN3,
  ZEN4,
} from '../src/index.ts'
import {
  CODE32,
  CODE64,
  DATA,
  faultOf,
  GDT,
  INNER_STACK_TOP,
  segmentedMachine,
  type SegmentDescription,
  type SegmentedMachine,
  STACK_TOP,
  TSS,
} from './segmented-machine.ts'

const USER_CODE64 = { ...CODE64, access: 0xfb }
const USER_DATA = { ...DATA, access: 0xf3 }

/** Pushes 64-bit or 32-bit words, the last lowest. */
function push({ cpu, machine }: SegmentedMachine, bytes: 4 | 8, ...words: number[]): void {
  let at = Number(cpu.rsp)
  for (const word of words) {
    at -= bytes
    machine.memory.write32(at, word)
    if (bytes === 8) machine.memory.write32(at + 4, 0)
  }
  cpu.rsp = BigInt(at)
}

function stackWords({ cpu, machine }: SegmentedMachine, count: number, bytes: 4 | 8): number[] {
  const top = Number(cpu.rsp)
  return Array.from({ length: count }, (_, index) => machine.memory.read32(top + index * bytes))
}

describe('JMP far', () => {
  test('from 64-bit mode to compatibility mode and back', () => {
    const { cpu, describe: put } = segmentedMachine('ia32e')
    const selector = put(5, CODE32)
    farJump(cpu, { selector, offset: 0x1234n })
    expect([cpu.cs, cpu.codeSegmentLong, cpu.rip]).toEqual([selector, false, 0x1234n])
    farJump(cpu, { selector: 8, offset: 0x4000n })
    expect([cpu.cs, cpu.codeSegmentLong, cpu.rip]).toEqual([8, true, 0x4000n])
  })

  test.each<[string, SegmentDescription, number, bigint, string]>([
    ['a null selector', CODE32, 0, 0n, '#GP(0x0)'],
    ['data', DATA, 0x28, 0n, '#GP(0x28)'],
    ['another level', { ...CODE32, access: 0xfb }, 0x2b, 0n, '#GP(0x28)'],
    ['code that is not there', { ...CODE32, access: 0x1b }, 0x28, 0n, '#NP(0x28)'],
    ['an offset beyond the limit', { access: 0x9b, limit: 0xff }, 0x28, 0x100n, '#GP(0x0)'],
    ['code with L and D', { access: 0x9b, flags: 0xe }, 0x28, 0n, '#GP(0x28)'],
    ['an address that is not canonical', CODE64, 0x28, 1n << 48n, '#GP(0x0)'],
    ['a task gate', { access: 0x85 }, 0x28, 0n, '#GP(0x28)'],
    ['conforming code', { access: 0x9f, flags: 0xc }, 0x28, 0n, 'no fault'],
  ])('to %s', (_, segment, selector, offset, fault) => {
    const { cpu, describe: put } = segmentedMachine('ia32e')
    put(5, segment)
    cpu.rip = 0x77n
    expect(faultOf(() => farJump(cpu, { selector, offset }))).toBe(fault)
    const arrived = fault === 'no fault'
    expect([cpu.cs, cpu.rip]).toEqual(arrived ? [selector, offset] : [0, 0x77n])
  })

  test('in real-address mode takes a paragraph', () => {
    const { bootCpu: cpu } = new Machine({ start: 'reset' })
    farJump(cpu, { selector: 0xf000, offset: 0xfff0n })
    expect([cpu.cs, cpu.rip, cpu.segments[Segment.CS]?.base]).toEqual([0xf000, 0xfff0n, 0xf_0000n])
    expect(faultOf(() => farJump(cpu, { selector: 0, offset: 0x1_0000n }))).toBe('#GP(0x0)')
  })

  test('a task switch in protected mode says that it is not there', () => {
    const { cpu, describeSystem } = segmentedMachine('protected')
    expect(() => farJump(cpu, { selector: describeSystem(5, TSS, 0x89), offset: 0n })).toThrow(
      expect.objectContaining({ code: 'CORE_NOT_MODELLED' }),
    )
  })
})

describe('CALL far and RET far', () => {
  test('push CS and the return address, and come back', () => {
    const world = segmentedMachine('ia32e')
    const { cpu } = world
    cpu.cs = 8
    farCall(cpu, { selector: 8, offset: 0x5000n }, { operandBytes: 4, returnRip: 0x1007n })
    expect(stackWords(world, 2, 4)).toEqual([0x1007, 8])
    expect([cpu.rip, cpu.rsp]).toEqual([0x5000n, BigInt(STACK_TOP - 8)])
    farReturn(cpu, { operandBytes: 4, release: 0x10 })
    expect([cpu.rip, cpu.cs, cpu.rsp]).toEqual([0x1007n, 8, BigInt(STACK_TOP + 0x10)])
  })

  test('a return to an outer level takes its stack, and drops segments that it may not use', () => {
    const world = segmentedMachine('ia32e')
    const { cpu, describe: put } = world
    const code = put(5, USER_CODE64) | 3
    const stack = put(6, USER_DATA) | 3
    cpu.loadSegment(Segment.DS, { selector: 0x10, base: 0n, limit: 0xffff_ffff, rights: 0xc0_9300 })
    push(world, 8, stack, 0x8000, code, 0x4321)
    farReturn(cpu, { operandBytes: 8, release: 0 })
    expect([cpu.cpl, cpu.cs, cpu.ss, cpu.rip, cpu.rsp]).toEqual([3, code, stack, 0x4321n, 0x8000n])
    expect(cpu.segments[Segment.DS]).toMatchObject({ selector: 0, rights: 0 })
  })

  test('a return to an inner level is refused', () => {
    const world = segmentedMachine('ia32e')
    world.cpu.cpl = 3
    push(world, 8, 8, 0x4321)
    expect(faultOf(() => farReturn(world.cpu, { operandBytes: 8, release: 0 }))).toBe('#GP(0x8)')
  })

  test.each([
    ['zen3', ZEN3, 48],
    ['zen4', ZEN4, 57],
  ])('a system segment has a base that is canonical for %s', (_, features, bits) => {
    for (const [access, load] of [
      [0x89, loadTaskRegister],
      [0x82, loadLocalDescriptorTable],
    ] as const) {
      const { cpu, machine, describeSystem } = segmentedMachine('ia32e', features)
      const selector = describeSystem(10, 0, access)
      const setBase = (base: bigint): void => {
        machine.memory.write32(GDT + selector + 8, Number(base >> 32n))
      }
      setBase(1n << BigInt(bits - 1))
      expect(faultOf(() => load(cpu, selector))).toBe('#GP(0x50)')
      setBase(1n << BigInt(bits - 2))
      load(cpu, selector)
      expect((access === 0x89 ? cpu.taskRegister : cpu.ldtr).base).toBe(1n << BigInt(bits - 2))
    }
  })

  test('a call gate leads to an inner level, on the stack that the TSS has for it', () => {
    const world = segmentedMachine('ia32e')
    const { cpu, machine, describeSystem } = world
    loadTaskRegister(cpu, describeSystem(10, TSS, 0x89))
    machine.memory.write32(TSS + 4, INNER_STACK_TOP)
    // A gate of level 3 to selector 8, offset 0x1_2345.
    machine.memory.write32(GDT + 12 * 8, 0x0008_2345)
    machine.memory.write32(GDT + 12 * 8 + 4, 0x0001_ec00)
    cpu.cpl = 3
    cpu.cs = 0x2b
    cpu.ss = 0x33
    farCall(cpu, { selector: 0x63, offset: 0n }, { operandBytes: 8, returnRip: 0x77n })
    expect([cpu.cpl, cpu.cs, cpu.ss, cpu.rip]).toEqual([0, 8, 0, 0x1_2345n])
    expect(stackWords(world, 4, 8)).toEqual([0x77, 0x2b, STACK_TOP, 0x33])
    expect(cpu.rsp).toBe(BigInt(INNER_STACK_TOP - 32))
  })

  test('a 32-bit call gate hands its parameters over', () => {
    const world = segmentedMachine('protected')
    const { cpu, machine, describeSystem } = world
    loadTaskRegister(cpu, describeSystem(10, TSS, 0x89))
    machine.memory.write32(TSS + 4, INNER_STACK_TOP)
    machine.memory.write32(TSS + 8, 0x10)
    machine.memory.write32(GDT + 12 * 8, 0x0008_2345)
    machine.memory.write32(GDT + 12 * 8 + 4, 0x0001_ec02)
    push(world, 4, 0xbbbb, 0xaaaa)
    cpu.loadSegment(Segment.SS, { selector: 0x33, base: 0n, limit: 0xffff_ffff, rights: 0xc0_f300 })
    cpu.cpl = 3
    cpu.cs = 0x2b
    farCall(cpu, { selector: 0x63, offset: 0n }, { operandBytes: 4, returnRip: 0x77n })
    expect([cpu.cpl, cpu.cs, cpu.ss]).toEqual([0, 8, 0x10])
    expect(stackWords(world, 6, 4)).toEqual([0x77, 0x2b, 0xaaaa, 0xbbbb, STACK_TOP - 8, 0x33])
  })
})

describe('IRET', () => {
  test('in 64-bit mode pops the stack pointer at any level, and lets level 0 set all flags but RF', () => {
    const world = segmentedMachine('ia32e')
    const { cpu } = world
    push(world, 8, 0x10, 0x7000, 0x3_7246, 8, 0x4321)
    interruptReturn(cpu, 8)
    expect([cpu.cs, cpu.ss, cpu.rip, cpu.rsp]).toEqual([8, 0x10, 0x4321n, 0x7000n])
    expect(cpu.rflags).toBe(0x7246)
  })

  test('to the user and by the user: IF and IOPL are the supervisor’s', () => {
    const world = segmentedMachine('ia32e')
    const { cpu, describe: put } = world
    const code = put(5, USER_CODE64) | 3
    const stack = put(6, USER_DATA) | 3
    push(world, 8, stack, 0x8000, 0x202, code, 0x4321)
    interruptReturn(cpu, 8)
    expect([cpu.cpl, cpu.rip, cpu.rsp, cpu.interruptFlag]).toEqual([3, 0x4321n, 0x8000n, true])
    push(world, 8, stack, 0x8000, 0x3007, code, 0x4321)
    interruptReturn(cpu, 8)
    expect(cpu.rflags).toBe(0x207)
  })

  test('with NT set is #GP in IA-32e mode, and not modelled in protected mode', () => {
    for (const [mode, expected] of [
      ['ia32e', { mnemonic: '#GP' }],
      ['protected', { code: 'CORE_NOT_MODELLED' }],
    ] as const) {
      const { cpu } = segmentedMachine(mode)
      cpu.controlFlags |= Rflags.NT
      expect(() => interruptReturn(cpu, 4)).toThrow(expect.objectContaining(expected))
    }
  })

  test.each<[string, number[], string]>([
    ['a null CS', [0x10, 0x8000, 2, 0, 0], '#GP(0x0)'],
    ['a null SS for the user', [3, 0x8000, 2, 0x2b, 0], '#GP(0x0)'],
    ['an SS of another level', [0x10, 0x8000, 2, 0x2b, 0], '#GP(0x10)'],
    ['code of another level', [0x33, 0x8000, 2, 0x2a, 0], '#GP(0x28)'],
  ])('refuses %s', (_, words, fault) => {
    const world = segmentedMachine('ia32e')
    world.describe(5, USER_CODE64)
    world.describe(6, USER_DATA)
    push(world, 8, ...words)
    const before = world.cpu.rsp
    expect(faultOf(() => interruptReturn(world.cpu, 8))).toBe(fault)
    expect([world.cpu.rsp, world.cpu.cpl]).toEqual([before, 0])
  })

  test('in protected mode stays on the stack within a level', () => {
    const world = segmentedMachine('protected')
    const { cpu } = world
    cpu.loadSegment(Segment.SS, { selector: 0x10, base: 0n, limit: 0xffff_ffff, rights: 0xc0_9300 })
    push(world, 4, 0x202, 8, 0x4321)
    interruptReturn(cpu, 4)
    expect([cpu.rip, cpu.rsp, cpu.ss]).toEqual([0x4321n, BigInt(STACK_TOP), 0x10])
  })
})
