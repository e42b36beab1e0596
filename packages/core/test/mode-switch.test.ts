import { describe, expect, test } from 'vitest'
import {
  BITS_32,
  BITS_32_PSE,
  BROADWELL,
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  FIVE_LEVEL,
  FOUR_LEVEL,
  GeneralProtection,
  inspectAddress,
  physicalAt,
  Machine,
  PAE,
  PAGING_OFF,
  pagingMode,
  PdpteRegisters,
  StackFault,
} from '../src/index.ts'

/** A CPU after RESET that has everything, with paging structures of each mode that map linear 0x40_0000 up to physical 0x80_0000. */
function atReset(features = { ...BROADWELL, la57: true }): { machine: Machine; cpu: Cpu } {
  const machine = new Machine({ features, start: 'reset' })
  const { memory } = machine
  // 32-bit: page directory at 0x1000, table at 0x2000, and a 4 MiB page for PSE at 0x80_0000.
  memory.write32(0x1004, 0x2003)
  memory.write32(0x2000, 0x80_0003)
  memory.write32(0x1008, 0xc0_0083)
  // PAE: pointer table at 0x3020, directory at 0x4000.
  memory.write64(0x3020, 0x4001n)
  memory.write64(0x4010, 0x80_0083n)
  // 4-level at 0x5000, 5-level at 0x8000.
  memory.write64(0x8000, 0x5003n)
  memory.write64(0x5000, 0x6003n)
  memory.write64(0x6000, 0x7003n)
  memory.write64(0x7010, 0x80_0083n)
  return { machine, cpu: machine.bootCpu }
}

/** From RESET to 64-bit mode, in the order of SDM Vol. 3, 10.8.5. */
function toLongMode(cpu: Cpu, root: number, cr4 = 0): void {
  cpu.writeCr0(Cr0.PE)
  cpu.writeCr4(Cr4.PAE | cr4)
  cpu.writeCr3(root)
  cpu.writeEfer(Efer.LME)
  cpu.writeCr0(Cr0.PE | Cr0.PG)
  cpu.codeSegmentLong = true
}

describe('a CPU after RESET', () => {
  test('translates nothing: linear addresses are physical ones', () => {
    const { cpu } = atReset()
    expect(cpu.mode).toBe(PAGING_OFF)
    expect(cpu.translate(0xffff_f123n, 'execute')).toBe(0xffff_f123)
    expect(inspectAddress(cpu.translationContext(), 0x1234n)).toMatchObject({
      status: 'mapped',
      physical: 0x1234,
      steps: [],
    })
    expect(physicalAt(cpu.translationContext(), 0x1234n)).toBe(0x1234)
  })

  test('has no linear addresses above 32 bits', () => {
    const { cpu } = atReset()
    expect(() => cpu.translate(2n ** 32n, 'read')).toThrow(GeneralProtection)
  })
})

