/** Model-specific registers by number (SDM Vol. 4). */
export const Msr = { Efer: 0xc000_0080, Pkrs: 0x6e1 } as const

/** IA32_EFER between two cases: LME. */
export const EFER_BETWEEN = 0x100

/** CR0 between two cases: PG, WP, NE, ET, PE. */
export const CR0_BETWEEN = 0x8001_0031
