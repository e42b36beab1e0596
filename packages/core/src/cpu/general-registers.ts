/** Numbers of the general registers, as instructions encode them. */
export const Gpr = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  RBX: 3,
  RSP: 4,
  RBP: 5,
  RSI: 6,
  RDI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
} as const

/** 32-bit words of the general registers: the low half of register n is word 2n, the high half word 2n + 1. */
export const GENERAL_WORDS = 32
/** Words behind them that are an executor's own, and 0 at first. */
export const EXECUTOR_WORDS = 4
