import { describe, expect, test } from 'vitest'
import {
  BROADWELL,
  CR3_KEEP_TRANSLATIONS,
  Cr4,
  Efer,
  GeneralProtection,
  InvalidOpcode,
  Machine,
  NEHALEM,
  phys,
  PageTableBuilder,
  virt,
} from '../src/index.ts'

const LOCAL = virt(0x40_0000_0000n)
const GLOBAL = virt(0xffff_8000_0000_0000n)

/** Two address spaces in contexts 1 and 2 that map the same addresses elsewhere; the global page is the same in both. */
function twoContexts() {
  const machine = new Machine({ features: BROADWELL })
  const cpu = machine.bootCpu
  let next = 0x200
  const [one, two] = [0x10_0000, 0x11_0000].map((root, at) => {
    const tables = new PageTableBuilder(machine.memory, phys(root), () => next++)
    tables.mapRange(LOCAL, phys(0x20_0000 + at * 0x10_0000), 4096)
    tables.mapRange(GLOBAL, phys(0x50_0000), 4096, { global: true })
    return tables
  })
  cpu.writeCr3(one!.root)
  cpu.writeEfer(cpu.efer | Efer.NXE)
  cpu.writeCr4(cpu.cr4 | Cr4.PGE | Cr4.PCIDE)
  const first = BigInt(one!.root) | 1n
  const second = BigInt(two!.root) | 2n
  cpu.writeCr3(first)
  cpu.read8(LOCAL)
  cpu.read8(GLOBAL)
  cpu.writeCr3(second)
  cpu.read8(LOCAL)
  return { machine, cpu, one: one!, two: two!, first, second }
}

describe('a process context', () => {
  test('keeps its translations while another is current, and has them again without a walk', () => {
    const { cpu, first } = twoContexts()
    cpu.writeCr3(first | CR3_KEEP_TRANSLATIONS)
    const misses = cpu.counters.tlbMisses
    expect(cpu.translate(LOCAL, 'read')).toBe(0x20_0000)
    expect(cpu.counters.tlbMisses).toBe(misses)
    expect([cpu.cr3, cpu.root]).toEqual([0x10_0001, 0x10_0000])
  })

  test('loses them where CR3 is loaded without bit 63, but for global ones', () => {
    const { cpu, first } = twoContexts()
    cpu.writeCr3(first)
    expect(cpu.tlb.peek(LOCAL)).toBeUndefined()
    expect(cpu.tlb.peek(GLOBAL)).toBeDefined()
  })

  test('does not see what another holds', () => {
    const { cpu } = twoContexts()
    expect(cpu.translate(LOCAL, 'read')).toBe(0x30_0000)
    expect(new Set([...cpu.tlb.held()].map(({ pcid }) => pcid))).toEqual(new Set([1, 2, undefined]))
  })
})

describe('INVPCID', () => {
  const held = ({ cpu, first }: ReturnType<typeof twoContexts>): boolean[] => {
    const here = cpu.tlb.peek(LOCAL) !== undefined
    cpu.writeCr3(first | CR3_KEEP_TRANSLATIONS)
    return [cpu.tlb.peek(LOCAL) !== undefined, here, cpu.tlb.peek(GLOBAL) !== undefined]
  }

  test.each([
    ['0 drops one page of one context', 0, 1, LOCAL, [false, true, true]],
    ['0 leaves global translations', 0, 1, GLOBAL, [true, true, true]],
    ['1 drops one context', 1, 2, 0n, [true, false, true]],
    ['2 drops everything', 2, 0, 0n, [false, false, false]],
    ['3 drops everything but global translations', 3, 0, 0n, [false, false, true]],
  ] as const)('type %s', (_, type, pcid, address, expected) => {
    const world = twoContexts()
    world.cpu.invpcid(type, pcid, address)
    expect(held(world)).toEqual(expected)
  })

  test('refuses a PCID of more than 12 bits, and for type 0 an address that is not canonical', () => {
    const { cpu } = twoContexts()
    expect(() => {
      cpu.invpcid(1, 4096, 0n)
    }).toThrow(GeneralProtection)
    expect(() => {
      cpu.invpcid(0, 1, 1n << 60n)
    }).toThrow(GeneralProtection)
  })

  test('is #UD on a CPU without it', () => {
    const { bootCpu } = new Machine({ features: NEHALEM })
    expect(() => {
      bootCpu.invpcid(2, 0, 0n)
    }).toThrow(InvalidOpcode)
  })
})

describe('CR4.PCIDE', () => {
  test('cannot be set while CR3 has bits below 12, nor outside of IA-32e mode', () => {
    const machine = new Machine({ features: BROADWELL })
    machine.bootCpu.writeCr3(0x10_0018)
    expect(() => {
      machine.bootCpu.writeCr4(Cr4.PAE | Cr4.PCIDE)
    }).toThrow(GeneralProtection)
    const { bootCpu } = new Machine({ features: BROADWELL, start: 'reset' })
    expect(() => {
      bootCpu.writeCr4(Cr4.PCIDE)
    }).toThrow(GeneralProtection)
  })

  test('when cleared drops every translation', () => {
    const { cpu } = twoContexts()
    cpu.writeCr4(cpu.cr4 & ~Cr4.PCIDE)
    expect(cpu.tlb.size).toBe(0)
  })

  test('without it bit 63 of CR3 is reserved', () => {
    const { bootCpu } = new Machine({ features: BROADWELL })
    expect(() => {
      bootCpu.writeCr3(CR3_KEEP_TRANSLATIONS | 0x10_0000n)
    }).toThrow(GeneralProtection)
  })
})

test('INVPCID counts as a flush of everything where it is one', () => {
  const { cpu } = twoContexts()
  const counted = ([1, 3, 2] as const).map((type) => {
    const before = cpu.counters.globalFlushes
    cpu.invpcid(type, 0, 0n)
    return cpu.counters.globalFlushes - before
  })
  expect(counted).toEqual([0, 0, 1])
})
