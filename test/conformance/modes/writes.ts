import type { ControlRegisters } from '../oracle/control-registers.ts'
import type { NamedWrite } from './control-machine.ts'
import { PAE_ROOT, ROOT } from './mode-memory.ts'

function toggle(register: 'CR0' | 'CR4' | 'EFER', name: string, bit: number): NamedWrite {
  const key = register.toLowerCase() as 'cr0' | 'cr4' | 'efer'
  return {
    name: `${register}.${name}`,
    resolve: (registers) => ({ register, value: registers[key] ^ (1n << BigInt(bit)) }),
  }
}

function root(name: string, value: (registers: ControlRegisters) => bigint): NamedWrite {
  return {
    name: `CR3=${name}`,
    resolve: (registers) => ({ register: 'CR3', value: value(registers) }),
  }
}

/** Whether a MOV to CR3 has 64 bits. */
function has64Bits(registers: ControlRegisters): boolean {
  return registers.csL && (registers.efer & (1n << 10n)) !== 0n
}

/** Writes that choose the mode, and those that matter to whether it may be chosen. */
export const MODE_WRITES: readonly NamedWrite[] = [
  toggle('CR0', 'PE', 0),
  toggle('CR0', 'PG', 31),
  toggle('CR4', 'PAE', 5),
  toggle('EFER', 'LME', 8),
  { name: 'CS.L', resolve: (registers) => ({ register: 'CS.L', value: registers.csL ? 0n : 1n }) },
  toggle('CR4', 'LA57', 12),
  toggle('CR4', 'PCIDE', 17),
  toggle('CR4', 'PSE', 4),
  root('root', () => BigInt(ROOT)),
  root('root of PAE', () => BigInt(PAE_ROOT)),
  toggle('EFER', 'NXE', 11),
]

/** All of them and the writes that change no mode, or are refused in every one. */
export const ALL_WRITES: readonly NamedWrite[] = [
  ...MODE_WRITES,
  root('root with PWT and PCD', () => BigInt(ROOT | 0x18)),
  root('root, bit 63', (registers) => BigInt(ROOT) | (has64Bits(registers) ? 1n << 63n : 0n)),
  root('bit M', (registers) => BigInt(ROOT) | (has64Bits(registers) ? 1n << 46n : 0n)),
  root('bit 62', (registers) => BigInt(ROOT) | (has64Bits(registers) ? 1n << 62n : 0n)),
  toggle('CR0', 'WP', 16),
  toggle('CR0', 'NW', 29),
  toggle('CR0', 'CD', 30),
  toggle('CR4', 'PGE', 7),
  toggle('CR4', 'SMEP', 20),
  toggle('CR4', 'SMAP', 21),
  toggle('CR4', 'PKE', 22),
  toggle('CR4', 'PKS', 24),
  toggle('CR4', 'LASS', 27),
  toggle('CR4', 'reserved bit 15', 15),
  toggle('CR4', 'reserved bit 31', 31),
  toggle('EFER', 'reserved bit 1', 1),
  toggle('EFER', 'reserved bit 9', 9),
  toggle('EFER', 'LMA', 10),
]
