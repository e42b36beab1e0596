import { pagingMode } from '../paging/mode.ts'
import { Cr0, Cr4, Efer } from './control.ts'
import type { CpuFeatures } from './features.ts'

/** The registers that rule each other's writes. */
export interface ControlState {
  readonly cr0: number
  /** Without bit 63. */
  readonly cr3: number
  readonly cr4: number
  readonly efer: number
  /** CS.L: the code segment is a 64-bit one, which counts in IA-32e mode. */
  readonly codeSegmentLong: boolean
}

/**
 * Bits of CR4 that paging does not look at, whatever the CPU: VME, PVI, TSD, DE, MCE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE. VMXE and SMXE are reserved, as no CPU here has VMX or SMX.
 * LAM would matter and is not modelled, so that it is refused; CET is there for indirect-branch tracking alone.
 */
const CR4_OTHER = 0x5_0f4f
/** The bits that CR0 has, those that do not matter to paging (MP, EM, TS, ET, NE, AM) among them: others are not stored. */
export const CR0_BITS: number = Cr0.PE | Cr0.WP | Cr0.NW | Cr0.CD | Cr0.PG | 0x4_003e
/** Bit 63 of the operand of a MOV to CR3: the translations of the new context are kept (SDM Vol. 3, 4.10.4.1). */
export const CR3_KEEP_TRANSLATIONS: bigint = 1n << 63n
/** CR3 bits 11 to 0 where CR4.PCIDE is set. */
export const PCID_MASK = 0xfff

/** Why a MOV to CR0 is #GP(0), or undefined where it is not (SDM Vol. 2, MOV to control registers; Vol. 3, 4.1.2). A negative `value` is a signed 32-bit one. */
export function refuseCr0(state: ControlState, value: number): string | undefined {
  if (value < -(2 ** 31) || value >= 2 ** 32) return 'CR0 has 32 bits'
  if ((value & Cr0.PG) !== 0 && (value & Cr0.PE) === 0) return 'CR0.PG needs CR0.PE'
  if ((value & Cr0.WP) === 0 && (state.cr4 & Cr4.CET) !== 0) return 'CR4.CET needs CR0.WP'
  if ((value & Cr0.NW) !== 0 && (value & Cr0.CD) === 0) return 'CR0.NW needs CR0.CD'
  const isPagingOn = (state.cr0 & Cr0.PG) !== 0
  const willPage = (value & Cr0.PG) !== 0
  if (!isPagingOn && willPage && (state.efer & Efer.LME) !== 0) {
    if ((state.cr4 & Cr4.PAE) === 0) return 'IA-32e mode needs CR4.PAE'
    if (state.codeSegmentLong) return 'IA-32e mode is entered from a segment with CS.L clear'
  }
  if (isPagingOn && !willPage) {
    if ((state.cr4 & Cr4.PCIDE) !== 0) return 'CR0.PG cannot be cleared while CR4.PCIDE is set'
    if ((state.efer & Efer.LMA) !== 0 && state.codeSegmentLong) {
      return '64-bit mode cannot switch paging off'
    }
  }
  return undefined
}

/** Why a MOV to CR3 is #GP(0): `value` is the operand's low 63 bits. The PDPTEs of PAE paging are another matter. */
export function refuseCr3(features: CpuFeatures, value: bigint): string | undefined {
  return value >> BigInt(features.maxPhysicalAddressBits) === 0n
    ? undefined
    : `CR3 has no bits above MAXPHYADDR (${features.maxPhysicalAddressBits})`
}

/** Why a MOV to CR4 is #GP(0). */
export function refuseCr4(
  state: ControlState,
  features: CpuFeatures,
  value: number,
): string | undefined {
  const known =
    CR4_OTHER |
    (features.pse ? Cr4.PSE : 0) |
    (features.pae ? Cr4.PAE : 0) |
    (features.pge ? Cr4.PGE : 0) |
    (features.la57 ? Cr4.LA57 : 0) |
    (features.pcid ? Cr4.PCIDE : 0) |
    (features.smep ? Cr4.SMEP : 0) |
    (features.smap ? Cr4.SMAP : 0) |
    (features.pku ? Cr4.PKE : 0) |
    (features.pks ? Cr4.PKS : 0) |
    (features.lass ? Cr4.LASS : 0) |
    (features.ibt ? Cr4.CET : 0)
  if (value < 0 || value >= 2 ** 32 || (value & ~known) !== 0) return 'CR4 has no such bits here'
  const changed = value ^ state.cr4
  const isLongMode = (state.efer & Efer.LMA) !== 0
  if ((value & Cr4.CET) !== 0 && (state.cr0 & Cr0.WP) === 0) return 'CR4.CET needs CR0.WP'
  if (isLongMode && (value & Cr4.PAE) === 0) return 'IA-32e mode needs CR4.PAE'
  if (isLongMode && (changed & Cr4.LA57) !== 0) return 'CR4.LA57 cannot change in IA-32e mode'
  if ((changed & value & Cr4.PCIDE) !== 0) {
    if (!isLongMode) return 'CR4.PCIDE needs IA-32e mode'
    if ((state.cr3 & PCID_MASK) !== 0) return 'CR4.PCIDE needs CR3 bits 11 to 0 clear'
  }
  return undefined
}

/** Why a WRMSR to IA32_EFER is #GP(0). LMA is read-only: what is written there does not count. */
export function refuseEfer(
  state: ControlState,
  features: CpuFeatures,
  value: number,
): string | undefined {
  const known =
    Efer.SCE | Efer.LMA | (features.longMode ? Efer.LME : 0) | (features.nx ? Efer.NXE : 0)
  if (value < 0 || value >= 2 ** 32 || (value & ~known) !== 0) return 'EFER has no such bits here'
  if ((state.cr0 & Cr0.PG) !== 0 && ((value ^ state.efer) & Efer.LME) !== 0) {
    return 'EFER.LME cannot change while paging is on'
  }
  return undefined
}

/** Whether a write to CR0 or CR4 makes a CPU in PAE paging load its PDPTEs again (SDM Vol. 3, 4.4.1). */
export function reloadsPdptes(before: ControlState, after: ControlState): boolean {
  if (!pagingMode(after.cr0, after.cr4, after.efer).rootInRegisters) return false
  return (
    ((before.cr0 ^ after.cr0) & (Cr0.CD | Cr0.NW | Cr0.PG)) !== 0 ||
    ((before.cr4 ^ after.cr4) & (Cr4.PAE | Cr4.PGE | Cr4.PSE | Cr4.SMEP)) !== 0
  )
}
