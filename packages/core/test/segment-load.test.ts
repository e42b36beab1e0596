import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  loadLocalDescriptorTable,
  loadSegmentRegister,
  loadTaskRegister,
  Machine,
  Segment,
  SegmentRights,
  SKYLAKE_SP,
  ZEN3,
} from '../src/index.ts'
import {
  CODE32,
  DATA,
  faultOf,
  GDT,
  LDT,
  segmentedMachine,
  type SegmentDescription,
  TSS,
} from './segmented-machine.ts'

describe('loading a data segment', () => {
  test('fills the hidden part, with the granularity worked in, and marks the descriptor as accessed', () => {
    const { cpu, machine, describe: put } = segmentedMachine('protected')
    const selector = put(5, { base: 0x12_3456, limit: 0x1_0002, access: 0x92, flags: 0xc })
    loadSegmentRegister(cpu, Segment.FS, selector)
    expect(cpu.segments[Segment.FS]).toEqual({
      selector,
      base: 0x12_3456n,
      limit: 0x1000_2fff,
      rights: 0xc0_9300,
    })
    expect(machine.memory.read8(GDT + 5 * 8 + 5)).toBe(0x93)
  })

  test.each<[string, SegmentDescription, number, string]>([
    ['beyond the limit of the GDT', DATA, 0x100, '#GP(0x100)'],
    ['of code that cannot be read', { access: 0x99 }, 0x28, '#GP(0x28)'],
    ['of a system segment', { access: 0x82 }, 0x28, '#GP(0x28)'],
    ['that is more privileged than the RPL', DATA, 0x2b, '#GP(0x28)'],
    ['that is not there', { access: 0x13 }, 0x28, '#NP(0x28)'],
    ['of conforming code, whatever the RPL', { access: 0x9e }, 0x2b, 'no fault'],
    ['of readable code', CODE32, 0x28, 'no fault'],
    ['that is null', DATA, 3, 'no fault'],
  ])('%s: %#', (_, segment, selector, fault) => {
    const { cpu, describe: put } = segmentedMachine('protected')
    put(5, segment)
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.DS, selector))).toBe(fault)
  })

  test('from a less privileged level needs a segment of that level', () => {
    const { cpu, describe: put } = segmentedMachine('protected')
    put(5, DATA)
    put(6, { ...DATA, access: 0xf3 })
    cpu.cpl = 3
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.ES, 0x28))).toBe('#GP(0x28)')
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.ES, 0x33))).toBe('no fault')
  })

  test('with a null selector leaves the base on AMD and clears it on Intel', () => {
    for (const [features, base] of [
      [ZEN3, 0x1000n],
      [SKYLAKE_SP, 0n],
    ] as const) {
      const { cpu, describe: put } = segmentedMachine('ia32e', features)
      loadSegmentRegister(cpu, Segment.GS, put(5, { ...DATA, base: 0x1000 }))
      loadSegmentRegister(cpu, Segment.GS, 0)
      expect(cpu.segments[Segment.GS]).toMatchObject({ selector: 0, base, rights: 0 })
    }
  })

  test('reads the LDT where the selector says so, and is #GP without one', () => {
    const { cpu, describe: put, describeSystem } = segmentedMachine('protected')
    const selector = put(1, { ...DATA, base: 0x7000 }, LDT)
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.DS, selector))).toBe('#GP(0xc)')
    loadLocalDescriptorTable(cpu, describeSystem(8, LDT, 0x82, 0xf))
    loadSegmentRegister(cpu, Segment.DS, selector)
    expect(cpu.segments[Segment.DS]?.base).toBe(0x7000n)
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.DS, 0x14))).toBe('#GP(0x14)')
  })

  test('takes any selector as a paragraph in real-address mode', () => {
    const { bootCpu: cpu } = new Machine({ start: 'reset' })
    loadSegmentRegister(cpu, Segment.ES, 0xb800)
    expect(cpu.segments[Segment.ES]).toMatchObject({
      selector: 0xb800,
      base: 0xb_8000n,
      limit: 0xffff,
    })
  })
})

