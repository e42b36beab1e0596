import { type Cpu, CpuException, GeneralProtection, Machine } from '@trapdoor/core'

import type { Manuals } from '../runner/manuals.ts'
import {
  type ControlModel,
  type ControlRegisters,
  type ControlWrite,
  modeOf,
} from '../oracle/control-registers.ts'
import { PLAIN_STATE } from '../oracle/register-state.ts'
import { featuresOf } from '../trial/processor.ts'
import {
  DESTINATIONS,
  PAE_ROOT,
  pdptesLoadable,
  PROBE,
  ROOT,
  writeModeTables,
} from './mode-memory.ts'

/** Bits of CR4 that the CPU under test has: PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP, PKE, PKS, LASS. */
const CR4_BITS = [4, 5, 7, 12, 17, 20, 21, 22, 24, 27].reduce(
  (bits, bit) => bits | (1n << BigInt(bit)),
  0n,
)
/** SCE, LME, NXE. */
const EFER_BITS = (1n << 0n) | (1n << 8n) | (1n << 11n)

const PHYSICAL_ADDRESS_BITS = 46

/** As RESET leaves the registers: only ET is set (SDM Vol. 3, table 9-1; CD and NW are left to firmware). */
export const RESET_REGISTERS: ControlRegisters = {
  cr0: 0x10n,
  cr3: 0n,
  cr4: 0n,
  efer: 0n,
  csL: false,
}

/** A write by its name, such as "CR4.PAE", resolved against the registers at the time. */
export interface NamedWrite {
  readonly name: string
  resolve(registers: ControlRegisters): ControlWrite
}

/** A processor after RESET and the registers that the manuals say it has; both go the same way. */
export class ControlMachine {
  registers: ControlRegisters = RESET_REGISTERS
  readonly #cpu: Cpu
  readonly #model: ControlModel
  readonly #manuals: Manuals

  constructor(manuals: Manuals) {
    this.#manuals = manuals
    const features = featuresOf({ ...PLAIN_STATE, physicalAddressBits: PHYSICAL_ADDRESS_BITS })
    const machine = new Machine({ features, start: 'reset', auditTranslations: false })
    writeModeTables(machine.memory)
    this.#cpu = machine.bootCpu
    this.#model = {
      physicalAddressBits: PHYSICAL_ADDRESS_BITS,
      cr4Bits: CR4_BITS,
      eferBits: EFER_BITS,
      pdptesLoadable: (address) =>
        pdptesLoadable(machine.memory, Number(address), PHYSICAL_ADDRESS_BITS),
    }
  }

  /** Writes on both sides and tells how each ended: an exception or none, the registers, the mode, and where {@link PROBE} leads. */
  write(named: NamedWrite): { readonly expected: string; readonly found: string } {
    const write = named.resolve(this.registers)
    const after = this.#manuals.afterWrite(this.#model, this.registers, write)
    const found = this.#attempt(write)
    if (after !== undefined) this.registers = after
    return {
      expected: `${after === undefined ? '#GP ' : ''}${describeRegisters(this.registers)} ${this.#destination()}`,
      found: `${found}${this.#describeCpu()} ${this.#translate()}`,
    }
  }

  #attempt(write: ControlWrite): string {
    const cpu = this.#cpu
    try {
      switch (write.register) {
        case 'CR0':
          cpu.writeCr0(Number(write.value))
          break
        case 'CR3':
          cpu.writeCr3(write.value)
          break
        case 'CR4':
          cpu.writeCr4(Number(write.value))
          break
        case 'EFER':
          cpu.writeEfer(Number(write.value))
          break
        case 'CS.L':
          cpu.codeSegmentLong = write.value === 1n
      }
      return ''
    } catch (error) {
      if (error instanceof GeneralProtection) return '#GP '
      throw error
    }
  }

  #describeCpu(): string {
    const { cr0, cr3, cr4, efer, codeSegmentLong: csL, mode } = this.#cpu
    const registers = {
      cr0: BigInt(cr0 >>> 0),
      cr3: BigInt(cr3),
      cr4: BigInt(cr4 >>> 0),
      efer: BigInt(efer),
      csL,
    }
    return describeValues(registers, mode.name)
  }

  #destination(): string {
    const { cr4, efer } = this.registers
    const fault = this.#manuals.linearAddressFault(
      {
        ia32e: (efer & (1n << 10n)) !== 0n,
        linearBits: (cr4 & (1n << 12n)) === 0n ? 48 : 57,
        lass: (cr4 & (1n << 27n)) !== 0n,
        smap: (cr4 & (1n << 21n)) !== 0n,
        alignmentCheck: false,
      },
      PROBE,
      0,
      false,
    )
    if (fault !== undefined) return fault
    const mode = modeOf(this.registers)
    const { cr3 } = this.registers
    const tables =
      mode === 'PAE' ? cr3 >> 5n === BigInt(PAE_ROOT >> 5) : cr3 >> 12n === BigInt(ROOT >> 12)
    // Elsewhere memory is empty.
    return mode === 'off' || tables ? DESTINATIONS[mode].toString(16) : '#PF'
  }

  #translate(): string {
    this.#cpu.mmu.flushAll()
    try {
      return this.#cpu.translate(PROBE, 'read').toString(16)
    } catch (error) {
      if (error instanceof CpuException) return error.mnemonic
      throw error
    }
  }
}

function describeValues(registers: ControlRegisters, mode: string): string {
  const { cr0, cr3, cr4, efer, csL } = registers
  return `${mode}: CR0=${cr0.toString(16)} CR3=${cr3.toString(16)} CR4=${cr4.toString(16)} EFER=${efer.toString(16)}${csL ? ' CS.L' : ''}, probe →`
}

/** The registers and their mode, in words. */
export function describeRegisters(registers: ControlRegisters): string {
  return describeValues(registers, modeOf(registers))
}
