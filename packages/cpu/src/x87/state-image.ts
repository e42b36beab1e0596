import { type Cpu, FCW_AT_INIT, type FloatingPointState } from '@trapdoor/core'

import { RegisterStack } from './register-stack.ts'

/** Words of the legacy region of an XSAVE area, which is an FXSAVE image (SDM Vol. 1, tables 10-2 and 13-1). */
export const LEGACY_WORDS = 128
/** Words of the image that an instruction may write: the rest is software's. */
export const WRITTEN_WORDS = 104
/** The word of MXCSR; MXCSR_MASK follows. */
export const MXCSR_WORD = 6
/** Words of ST(0) to ST(7), and of XMM0 to XMM15. */
const ST_WORD = 8
export const XMM_WORD = 40
/** MXCSR_MASK: the bits that MXCSR has, DAZ among them. */
export const MXCSR_MASK = 0xffff

/** FSW and FCW are in word 0, the abridged tags and FOP in word 1; FIP and FDP are 64 bits, or 32 with the selectors of CS and DS, which processors since Haswell store as 0. */
export interface ImageFormat {
  /** REX.W: FIP and FDP have 64 bits. */
  readonly wide: boolean
}

/** Writes the x87 state into an image: words 0 to 5 and those of the registers. */
export function storeX87(
  { floatingPoint: state }: Cpu,
  image: Int32Array,
  format: ImageFormat,
): void {
  image[0] = state.controlWord | (state.statusWord << 16)
  image[1] = state.tags | (state.lastOpcode << 16)
  image[2] = Number(BigInt.asIntN(32, state.lastInstruction))
  image[3] = format.wide ? Number(BigInt.asIntN(32, state.lastInstruction >> 32n)) : 0
  image[4] = Number(BigInt.asIntN(32, state.lastData))
  image[5] = format.wide ? Number(BigInt.asIntN(32, state.lastData >> 32n)) : 0
  const top = (state.statusWord >> 11) & 7
  for (let at = 0; at < 8; at++) {
    const from = ((top + at) & 7) * 4
    image.set(state.registers.subarray(from, from + 4), ST_WORD + at * 4)
  }
}

/** Takes the x87 state over from an image. */
export function loadX87(
  { floatingPoint: state }: Cpu,
  image: Int32Array,
  format: ImageFormat,
): void {
  state.controlWord = (image[0]! & 0x1f3f) | 0x40
  // The summary is worked out anew, whatever the image has.
  state.statusWord = (image[0]! >>> 16) & 0xffff
  new RegisterStack(state).summarise()
  state.tags = image[1]! & 0xff
  state.lastOpcode = (image[1]! >>> 16) & 0x7ff
  const pointer = (word: number): bigint =>
    (format.wide ? BigInt(image[word + 1]! >>> 0) << 32n : 0n) | BigInt(image[word]! >>> 0)
  state.lastInstruction = pointer(2)
  state.lastData = pointer(4)
  const top = (state.statusWord >> 11) & 7
  for (let at = 0; at < 8; at++) {
    const to = ((top + at) & 7) * 4
    const from = ST_WORD + at * 4
    state.registers[to] = image[from]!
    state.registers[to + 1] = image[from + 1]!
    state.registers[to + 2] = image[from + 2]! & 0xffff
  }
}

/** What FNINIT does: everything but the bits of the registers (SDM Vol. 2, FINIT). */
export function initialiseX87Controls(state: FloatingPointState): void {
  state.controlWord = FCW_AT_INIT
  state.statusWord = 0
  state.tags = 0
  state.lastOpcode = 0
  state.lastInstruction = 0n
  state.lastData = 0n
}

/** The x87 state as after FNINIT, with registers of zeros: its initial configuration (SDM Vol. 1, 13.6). */
export function initialiseX87({ floatingPoint: state }: Cpu): void {
  initialiseX87Controls(state)
  state.registers.fill(0)
}

/** Whether the x87 state is not in its initial configuration. */
export function isX87InUse({ floatingPoint: state }: Cpu): boolean {
  return (
    state.controlWord !== FCW_AT_INIT ||
    state.statusWord !== 0 ||
    state.tags !== 0 ||
    state.lastOpcode !== 0 ||
    state.lastInstruction !== 0n ||
    state.lastData !== 0n ||
    state.registers.some((word) => word !== 0)
  )
}
