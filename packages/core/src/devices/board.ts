/** The PCs that QEMU emulates: `pc` has an i440FX with a PIIX, `q35` a Q35 with an ICH9. */
export type Board = 'pc' | 'q35'

/** Where OVMF puts the ports of power management: PMBA of the PIIX4, PMBASE of the ICH9 (OvmfPkg/Include/IndustryStandard/I440FxPiix4.h, Q35MchIch9.h). */
export const POWER_MANAGEMENT_BASE: Readonly<Record<Board, number>> = { pc: 0xb000, q35: 0x600 }
