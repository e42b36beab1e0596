import { type Probe } from '../probe.ts'
import {
  LONG,
  LONG_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
  EVERYWHERE,
  LEGACY,
  TF,
  IF,
  NT,
  IOPL3,
  word,
  absolute,
  everywhere,
} from './places.ts'

export function flagInstructions(): Probe[] {
  return [0, IOPL3, IF, IF | IOPL3, NT]
    .flatMap((flags) => [
      everywhere(
        `cli with flags ${flags.toString(16)}`,
        (code) => code.raw(0xfa),
        EVERYWHERE,
        flags | 2,
      ),
      everywhere(
        `pushf and popf with flags ${flags.toString(16)}`,
        (code) => {
          // PUSHF; POP EAX; XOR EAX, 3200h + AC + ID; PUSH EAX; POPF; PUSHF; POP EDX; the flags as they were.
          code.raw(0x9c, 0x58, 0x35, ...word(0x24_7200), 0x50, 0x9d, 0x9c, 0x5a)
        },
        EVERYWHERE,
        flags | 2,
      ),
      everywhere(
        `in with flags ${flags.toString(16)}`,
        (code) => code.raw(0xe4, 0x80, 0x31, 0xc0),
        EVERYWHERE,
        flags | 2,
      ),
    ])
    .flat()
}

export function interrupts(): Probe[] {
  return [
    ...everywhere('int 81h', (code) => code.raw(0xcd, 0x81)),
    ...everywhere('int 3', (code) => code.raw(0xcc)),
    ...everywhere('int 0dh of the user', (code) => code.raw(0xcd, 0x0d)),
    ...everywhere('into without overflow', (code) => code.raw(0xce), LEGACY),
    ...everywhere('into with overflow', (code) => code.raw(0xce), LEGACY, 0x802),
    ...everywhere('into', (code) => code.raw(0xce), [LONG]),
    ...everywhere('ud2, which has an interrupt stack', (code) => code.raw(0x0f, 0x0b)),
    ...everywhere('div by zero', (code) => code.raw(0x31, 0xc9, 0xf7, 0xf1)),
    ...everywhere(
      'a jump to nowhere',
      (code) => {
        // MOV EAX, 7FFFF000h; JMP EAX
        code.raw(0xb8, ...word(0x7fff_f000), 0xff, 0xe0)
      },
      [LONG, LONG_USER, COMPATIBILITY, COMPATIBILITY_USER],
    ),
    ...everywhere(
      'a load from nowhere',
      (code) => code.raw(0x8b, ...absolute(code, 2, 0x7fff_f000)),
      [LONG, LONG_USER, COMPATIBILITY_USER],
    ),
    ...everywhere(
      'a load from an address that is not canonical',
      (code) => {
        // MOV RAX, 1 << 47; MOV EDX, [RAX]
        code.raw(0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x8b, 0x10)
      },
      [LONG, LONG_USER],
    ),
    ...everywhere(
      'a push to an address that is not canonical',
      (code) => {
        code.raw(0x48, 0xbc, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x50)
      },
      [LONG_USER],
    ),
    ...everywhere('a single step', (code) => code.raw(0x90, 0x90), EVERYWHERE, TF | 2),
    ...everywhere('popf that switches single-stepping on', (code) => {
      code.raw(0x68, ...word(TF | 2), 0x9d, 0x90, 0x90, 0x90)
    }),
    ...everywhere('a single step of mov ss', (code) => {
      // MOV EAX, SS; PUSH TF; POPF; MOV SS, EAX; NOP; NOP
      code.raw(0x8c, 0xd0, 0x68, ...word(TF | 2), 0x9d, 0x8e, 0xd0, 0x90, 0x90)
    }),
    ...everywhere('a single step of int 3', (code) => code.raw(0xcc), EVERYWHERE, TF | 2),
  ]
}
