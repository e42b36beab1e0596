/** Offsets in a record, which is a case before the instruction and its result after it: `struct record` of oracle.c. Addresses and registers have 64 bits, little endian. */
export const RecordOffset = {
  Registers: 0,
  Rip: 128,
  Rflags: 136,
  /** Before: where the window lies. After: CR2. */
  Window: 144,
  Code: 152,
  /** Before: bytes of the instruction. After: the vector of the exception, or {@link COMPLETED}. */
  Length: 168,
  /** Before: {@link CaseFlag}. After: not 0 where something outside of the window was written. */
  Flags: 169,
  ErrorCode: 172,
  FsBase: 176,
  GsBase: 184,
  /** The window's bytes; behind them the FXSAVE image, where a run has them. */
  WindowBytes: 192,
} as const

/** The vector of an instruction that was completed. */
export const COMPLETED = 0xff

export const CaseFlag = {
  /** The instruction decides where to go on: it is stepped, and RIP is part of the result. */
  Step: 1,
  /** It is 32-bit code. */
  Bits32: 2,
  /** It is repeated: our machine runs it until RIP is behind it. */
  Repeated: 4,
} as const

/** What the records of a run have. */
export interface RecordShape {
  /** Bytes of the window, at most 4096. */
  readonly windowBytes: number
  /** Whether x87, MMX and SSE state belongs to a case. */
  readonly fpu: boolean
}

export const FXSAVE_BYTES = 512
const RUN_FPU = 1
/** `struct run`. */
export const RUN_BYTES = 8

export function recordBytes({ windowBytes, fpu }: RecordShape): number {
  return RecordOffset.WindowBytes + windowBytes + (fpu ? FXSAVE_BYTES : 0)
}

/** What a run of so many cases is sent as, its records still empty. */
export function emptyRun(shape: RecordShape, count: number): Buffer {
  const run = Buffer.alloc(RUN_BYTES + count * recordBytes(shape))
  run.writeUint32LE(shape.fpu ? RUN_FPU : 0, 0)
  run.writeUint32LE(shape.windowBytes, 4)
  return run
}

/** Pages of code that cases are put into: a low place and one that lies across a multiple of 4 GiB. */
export const CODE_REGIONS: readonly bigint[] = [0x2000_0000n, 0x6543_fffe_f000n]
export const CODE_REGION_BYTES = 2 * 4096
/** Pages of data, beside which nothing is mapped: two that can be written, and one that cannot. */
export const DATA_REGIONS: readonly bigint[] = [0x3000_0000n, 0x6543_ffff_f000n]
export const DATA_REGION_BYTES = 3 * 4096
export const WRITABLE_BYTES = 2 * 4096

/** Linux's selectors of user code and data, which a process has. */
export const CODE_64 = 0x33
export const CODE_32 = 0x23
export const DATA = 0x2b

const WORD_FACTOR = 0x9e37_79b9_7f4a_7c15n

/** What lies in a region of data where no window is. */
export function dataPattern(region: bigint): Buffer {
  const bytes = Buffer.alloc(DATA_REGION_BYTES)
  for (let at = 0; at < bytes.length; at += 8) {
    const address = region + BigInt(at)
    bytes.writeBigUint64LE(BigInt.asUintN(64, address * WORD_FACTOR), at)
  }
  return bytes
}
