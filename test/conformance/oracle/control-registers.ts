/**
 * Which writes to CR0, CR3, CR4 and IA32_EFER raise #GP(0), and what paging mode the registers select: SDM Vol. 2, MOV to control registers, and
 * WRMSR; Vol. 3, 2.5 (bits of the registers), 4.1.1 and 4.1.2 (paging modes and changes between them), 4.4.1 (PDPTEs), 9.8.5
 * (entering and leaving IA-32e mode).
 */

const CR0_PE = 1n << 0n
const CR0_NW = 1n << 29n
const CR0_CD = 1n << 30n
const CR0_PG = 1n << 31n
const CR4_PSE = 1n << 4n
const CR4_PAE = 1n << 5n
const CR4_PGE = 1n << 7n
const CR4_LA57 = 1n << 12n
const CR4_PCIDE = 1n << 17n
const CR4_SMEP = 1n << 20n
const EFER_LME = 1n << 8n
const EFER_LMA = 1n << 10n

/** The registers' values. */
export interface ControlRegisters {
  readonly cr0: bigint
  /** Without bit 63. */
  readonly cr3: bigint
  readonly cr4: bigint
  readonly efer: bigint
  /** The L bit of the code segment. */
  readonly csL: boolean
}

/** What the processor is asked to do. A far jump to another code segment counts as a write of CS.L. */
export interface ControlWrite {
  readonly register: 'CR0' | 'CR3' | 'CR4' | 'EFER' | 'CS.L'
  readonly value: bigint
}

/** The processor: bits that exist, and what its memory holds. */
export interface ControlModel {
  readonly physicalAddressBits: number
  readonly cr4Bits: bigint
  readonly eferBits: bigint
  /** Whether the PDPTEs of PAE paging at an address could be loaded. */
  pdptesLoadable(address: bigint): boolean
}

export type ModeName = 'off' | '32-bit' | '32-bit PSE' | 'PAE' | '4-level' | '5-level'

function has(value: bigint, bit: bigint): boolean {
  return (value & bit) !== 0n
}

/** SDM Vol. 3, 4.1.1; 32-bit paging by whether it has 4 MiB pages. */
export function modeOf(registers: ControlRegisters): ModeName {
  if (!has(registers.cr0, CR0_PG)) return 'off'
  if (!has(registers.cr4, CR4_PAE)) return has(registers.cr4, CR4_PSE) ? '32-bit PSE' : '32-bit'
  if (!has(registers.efer, EFER_LME)) return 'PAE'
  return has(registers.cr4, CR4_LA57) ? '5-level' : '4-level'
}

/** The registers after a write, or undefined where it raises #GP(0) and changes nothing. */
export function afterWrite(
  model: ControlModel,
  before: ControlRegisters,
  write: ControlWrite,
): ControlRegisters | undefined {
  if (write.register === 'CS.L') return { ...before, csL: write.value === 1n }
  return AFTER[write.register](model, before, write.value)
}

/** 4.4.1: what loads the PDPTEs fails where one of them is present and has a reserved bit. */
function loaded(model: ControlModel, after: ControlRegisters): ControlRegisters | undefined {
  return model.pdptesLoadable(after.cr3 & 0xffff_ffe0n) ? after : undefined
}

function afterCr0(
  model: ControlModel,
  before: ControlRegisters,
  cr0: bigint,
): ControlRegisters | undefined {
  const paging = has(cr0, CR0_PG)
  const wasPaging = has(before.cr0, CR0_PG)
  if (paging && !has(cr0, CR0_PE)) return undefined
  if (has(cr0, CR0_NW) && !has(cr0, CR0_CD)) return undefined
  const longModeEnabled = has(before.efer, EFER_LME)
  if (paging && !wasPaging && longModeEnabled) {
    // Activating IA-32e mode needs PAE, and code that is not 64-bit code yet.
    if (!has(before.cr4, CR4_PAE) || before.csL) return undefined
  }
  if (!paging && wasPaging) {
    if (has(before.cr4, CR4_PCIDE)) return undefined
    // Not from 64-bit mode.
    if (has(before.efer, EFER_LMA) && before.csL) return undefined
  }
  const lma = paging && longModeEnabled ? EFER_LMA : 0n
  const after = { ...before, cr0, efer: (before.efer & ~EFER_LMA) | lma }
  const changed = cr0 ^ before.cr0
  if (modeOf(after) === 'PAE' && has(changed, CR0_CD | CR0_NW | CR0_PG)) return loaded(model, after)
  return after
}

function afterCr3(
  model: ControlModel,
  before: ControlRegisters,
  value: bigint,
): ControlRegisters | undefined {
  if (has(value, 1n << 63n) && !has(before.cr4, CR4_PCIDE)) return undefined
  const cr3 = value & ~(1n << 63n)
  if (cr3 >> BigInt(model.physicalAddressBits) !== 0n) return undefined
  const after = { ...before, cr3 }
  return modeOf(after) === 'PAE' ? loaded(model, after) : after
}

function afterCr4(
  model: ControlModel,
  before: ControlRegisters,
  cr4: bigint,
): ControlRegisters | undefined {
  if ((cr4 & ~model.cr4Bits) !== 0n) return undefined
  const changed = cr4 ^ before.cr4
  const ia32e = has(before.efer, EFER_LMA)
  if (ia32e && has(changed, CR4_LA57)) return undefined
  if (ia32e && !has(cr4, CR4_PAE)) return undefined
  if (has(cr4, CR4_PCIDE) && !has(before.cr4, CR4_PCIDE)) {
    if (!ia32e || (before.cr3 & 0xfffn) !== 0n) return undefined
  }
  const after = { ...before, cr4 }
  if (modeOf(after) === 'PAE' && has(changed, CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP))
    return loaded(model, after)
  return after
}

function afterEfer(
  model: ControlModel,
  before: ControlRegisters,
  value: bigint,
): ControlRegisters | undefined {
  if ((value & ~(model.eferBits | EFER_LMA)) !== 0n) return undefined
  if (has(value ^ before.efer, EFER_LME) && has(before.cr0, CR0_PG)) return undefined
  // LMA is read-only.
  const efer = (value & ~EFER_LMA) | (before.efer & EFER_LMA)
  return { ...before, efer }
}

const AFTER = { CR0: afterCr0, CR3: afterCr3, CR4: afterCr4, EFER: afterEfer }