describe('switching paging on', () => {
  test.each([
    { name: '32-bit', mode: BITS_32, cr3: 0x1000, cr4: 0 },
    { name: '32-bit with 4 MiB pages', mode: BITS_32_PSE, cr3: 0x1000, cr4: Cr4.PSE },
    { name: 'PAE', mode: PAE, cr3: 0x3020, cr4: Cr4.PAE },
  ])('$name', ({ mode, cr3, cr4 }) => {
    const { cpu } = atReset()
    cpu.writeCr0(Cr0.PE)
    cpu.writeCr3(cr3)
    cpu.writeCr4(cr4)
    cpu.writeCr0(Cr0.PE | Cr0.PG)
    expect(cpu.mode).toBe(mode)
    expect(pagingMode(cpu.cr0, cpu.cr4, cpu.efer)).toBe(mode)
    expect(cpu.translate(0x40_0abcn, 'read')).toBe(0x80_0abc)
  })

  test('64-bit mode with four levels, and with five', () => {
    for (const { root, cr4, mode } of [
      { root: 0x5000, cr4: 0, mode: FOUR_LEVEL },
      { root: 0x8000, cr4: Cr4.LA57, mode: FIVE_LEVEL },
    ]) {
      const { cpu } = atReset()
      toLongMode(cpu, root, cr4)
      expect(cpu.mode).toBe(mode)
      expect(cpu.efer).toBe(Efer.LME | Efer.LMA)
      expect(cpu.translate(0x40_0abcn, 'read')).toBe(0x80_0abc)
    }
  })

  test('a page of 4 MiB is one only with CR4.PSE', () => {
    const { cpu } = atReset()
    cpu.writeCr3(0x1000)
    cpu.writeCr4(Cr4.PSE)
    cpu.writeCr0(Cr0.PE | Cr0.PG)
    expect(cpu.translate(0x87_6543n, 'read')).toBe(0xc7_6543)
    cpu.writeCr4(0)
    // Now the entry points to a table, at 0xc0_0000.
    cpu.writeCr3(0x1000)
    expect(() => cpu.translate(0x87_6543n, 'read')).toThrow(
      expect.objectContaining({ errorCode: 0 }),
    )
  })

  test.each([
    [
      'without protected mode',
      (cpu: Cpu): void => {
        cpu.writeCr0(Cr0.PG)
      },
    ],
    [
      'NW without CD',
      (cpu: Cpu): void => {
        cpu.writeCr0(Cr0.PE | Cr0.NW)
      },
    ],
    [
      'IA-32e mode without PAE',
      (cpu: Cpu) => {
        cpu.writeEfer(Efer.LME)
        cpu.writeCr0(Cr0.PE | Cr0.PG)
      },
    ],
    [
      'IA-32e mode from a 64-bit code segment',
      (cpu: Cpu) => {
        cpu.writeEfer(Efer.LME)
        cpu.writeCr4(Cr4.PAE)
        cpu.codeSegmentLong = true
        cpu.writeCr0(Cr0.PE | Cr0.PG)
      },
    ],
    [
      'PCIDs before IA-32e mode',
      (cpu: Cpu): void => {
        cpu.writeCr4(Cr4.PCIDE)
      },
    ],
    [
      'a bit of CR4 that the CPU lacks',
      (cpu: Cpu): void => {
        cpu.writeCr4(Cr4.PKS)
      },
    ],
    [
      'a bit of EFER that nobody has',
      (cpu: Cpu): void => {
        cpu.writeEfer(2)
      },
    ],
  ])('is refused: %s', (_, write) => {
    const { cpu } = atReset()
    expect(() => {
      write(cpu)
    }).toThrow(GeneralProtection)
  })
})

