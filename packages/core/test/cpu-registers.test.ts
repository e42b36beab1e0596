import { expect, test } from 'vitest'
import {
  Gpr,
  Machine,
  MSRS_AT_RESET,
  Rflags,
  Segment,
  SegmentRights,
  STATUS_FLAGS,
} from '../src/index.ts'

test('a general register is its two halves', () => {
  const { bootCpu: cpu } = new Machine()
  cpu.general64[Gpr.R9] = 0x1122_3344_8899_aabbn
  expect([cpu.general[18], cpu.general[19]]).toEqual([0x8899_aabb | 0, 0x1122_3344])
  cpu.general[9] = -1
  expect(cpu.rsp).toBe(0xffff_ffff_0000_0000n)
  cpu.rsp = -8n
  expect(cpu.general64[Gpr.RSP]).toBe(0xffff_ffff_ffff_fff8n)
})

test('RFLAGS is its parts', () => {
  const { bootCpu: cpu } = new Machine()
  expect(cpu.rflags).toBe(Rflags.Fixed)
  cpu.rflags = 0xffff_ffff
  expect(cpu.rflags).toBe(0x3f_7fd7)
  expect([cpu.interruptFlag, cpu.alignmentCheck, cpu.statusFlags]).toEqual([
    true,
    true,
    STATUS_FLAGS,
  ])
  cpu.interruptFlag = false
  cpu.alignmentCheck = false
  cpu.statusFlags = Rflags.ZF
  cpu.controlFlags = Rflags.DF | Rflags.ZF
  expect(cpu.rflags).toBe(Rflags.Fixed | Rflags.ZF | Rflags.DF)
})

test('a fork has the registers of its parent, and its own from then on', () => {
  const machine = new Machine()
  const { bootCpu: cpu } = machine
  cpu.general64[Gpr.RBX] = 7n
  cpu.rip = 0x1234n
  cpu.rflags = Rflags.CF | Rflags.DF | Rflags.IF
  cpu.msrs = { ...MSRS_AT_RESET, lstar: 5n }
  cpu.debugRegisters = cpu.debugRegisters.with(0, 9n)
  cpu.ldtr = { ...cpu.ldtr, selector: 0x28 }
  const gs = { selector: 0x18, base: 0x7000n, limit: 0xfff, rights: SegmentRights.Present }
  cpu.loadSegment(Segment.GS, gs)
  const { bootCpu: other } = machine.fork()
  cpu.general64[Gpr.RBX] = 8n
  cpu.rip = 0n
  cpu.loadSegment(Segment.GS, cpu.segments[Segment.FS]!)
  expect(other.general64[Gpr.RBX]).toBe(7n)
  expect(other.rip).toBe(0x1234n)
  expect(other.rflags).toBe(Rflags.Fixed | Rflags.CF | Rflags.DF | Rflags.IF)
  expect(other.msrs.lstar).toBe(5n)
  expect(other.debugRegisters[0]).toBe(9n)
  expect(other.ldtr.selector).toBe(0x28)
  expect(other.segments[Segment.GS]).toBe(gs)
  expect(other.instructions).toBe(0)
})

test('a code segment brings CS.L along, and selectors leave hidden parts', () => {
  const { bootCpu: cpu } = new Machine()
  const code = cpu.segments[Segment.CS]!
  cpu.loadSegment(Segment.CS, { ...code, rights: code.rights & ~SegmentRights.Long })
  expect(cpu.codeSegmentLong).toBe(false)
  cpu.codeSegmentLong = true
  expect(cpu.segments[Segment.CS]!.rights & SegmentRights.Long).toBe(SegmentRights.Long)
  cpu.cs = 0x10
  cpu.ss = 0x18
  expect(cpu.segments[Segment.CS]).toEqual({ ...code, selector: 0x10 })
  expect([cpu.cs, cpu.ss]).toEqual([0x10, 0x18])
})

test('RESET leaves registers as table 10-1 has them', () => {
  const { bootCpu: cpu } = new Machine()
  cpu.general64.fill(5n)
  cpu.rip = 5n
  cpu.rflags = 0xffff_ffff
  cpu.reset()
  expect([...cpu.general64]).toEqual(Array.from({ length: 16 }, () => 0n))
  expect(cpu.rflags).toBe(Rflags.Fixed)
  expect(cpu.msrs).toBe(MSRS_AT_RESET)
  expect(cpu.debugRegisters[6]).toBe(0xffff_0ff0n)
  expect(cpu.segments[Segment.CS]!.limit).toBe(0xffff)
})
