/** FCW after FNINIT: all exceptions masked, 64 bits of precision, rounding to nearest (SDM Vol. 1, 8.1.5). */
export const FCW_AT_INIT = 0x37f
/** FCW after RESET (SDM Vol. 3, table 10-1). */
const FCW_AT_RESET = 0x40
/** IA32_XCR0 after RESET: x87 state alone (SDM Vol. 1, 13.3). */
const XCR0_AT_RESET = 1
const REGISTERS = 8
const VECTORS = 16
const WORDS = 4

/**
 * The state of the x87 FPU, of MMX and of SSE (SDM Vol. 1, 8.1 and 10.2), MXCSR apart, which is the CPU's own. Registers are kept as 32-bit words, four of them each, the
 * lowest first.
 */
export class FloatingPointState {
  // Both in one buffer: every call of the firmware keeps a copy.
  readonly #words: ArrayBuffer = new ArrayBuffer((VECTORS + REGISTERS) * WORDS * 4)
  /** XMM0 to XMM15. */
  readonly xmm: Int32Array<ArrayBuffer> = new Int32Array(this.#words, 0, VECTORS * WORDS)
  /**
   * R0 to R7 as they lie in the register file, whatever the top of the stack is: two words of significand, which are MM0 to MM7, and one of exponent and sign in its low
   * 16 bits. The fourth word is 0.
   */
  readonly registers: Int32Array<ArrayBuffer> = new Int32Array(
    this.#words,
    VECTORS * WORDS * 4,
    REGISTERS * WORDS,
  )
  /** FCW. */
  controlWord: number
  /** FSW, with the top of the stack in bits 13 to 11. */
  statusWord: number
  /** A bit for each of R0 to R7 that is not empty: the abridged tag word of FXSAVE. */
  tags: number
  /** FOP, FIP and FDP, of the last instruction that was not a control instruction. */
  lastOpcode: number
  lastInstruction: bigint
  lastData: bigint
  /** IA32_XCR0: the components that XSAVE handles. */
  xcr0: number

  /** After RESET, after what firmware does before it hands over (UEFI 2.10, 2.3.4.2), or as `from` has it. */
  constructor(from: 'reset' | 'initialised' | FloatingPointState) {
    const state = from === 'reset' || from === 'initialised' ? undefined : from
    if (state !== undefined) {
      this.xmm.set(state.xmm)
      this.registers.set(state.registers)
    }
    this.controlWord = state?.controlWord ?? (from === 'reset' ? FCW_AT_RESET : FCW_AT_INIT)
    this.statusWord = state?.statusWord ?? 0
    // After RESET the tag word says that all registers are 0, and none is empty.
    this.tags = state?.tags ?? (from === 'reset' ? 0xff : 0)
    this.lastOpcode = state?.lastOpcode ?? 0
    this.lastInstruction = state?.lastInstruction ?? 0n
    this.lastData = state?.lastData ?? 0n
    this.xcr0 = state?.xcr0 ?? XCR0_AT_RESET
  }
}
