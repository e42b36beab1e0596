/** Model-specific registers that instructions read by themselves, those of paging apart (EFER, PAT, PKRS are the CPU's own). FS.base and GS.base are the segments'. */
export interface ModelSpecificRegisters {
  readonly kernelGsBase: bigint
  /** IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK: where SYSCALL leads (SDM Vol. 3, 5.8.8). */
  readonly star: bigint
  readonly lstar: bigint
  readonly cstar: bigint
  readonly fmask: bigint
  readonly sysenterCs: bigint
  readonly sysenterEsp: bigint
  readonly sysenterEip: bigint
  readonly apicBase: bigint
  /** IA32_TIME_STAMP_COUNTER as it was when the CPU had carried out no instructions. */
  readonly timeStampOffset: bigint
  readonly tscAux: bigint
  readonly miscEnable: bigint
  /** PerfEvtSel0 to 3 and PerfCtr0 to 3 of AMD (APM Vol. 2, 13.2.1): storage. */
  readonly performance: readonly bigint[]
}

/** The local APIC at its usual address, enabled, of the boot processor (SDM Vol. 3, 11.4.4). */
const APIC_BASE_AT_RESET = 0xfee0_0900n
/** Fast strings (SDM Vol. 4, table 2-2). */
const MISC_ENABLE_AT_RESET = 1n

/** After RESET. */
export const MSRS_AT_RESET: ModelSpecificRegisters = {
  kernelGsBase: 0n,
  star: 0n,
  lstar: 0n,
  cstar: 0n,
  fmask: 0n,
  sysenterCs: 0n,
  sysenterEsp: 0n,
  sysenterEip: 0n,
  apicBase: APIC_BASE_AT_RESET,
  timeStampOffset: 0n,
  tscAux: 0n,
  miscEnable: MISC_ENABLE_AT_RESET,
  performance: [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n],
}
