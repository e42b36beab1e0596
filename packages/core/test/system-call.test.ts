import { describe, expect, test } from 'vitest'
import {
  Cr0,
  type Cpu,
  type CpuFeatures,
  Efer,
  farJump,
  Gpr,
  Segment,
  SegmentRights,
  SKYLAKE_SP,
  systemCall,
  systemEnter,
  systemExit,
  systemReturn,
  ZEN3,
} from '../src/index.ts'
import { CODE32, faultOf, segmentedMachine } from './segmented-machine.ts'

/** Kernel CS 0x08, user CS 0x30 and up. */
const STAR = (0x33n << 48n) | (0x08n << 32n)

function world(features: CpuFeatures = SKYLAKE_SP): Cpu {
  const { cpu, describe: put } = segmentedMachine('ia32e', features)
  put(5, CODE32)
  cpu.msrs = { ...cpu.msrs, star: STAR, lstar: 0x8000n, cstar: 0x9000n, fmask: 0x4_0700n }
  return cpu
}

describe('SYSCALL', () => {
  test('saves RIP and RFLAGS, masks flags, and loads flat segments from STAR', () => {
    const cpu = world()
    cpu.cpl = 3
    cpu.rflags = 0x4_0746
    systemCall(cpu, 0x1234n)
    expect([cpu.general64[Gpr.RCX], cpu.general64[Gpr.R11]]).toEqual([0x1234n, 0x4_0746n])
    expect([cpu.rip, cpu.cpl, cpu.cs, cpu.ss, cpu.rflags]).toEqual([0x8000n, 0, 0x08, 0x10, 0x46])
    expect([cpu.codeSegmentLong, cpu.alignmentCheck]).toEqual([true, false])
  })

  test('is #UD without EFER.SCE, and from compatibility mode on Intel; AMD goes to CSTAR', () => {
    const off = world()
    off.writeEfer(off.efer & ~Efer.SCE)
    expect(faultOf(() => systemCall(off, 0n))).toBe('#UD')
    const intel = world()
    farJump(intel, { selector: 0x28, offset: 0n })
    expect(faultOf(() => systemCall(intel, 0n))).toBe('#UD')
    const amd = world(ZEN3)
    farJump(amd, { selector: 0x28, offset: 0n })
    systemCall(amd, 0x55n)
    expect([amd.rip, amd.codeSegmentLong]).toEqual([0x9000n, true])
  })
})

describe('SYSRET', () => {
  test('goes to 64-bit user code, or to compatibility mode with a 32-bit operand', () => {
    const cpu = world()
    cpu.general64[Gpr.RCX] = 0x1_0000_4321n
    cpu.general64[Gpr.R11] = 0xffff_ffffn
    systemReturn(cpu, 8)
    expect([cpu.rip, cpu.cpl, cpu.cs, cpu.ss]).toEqual([0x1_0000_4321n, 3, 0x43, 0x3b])
    // Neither RF nor VM, which SYSRET clears.
    expect(cpu.rflags).toBe(0x3c_7fd7)
    const compat = world()
    compat.general64[Gpr.RCX] = 0x1_0000_4321n
    systemReturn(compat, 4)
    expect([compat.rip, compat.cs, compat.codeSegmentLong]).toEqual([0x4321n, 0x33, false])
  })

  test('on Intel a return address that is not canonical is #GP with the supervisor’s privilege; AMD returns', () => {
    for (const [features, fault, level] of [
      [SKYLAKE_SP, '#GP(0x0)', 0],
      [ZEN3, 'no fault', 3],
    ] as const) {
      const cpu = world(features)
      cpu.general64[Gpr.RCX] = 1n << 48n
      expect(faultOf(() => systemReturn(cpu, 8))).toBe(fault)
      expect(cpu.cpl).toBe(level)
    }
  })

  test('on AMD leaves the attributes of SS as they are', () => {
    const cpu = world(ZEN3)
    cpu.loadSegment(Segment.SS, { selector: 0, base: 0n, limit: 0xffff_ffff, rights: 0 })
    systemReturn(cpu, 8)
    expect(cpu.segments[Segment.SS]).toMatchObject({ selector: 0x3b, rights: 0 })
  })

  test('is the supervisor’s alone', () => {
    const cpu = world()
    cpu.cpl = 3
    expect(faultOf(() => systemReturn(cpu, 8))).toBe('#GP(0x0)')
  })
})

describe('SYSENTER and SYSEXIT', () => {
  test('go by the three MSRs and come back by RDX and RCX', () => {
    const cpu = world()
    cpu.msrs = { ...cpu.msrs, sysenterCs: 0x10n, sysenterEip: 0x7000n, sysenterEsp: 0x6000n }
    cpu.cpl = 3
    cpu.rflags = 0x202
    systemEnter(cpu)
    expect([cpu.rip, cpu.rsp, cpu.cs, cpu.ss, cpu.cpl]).toEqual([0x7000n, 0x6000n, 0x10, 0x18, 0])
    expect(cpu.interruptFlag).toBe(false)
    cpu.general64[Gpr.RDX] = 0x1234n
    cpu.general64[Gpr.RCX] = 0x5678n
    systemExit(cpu, 8)
    expect([cpu.rip, cpu.rsp, cpu.cs, cpu.ss, cpu.cpl]).toEqual([0x1234n, 0x5678n, 0x33, 0x3b, 3])
  })

  test('a 32-bit SYSEXIT leads to compatibility mode', () => {
    const cpu = world()
    cpu.msrs = { ...cpu.msrs, sysenterCs: 0x10n }
    systemExit(cpu, 4)
    expect([cpu.cs, cpu.ss, cpu.codeSegmentLong]).toEqual([0x23, 0x2b, false])
    const rights = cpu.segments[Segment.CS]!.rights
    expect(rights & SegmentRights.Default32).not.toBe(0)
  })

  test('need a selector, protected mode, and on AMD legacy mode', () => {
    expect(faultOf(() => systemEnter(world()))).toBe('#GP(0x0)')
    expect(faultOf(() => systemEnter(world(ZEN3)))).toBe('#UD')
    const { cpu } = segmentedMachine('protected', SKYLAKE_SP)
    cpu.msrs = { ...cpu.msrs, sysenterCs: 8n, sysenterEip: 0x7000n }
    systemEnter(cpu)
    expect([cpu.rip, cpu.cr0 & Cr0.PE]).toEqual([0x7000n, 1])
  })
})
