import type { Structure } from './reserved-bits.ts'
import type { TranslationState } from './translation.ts'

/** A processor's registers and model, as far as a translation depends on them. */
export interface RegisterState {
  readonly structure: Structure
  readonly physicalAddressBits: number
  readonly pse36: boolean
  readonly pages1G: boolean
  readonly amdGlobalBit: boolean
  readonly accessedFlags: 'lazy' | 'eager'
  readonly wp: boolean
  readonly nxe: boolean
  readonly pse: boolean
  readonly smep: boolean
  readonly smap: boolean
  /** EFLAGS.AC. */
  readonly ac: boolean
  /** The value of PKRU, or undefined where CR4.PKE = 0. */
  readonly pkru: number | undefined
  /** The value of IA32_PKRS, or undefined where CR4.PKS = 0. */
  readonly pkrs: number | undefined
}

/** 4-level paging with everything that the model may have and no protection turned on but CR0.WP and IA32_EFER.NXE. */
export const PLAIN_STATE: RegisterState = {
  structure: '4-level',
  physicalAddressBits: 46,
  pse36: true,
  pages1G: true,
  amdGlobalBit: false,
  accessedFlags: 'lazy',
  wp: true,
  nxe: true,
  pse: false,
  smep: false,
  smap: false,
  ac: false,
  pkru: undefined,
  pkrs: undefined,
}

/** What the registers mean in their paging mode: 32-bit paging has no XD flag, and protection keys need IA-32e mode (SDM Vol. 3, 4.6). */
export function translationState(registers: RegisterState): TranslationState {
  const longMode = registers.structure === '4-level' || registers.structure === '5-level'
  return {
    structure: registers.structure,
    physicalAddressBits: registers.physicalAddressBits,
    noExecute: registers.nxe,
    pageSizeExtensions: registers.pse,
    pse36: registers.pse36,
    pages1G: registers.pages1G,
    amdGlobalBit: registers.amdGlobalBit,
    writeProtect: registers.wp,
    executeDisable: registers.nxe && registers.structure !== '32-bit',
    smep: registers.smep,
    smap: registers.smap,
    alignmentCheck: registers.ac,
    userKeys: longMode ? registers.pkru : undefined,
    supervisorKeys: longMode ? registers.pkrs : undefined,
    accessedFlags: registers.accessedFlags,
  }
}
