import { expect, test } from 'vitest'
import {
  CoreError,
  Cr0,
  Cr4,
  Efer,
  GeneralProtection,
  type Machine,
  NEHALEM,
  PAGING_OFF,
} from '../src/index.ts'
import { mappedMachine } from './mapped-machine.ts'

const exceptions = (machine: Machine): string[] =>
  machine.log.events.flatMap((event) => (event.kind === 'exception' ? [event.mnemonic] : []))

test('a root above MAXPHYADDR is a general protection fault, and CR3 keeps its value', () => {
  const { machine, cpu } = mappedMachine({ features: NEHALEM })
  const before = cpu.cr3
  expect(() => {
    cpu.writeCr3(2 ** 40)
  }).toThrow(GeneralProtection)
  expect(cpu.cr3).toBe(before)
  expect(exceptions(machine)).toEqual(['#GP'])
  cpu.writeCr3(2 ** 40 - 4096)
  expect(cpu.cr3).toBe(2 ** 40 - 4096)
})

test.each([-4096, 1.5, 2 ** 60])(
  'a root of %d, which no register can hold, is an error of the caller',
  (root) => {
    const { cpu } = mappedMachine()
    expect(() => {
      cpu.writeCr3(root)
    }).toThrow(CoreError)
  },
)

test.each([
  ['SMEP', Cr4.SMEP],
  ['SMAP', Cr4.SMAP],
])('%s on a CPU without it is a general protection fault', (_, bit) => {
  const { cpu } = mappedMachine({ features: NEHALEM })
  expect(() => {
    cpu.writeCr4(Cr4.PAE | bit)
  }).toThrow(GeneralProtection)
  expect(cpu.cr4).toBe(Cr4.PAE)
})

test.each([
  ['PCIDs', Cr4.PCIDE],
  ['5-level paging', Cr4.LA57],
  ['protection keys', Cr4.PKE],
])('%s cannot be turned on where the CPU has none', (_, bit) => {
  const { cpu } = mappedMachine({ features: NEHALEM })
  expect(() => {
    cpu.writeCr4(Cr4.PAE | bit)
  }).toThrow(GeneralProtection)
})

test('PAE cannot be cleared in long mode', () => {
  const { cpu } = mappedMachine()
  expect(() => {
    cpu.writeCr4(0)
  }).toThrow(GeneralProtection)
})

test('NXE on a CPU without no-execute pages is a general protection fault', () => {
  const { cpu } = mappedMachine({ features: { ...NEHALEM, nx: false } })
  expect(() => {
    cpu.writeEfer(Efer.LME | Efer.NXE)
  }).toThrow(GeneralProtection)
})

test('LME cannot be cleared while paging is on', () => {
  const { cpu } = mappedMachine()
  expect(() => {
    cpu.writeEfer(Efer.NXE)
  }).toThrow(GeneralProtection)
})

test('LMA is the processor’s to set', () => {
  const { cpu } = mappedMachine()
  cpu.writeEfer(Efer.LME)
  expect(cpu.efer).toBe(Efer.LME | Efer.LMA)
})

test('64-bit mode cannot switch paging off, compatibility mode can', () => {
  const { cpu } = mappedMachine()
  expect(() => {
    cpu.writeCr0(Cr0.PE | Cr0.WP)
  }).toThrow(GeneralProtection)
  cpu.codeSegmentLong = false
  cpu.writeCr0(Cr0.PE | Cr0.WP)
  expect(cpu.mode).toBe(PAGING_OFF)
  expect(cpu.efer & Efer.LMA).toBe(0)
})
