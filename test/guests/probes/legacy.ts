import { Address, Selector, type Probe } from '../probe.ts'
import {
  PROTECTED,
  LONG,
  LONG_USER,
  COMPATIBILITY,
  LEGACY,
  word,
  absolute,
  movAx,
  movMemory,
  everywhere,
} from './places.ts'

const { Data } = Address

export function legacyInstructions(): Probe[] {
  const arithmetic: Readonly<Record<string, readonly number[]>> = {
    daa: [0x27],
    das: [0x2f],
    aaa: [0x37],
    aas: [0x3f],
    aam: [0xd4, 0x0a],
    'aam by zero': [0xd4, 0x00],
    aad: [0xd5, 0x0a],
  }
  const values = [0x00, 0x09, 0x0a, 0x9a, 0x99, 0xff, 0x4f]
  return [
    ...Object.entries(arithmetic).flatMap(([name, bytes]) =>
      values.flatMap((value) =>
        [0x2, 0x3, 0x12, 0x13].flatMap((flags) =>
          everywhere(
            `${name} of ${value.toString(16)} with flags ${flags.toString(16)}`,
            (code) => {
              code.raw(...movAx(0x0200 | value), ...bytes)
              // Keep CF, AF, ZF, SF and PF, as far as they are defined: PUSHF; POP EDX; AND EDX, mask
              const defined = name.startsWith('da')
                ? 0xd5
                : name.startsWith('aam') || name === 'aad'
                  ? 0xc4
                  : 0x11
              code.raw(0x9c, 0x5a, 0x81, 0xe2, ...word(defined), 0x31, 0xc9)
            },
            [PROTECTED],
            flags,
          ),
        ),
      ),
    ),
    ...everywhere(
      'pusha and popa',
      (code) => {
        code.raw(0x60, 0x8b, 0x44, 0x24, 0x0c, 0x61)
      },
      LEGACY,
    ),
    ...everywhere('pushaw', (code) => code.raw(0x66, 0x60, 0x8b, 0x04, 0x24), LEGACY),
    ...[-1, 0, 5, 10, 11].flatMap((index) =>
      everywhere(
        `bound of ${index}`,
        (code) => {
          movMemory(code, Data, 0)
          movMemory(code, Data + 4, 10)
          code.raw(0xba, ...word(index), 0x62, ...absolute(code, 2, Data))
        },
        LEGACY,
      ),
    ),
    ...[Selector.Data, Selector.UserData, 0].flatMap((selector) =>
      everywhere(
        `les and lgs of ${selector.toString(16)}`,
        (code) => {
          movMemory(code, Data, 0x1234_5678)
          movMemory(code, Data + 4, selector)
          code.raw(0xc4, ...absolute(code, 2, Data))
          code.raw(0x0f, 0xb5, ...absolute(code, 6, Data))
        },
        LEGACY,
      ),
    ),
    ...[0x10, 0x13].flatMap((selector) =>
      everywhere(
        `arpl of ${selector.toString(16)}`,
        (code) => {
          code.raw(...movAx(selector), 0xb9, ...word(2), 0x63, 0xc8)
        },
        LEGACY,
      ),
    ),
    ...everywhere(
      'push and pop of segments',
      (code) => {
        code.raw(0x1e, 0x06, 0x0e, 0x16, 0x58, 0x5a, 0x07, 0x1f)
      },
      LEGACY,
    ),
    ...everywhere('push fs and pop gs', (code) => code.raw(0x0f, 0xa0, 0x0f, 0xa9)),
    ...everywhere('mov edx, ds', (code) => code.raw(0x8c, 0xda)),
    ...everywhere('mov dx, cs', (code) => code.raw(0x66, 0x8c, 0xca)),
    ...everywhere('rdfsbase without CR4.FSGSBASE', (code) => code.raw(0xf3, 0x0f, 0xae, 0xc2), [
      LONG,
      COMPATIBILITY,
    ]),
    ...everywhere(
      'wrfsbase and rdfsbase',
      (code) => {
        code.raw(0x0f, 0x20, 0xe0, 0x0d, ...word(0x1_0000), 0x0f, 0x22, 0xe0)
        code.raw(
          0xb8,
          ...word(0x7654_3210),
          0xf3,
          0x48,
          0x0f,
          0xae,
          0xd0,
          0xf3,
          0x48,
          0x0f,
          0xae,
          0xc2,
        )
      },
      [LONG],
    ),
    ...everywhere(
      'stac and clac',
      (code) => code.raw(0x0f, 0x01, 0xcb, 0x9c, 0x5a, 0x0f, 0x01, 0xca),
      [LONG, LONG_USER],
    ),
    ...everywhere('rdpkru without CR4.PKE', (code) => code.raw(0x31, 0xc9, 0x0f, 0x01, 0xee), [
      LONG,
    ]),
    ...everywhere(
      'wrpkru and rdpkru',
      (code) => {
        code.raw(0x0f, 0x20, 0xe0, 0x0d, ...word(0x40_0000), 0x0f, 0x22, 0xe0)
        code.raw(
          0x31,
          0xc9,
          0x31,
          0xd2,
          0xb8,
          ...word(0x5554),
          0x0f,
          0x01,
          0xef,
          0x31,
          0xc0,
          0x0f,
          0x01,
          0xee,
        )
        code.raw(0x31, 0xd2, 0x50, 0x31, 0xc0, 0x0f, 0x01, 0xef, 0x58)
      },
      [LONG],
    ),
    ...everywhere('clflush and fences', (code) => {
      code.raw(
        0x0f,
        0xae,
        ...absolute(code, 7, Data),
        0x0f,
        0xae,
        0xe8,
        0x0f,
        0xae,
        0xf0,
        0x0f,
        0xae,
        0xf8,
      )
    }),
  ]
}
