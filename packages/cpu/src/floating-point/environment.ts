/** Exceptions of floating-point arithmetic, at their bits in MXCSR and in the x87 status word (SDM Vol. 1, 4.9.1). */
export const FloatException = {
  Invalid: 0x01,
  Denormal: 0x02,
  DivideByZero: 0x04,
  Overflow: 0x08,
  Underflow: 0x10,
  Precision: 0x20,
} as const

/** Those that are found before a result is computed: where one of them is not masked, there is none. */
export const BEFORE_COMPUTATION: number =
  FloatException.Invalid | FloatException.Denormal | FloatException.DivideByZero

/** RC of MXCSR and of the x87 control word (SDM Vol. 1, table 4-8). */
export const Rounding = { Nearest: 0, Down: 1, Up: 2, Zero: 3 } as const

/** What rules an operation, and what it found. */
export interface FloatEnvironment {
  /** {@link Rounding}. */
  readonly rounding: number
  /** Bits of {@link FloatException} that have a default result. */
  readonly masks: number
  /** Bits that a significand is rounded to, where they are fewer than the format's: the precision control of the x87. */
  readonly precision: number | undefined
  /** MXCSR.DAZ. */
  readonly denormalsAreZero: boolean
  /** MXCSR.FTZ, which counts while underflow is masked. */
  readonly flushToZero: boolean
  /** What an unmasked overflow or underflow of the x87 adds to the exponent or takes from it (SDM Vol. 1, 8.5.4), 0 for SSE, whose result is not written then. */
  readonly biasAdjustment: number
  /** Exceptions found so far, masked ones too. */
  flags: number
  /** The last result was rounded away from zero: C1 of the x87. */
  roundedUp: boolean
}

/** The environment of an operation whose result is exact. */
export function exactly(): FloatEnvironment {
  return {
    rounding: Rounding.Nearest,
    masks: 0x3f,
    precision: undefined,
    denormalsAreZero: false,
    flushToZero: false,
    biasAdjustment: 0,
    flags: 0,
    roundedUp: false,
  }
}