describe('loading SS', () => {
  test.each<[string, 'protected' | 'ia32e', SegmentDescription, number, string]>([
    ['null in protected mode', 'protected', DATA, 0, '#GP(0x0)'],
    ['null in 64-bit mode', 'ia32e', DATA, 0, 'no fault'],
    ['null with another RPL', 'ia32e', DATA, 1, '#GP(0x0)'],
    ['code', 'protected', CODE32, 0x28, '#GP(0x28)'],
    ['data that is read-only', 'protected', { access: 0x91 }, 0x28, '#GP(0x28)'],
    ['another RPL', 'protected', DATA, 0x29, '#GP(0x28)'],
    ['another DPL', 'protected', { access: 0xf3 }, 0x28, '#GP(0x28)'],
    ['not there', 'protected', { access: 0x13 }, 0x28, '#SS(0x28)'],
    ['data that expands down', 'protected', { access: 0x97 }, 0x28, 'no fault'],
  ])('with %s', (_, mode, segment, selector, fault) => {
    const { cpu, describe: put } = segmentedMachine(mode)
    put(5, segment)
    expect(faultOf(() => loadSegmentRegister(cpu, Segment.SS, selector))).toBe(fault)
  })
})

describe('LTR and LLDT', () => {
  test('in IA-32e mode read 64 bits of base from a descriptor of 16 bytes', () => {
    const { cpu, machine, describeSystem } = segmentedMachine('ia32e')
    const selector = describeSystem(6, TSS, 0x89)
    machine.memory.write32(GDT + 7 * 8, 0xffff_8000)
    loadTaskRegister(cpu, selector)
    expect(cpu.taskRegister).toEqual({ selector, base: 0xffff_8000_0000_3000n, limit: 0x67 })
    expect(machine.memory.read8(GDT + 6 * 8 + 5)).toBe(0x8b)
  })

  test.each<[string, number, number, string]>([
    ['a null selector', 0, 0x89, '#GP(0x0)'],
    ['the LDT', 0x34, 0x89, '#GP(0x34)'],
    ['a busy one', 0x30, 0x8b, '#GP(0x30)'],
    ['one that is not there', 0x30, 0x09, '#NP(0x30)'],
    ['a segment of data', 0x30, 0x92, '#GP(0x30)'],
    ['a half of which is beyond the limit', 0xf8, 0x89, '#GP(0xf8)'],
  ])('LTR refuses %s', (_, selector, access, fault) => {
    const { cpu, describeSystem, describe: put } = segmentedMachine('ia32e')
    describeSystem(6, TSS, access)
    put(31, { access })
    expect(faultOf(() => loadTaskRegister(cpu, selector))).toBe(fault)
  })

  test('LLDT takes a null selector, which leaves no table', () => {
    const { cpu, describeSystem } = segmentedMachine('ia32e')
    loadLocalDescriptorTable(cpu, describeSystem(6, LDT, 0x82, 0xff))
    expect(cpu.ldtr).toMatchObject({ base: BigInt(LDT), limit: 0xff })
    loadLocalDescriptorTable(cpu, 0)
    expect(cpu.ldtr.rights).toBe(0)
    expect(faultOf(() => loadLocalDescriptorTable(cpu, 0x10))).toBe('#GP(0x10)')
  })
})

test('a register that was loaded has a level that the program could use, whatever the descriptor was', () => {
  const bytes = fc.integer({ min: 0, max: 0xff })
  fc.assert(
    fc.property(
      bytes,
      fc.integer({ min: 0, max: 3 }),
      fc.constantFrom(0, 3),
      (access, rpl, cpl) => {
        const { cpu, describe: put } = segmentedMachine('protected')
        const selector = put(5, { access, flags: 0xc }) | rpl
        cpu.cpl = cpl
        if (faultOf(() => loadSegmentRegister(cpu, Segment.DS, selector)) !== 'no fault') return
        const { rights } = cpu.segments[Segment.DS]!
        expect(rights & SegmentRights.Present).not.toBe(0)
        expect(rights & SegmentRights.CodeOrData).not.toBe(0)
        const privilege = (rights >>> SegmentRights.PrivilegeShift) & 3
        const isConforming = (access & 0xc) === 0xc
        expect(isConforming || privilege >= Math.max(cpl, rpl)).toBe(true)
      },
    ),
  )
})