describe('in IA-32e mode', () => {
  test.each([
    [
      'PAE cannot be cleared',
      (cpu: Cpu): void => {
        cpu.writeCr4(0)
      },
    ],
    [
      'LA57 cannot change',
      (cpu: Cpu): void => {
        cpu.writeCr4(Cr4.PAE | Cr4.LA57)
      },
    ],
    [
      'LME cannot be cleared',
      (cpu: Cpu): void => {
        cpu.writeEfer(0)
      },
    ],
    [
      '64-bit code cannot switch paging off',
      (cpu: Cpu): void => {
        cpu.writeCr0(Cr0.PE)
      },
    ],
    [
      'paging cannot be switched off with PCIDs on',
      (cpu: Cpu) => {
        cpu.writeCr4(Cr4.PAE | Cr4.PCIDE)
        cpu.codeSegmentLong = false
        cpu.writeCr0(Cr0.PE)
      },
    ],
  ])('%s', (_, write) => {
    const { cpu } = atReset()
    toLongMode(cpu, 0x5000)
    expect(() => {
      write(cpu)
    }).toThrow(GeneralProtection)
  })

  test('the way from four levels to five leads through paging off', () => {
    const { cpu } = atReset()
    toLongMode(cpu, 0x5000)
    cpu.read8(0x40_0000n)
    cpu.codeSegmentLong = false
    cpu.writeCr0(Cr0.PE)
    expect([cpu.mode, cpu.efer, cpu.tlb.size]).toEqual([PAGING_OFF, Efer.LME, 0])
    cpu.writeCr4(Cr4.PAE | Cr4.LA57)
    cpu.writeCr3(0x8000)
    cpu.writeCr0(Cr0.PE | Cr0.PG)
    cpu.codeSegmentLong = true
    expect(cpu.mode).toBe(FIVE_LEVEL)
    expect(cpu.translate(0x40_0000n, 'read')).toBe(0x80_0000)
  })

  test('with five levels an address has 57 bits, and one beyond them is #GP, or #SS on the stack', () => {
    const { cpu } = atReset()
    toLongMode(cpu, 0x8000, Cr4.LA57)
    expect(() => cpu.read8(1n << 48n)).toThrow(expect.objectContaining({ mnemonic: '#PF' }))
    expect(() => cpu.read8(1n << 57n)).toThrow(GeneralProtection)
    expect(() => cpu.translate(1n << 57n, 'write', { stack: true })).toThrow(StackFault)
  })
})

function inPae(): { machine: Machine; cpu: Cpu } {
  const { machine, cpu } = atReset()
  cpu.writeCr3(0x3020)
  cpu.writeCr4(Cr4.PAE)
  cpu.writeCr0(Cr0.PE | Cr0.PG)
  return { machine, cpu }
}

describe('the PDPTE registers', () => {
  test('keep what CR3 loaded, whatever memory says afterwards', () => {
    const { machine, cpu } = inPae()
    machine.memory.write64(0x3020, 0n)
    expect(cpu.translate(0x40_0000n, 'read')).toBe(0x80_0000)
    // The inspector reads memory.
    expect(inspectAddress(cpu.translationContext(), 0x40_0000n).status).toBe('not-present')
    cpu.writeCr3(0x3020)
    expect(() => cpu.translate(0x40_0000n, 'read')).toThrow(
      expect.objectContaining({ errorCode: 0 }),
    )
  })

  test('are loaded again by a change of CR4.PGE', () => {
    const { machine, cpu } = inPae()
    machine.memory.write64(0x3020, 0n)
    cpu.writeCr4(Cr4.PAE | Cr4.PGE)
    expect(() => cpu.translate(0x40_0000n, 'read')).toThrow(
      expect.objectContaining({ errorCode: 0 }),
    )
  })

  test.each([1n << 1n, 1n << 5n, 1n << 8n, 1n << 46n, 1n << 63n])(
    'are not loaded with a reserved bit in a present entry: 0x%s',
    (bit) => {
      const { machine, cpu } = inPae()
      machine.memory.write64(0x3028, 0x4001n | bit)
      expect(() => {
        cpu.writeCr3(0x3020)
      }).toThrow(GeneralProtection)
      expect(PdpteRegisters.load(machine.memory, 0x3020, machine.features)).toBeUndefined()
      machine.memory.write64(0x3028, 0x4000n | bit)
      cpu.writeCr3(0x3020)
      expect(PdpteRegisters.read(machine.memory, 0x3020).pathEntry(1).low & 1).toBe(0)
    },
  )

  test('have no rights of their own and no accessed flag', () => {
    const { machine, cpu } = inPae()
    machine.memory.write64(0x4010, 0x80_0087n)
    cpu.writeCr0(Cr0.PE | Cr0.PG | Cr0.WP)
    cpu.cpl = 3
    expect(cpu.translate(0x40_0000n, 'write')).toBe(0x80_0000)
    expect(machine.memory.read64(0x3020)).toBe(0x4001n)
    expect(machine.memory.read64(0x4010)).toBe(0x80_00e7n)
  })
})
