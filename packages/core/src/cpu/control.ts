/** Bits of CR0 (SDM Vol. 3, 2.5). */
export const Cr0 = {
  PE: 0x1,
  MP: 0x2,
  EM: 0x4,
  TS: 0x8,
  ET: 0x10,
  NE: 0x20,
  WP: 0x1_0000,
  AM: 0x4_0000,
  NW: 0x2000_0000,
  CD: 0x4000_0000,
  PG: 0x8000_0000,
} as const
/** Bits of CR4. */
export const Cr4 = {
  TSD: 0x4,
  DE: 0x8,
  PSE: 0x10,
  PAE: 0x20,
  PGE: 0x80,
  OSFXSR: 0x200,
  OSXMMEXCPT: 0x400,
  UMIP: 0x800,
  LA57: 0x1000,
  FSGSBASE: 0x1_0000,
  PCIDE: 0x2_0000,
  OSXSAVE: 0x4_0000,
  SMEP: 0x10_0000,
  SMAP: 0x20_0000,
  PKE: 0x40_0000,
  CET: 0x80_0000,
  PKS: 0x100_0000,
  LASS: 0x800_0000,
} as const
/** Bits of IA32_EFER (SDM Vol. 3, 2.2.1). */
export const Efer = { SCE: 0x1, LME: 0x100, LMA: 0x400, NXE: 0x800 } as const
/** Long mode with 4-level paging, write protection on. */
export const CR0_LONG_MODE: number = Cr0.PE | Cr0.ET | Cr0.WP | Cr0.PG
