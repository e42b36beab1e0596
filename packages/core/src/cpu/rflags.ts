/** Bits of RFLAGS (SDM Vol. 1, 3.4.3). */
export const Rflags = {
  CF: 0x1,
  /** Always set. */
  Fixed: 0x2,
  PF: 0x4,
  AF: 0x10,
  ZF: 0x40,
  SF: 0x80,
  TF: 0x100,
  IF: 0x200,
  DF: 0x400,
  OF: 0x800,
  IoplShift: 12,
  NT: 0x4000,
  RF: 0x1_0000,
  VM: 0x2_0000,
  AC: 0x4_0000,
  VIF: 0x8_0000,
  VIP: 0x10_0000,
  ID: 0x20_0000,
} as const

/** CF, PF, AF, ZF, SF and OF, which arithmetic sets. */
export const STATUS_FLAGS: number =
  Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF | Rflags.OF
/** The flags that a CPU keeps in a word: TF, DF, IOPL, NT, RF, VM, VIF, VIP, ID. IF and AC have properties of their own, status flags may be an executor's. */
export const CONTROL_FLAGS: number = 0x3b_7500
