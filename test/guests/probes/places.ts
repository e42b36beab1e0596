import type { Assembler } from '@trapdoor/assembler'
import type { Probe, ProbePlace } from '../probe.ts'

export const PROTECTED: ProbePlace = { mode: 'protected', level: 0 }
export const PROTECTED_USER: ProbePlace = { mode: 'protected', level: 3 }
export const LONG: ProbePlace = { mode: '64-bit', level: 0 }
export const LONG_USER: ProbePlace = { mode: '64-bit', level: 3 }
export const COMPATIBILITY: ProbePlace = { mode: 'compatibility', level: 0 }
export const COMPATIBILITY_USER: ProbePlace = { mode: 'compatibility', level: 3 }
export const EVERYWHERE: readonly ProbePlace[] = [
  PROTECTED,
  PROTECTED_USER,
  LONG,
  LONG_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
]
export const LEGACY: readonly ProbePlace[] = [
  PROTECTED,
  PROTECTED_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
]

export const TF = 0x100
export const IF = 0x200
export const NT = 0x4000
export const IOPL3 = 0x3000

/** The bytes of a little-endian number. */
export function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]
}

/** ModRM (and SIB in 64-bit code) for an absolute address, with `reg` in the middle field. */
export function absolute(code: Assembler, reg: number, address: number): number[] {
  return code.bits === 64
    ? [0x04 | (reg << 3), 0x25, ...word(address)]
    : [0x05 | (reg << 3), ...word(address)]
}

/** MOV AX, imm16. */
export function movAx(value: number): number[] {
  return [0x66, 0xb8, value & 0xff, value >>> 8]
}

/** MOV DWORD [address], imm32. */
export function movMemory(code: Assembler, address: number, value: number): void {
  code.raw(0xc7, ...absolute(code, 0, address), ...word(value))
}

/** The same probe in several places: by default in all. */
export function everywhere(
  name: string,
  emit: (code: Assembler) => void,
  places: readonly ProbePlace[] = EVERYWHERE,
  flags?: number,
): Probe[] {
  return places.map((place) => ({
    ...place,
    name: `${name}, ${place.mode}, level ${place.level}`,
    emit,
    ...(flags === undefined ? {} : { flags }),
  }))
}
