import { BROADWELL, type Cpu, type CpuFeatures, Cr0, Cr4, Efer, Machine } from '@trapdoor/core'

import type { RegisterState } from '../oracle/register-state.ts'

/** How a machine under test is built, beside what its CPU model must have. */
export interface ProcessorOptions {
  /** Bytes of flat memory. */
  readonly flatWindow?: number
  readonly auditTranslations?: boolean
  readonly structureCaches?: boolean
  /** Features to leave out or add. */
  readonly features?: Partial<CpuFeatures>
}

/** The CPU model that has what `state` names, and otherwise everything. */
export function featuresOf(state: RegisterState, changes: Partial<CpuFeatures> = {}): CpuFeatures {
  return {
    ...BROADWELL,
    name: 'conformance',
    maxPhysicalAddressBits: state.physicalAddressBits,
    pse36: state.pse36,
    pages1G: state.pages1G,
    nonLeafGlobalReserved: state.amdGlobalBit,
    la57: true,
    pku: true,
    pks: true,
    lass: true,
    ...changes,
  }
}

function bitIf(flag: boolean, bit: number): number {
  return flag ? bit : 0
}

function machineFor(state: RegisterState, options: ProcessorOptions): Machine {
  return new Machine({
    features: featuresOf(state, options.features),
    start: 'reset',
    accessedFlags: state.accessedFlags,
    auditTranslations: options.auditTranslations ?? false,
    structureCaches: options.structureCaches ?? true,
    ...(options.flatWindow === undefined ? {} : { flatWindow: options.flatWindow }),
  })
}

/**
 * A processor of @trapdoor/core that is led from RESET into the paging mode of a state, as software does it, and from there into other states of that
 * mode. `root` is what CR3 gets.
 */
export class Processor {
  readonly machine: Machine
  readonly cpu: Cpu
  readonly features: CpuFeatures
  #state: RegisterState

  constructor(state: RegisterState, root: number, options: ProcessorOptions = {}) {
    this.machine = machineFor(state, options)
    this.cpu = this.machine.bootCpu
    this.features = this.machine.features
    this.#state = state
    const { cpu } = this
    cpu.writeCr0(cpu.cr0 | Cr0.PE)
    this.#writeCr4(state, false)
    const longMode = state.structure === '4-level' || state.structure === '5-level'
    cpu.writeEfer((longMode ? Efer.LME : 0) | (state.nxe ? Efer.NXE : 0))
    // Before 64-bit mode a MOV to CR3 has 32 bits.
    const reachable = root < 2 ** 32
    if (reachable) cpu.writeCr3(root)
    cpu.writeCr0((Cr0.PG | Cr0.PE | Cr0.ET | (state.wp ? Cr0.WP : 0)) >>> 0)
    if (longMode) cpu.codeSegmentLong = true
    if (!reachable) cpu.writeCr3(root)
    this.#writeKeys(state)
    cpu.alignmentCheck = state.ac
  }

  get state(): RegisterState {
    return this.#state
  }

  /** Writes the registers in which `state` differs. Mode and model stay. */
  apply(state: RegisterState): void {
    const { cpu } = this
    if (state.structure !== this.#state.structure)
      throw new Error('a processor keeps its paging mode')
    this.#state = state
    const cr0 = (state.wp ? cpu.cr0 | Cr0.WP : cpu.cr0 & ~Cr0.WP) >>> 0
    if (cr0 !== cpu.cr0 >>> 0) cpu.writeCr0(cr0)
    const efer = state.nxe ? cpu.efer | Efer.NXE : cpu.efer & ~Efer.NXE
    if (efer !== cpu.efer) cpu.writeEfer(efer)
    this.#writeKeys(state)
    cpu.alignmentCheck = state.ac
  }

  #writeKeys(state: RegisterState): void {
    const { cpu } = this
    // With CR4.PKE clear the register is full of denials, which must not count.
    if (this.features.pku) {
      this.#writeCr4(state, true)
      cpu.writePkru(state.pkru ?? 0xffff_ffff)
    }
    if (this.features.pks) cpu.writePkrs(state.pkrs ?? 0xffff_ffff)
    this.#writeCr4(state, state.pkru !== undefined)
  }

  #writeCr4(state: RegisterState, pke: boolean): void {
    const { cpu } = this
    const kept = cpu.cr4 & (Cr4.PGE | Cr4.PCIDE | Cr4.LASS)
    const value =
      kept |
      bitIf(state.structure !== '32-bit', Cr4.PAE) |
      bitIf(state.structure === '5-level', Cr4.LA57) |
      bitIf(state.pse, Cr4.PSE) |
      bitIf(state.smep, Cr4.SMEP) |
      bitIf(state.smap, Cr4.SMAP) |
      bitIf(pke, Cr4.PKE) |
      bitIf(state.pkrs !== undefined, Cr4.PKS)
    if (value !== cpu.cr4) cpu.writeCr4(value)
  }
}
