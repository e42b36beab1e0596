import type { Assembler } from '@trapdoor/assembler'
import { Address, Selector, type Probe } from '../probe.ts'
import {
  PROTECTED,
  PROTECTED_USER,
  COMPATIBILITY,
  EVERYWHERE,
  absolute,
  movAx,
  movMemory,
  everywhere,
} from './places.ts'

const { Data } = Address

const store =
  (extension: number) =>
  (code: Assembler): void => {
    code.raw(0x0f, 0x01, ...absolute(code, extension, Data))
    code.raw(0x8b, ...absolute(code, 2, Data))
    code.raw(0x8b, ...absolute(code, 6, Data + 4))
  }

const toRegister =
  (...bytes: number[]) =>
  (code: Assembler): void => {
    code.raw(...bytes)
  }

export function descriptorTables(): Probe[] {
  return [
    ...everywhere('sgdt', store(0)),
    ...everywhere('sidt', store(1)),
    ...everywhere('sldt ax', toRegister(0x66, 0x0f, 0x00, 0xc0)),
    ...everywhere('sldt eax', toRegister(0x0f, 0x00, 0xc0)),
    ...everywhere('str edx', toRegister(0x0f, 0x00, 0xca)),
    ...everywhere('smsw edx', toRegister(0x0f, 0x01, 0xe2)),
    ...everywhere('smsw dx', toRegister(0x66, 0x0f, 0x01, 0xe2)),
    ...everywhere('lmsw', (code) => code.raw(...movAx(0x1f), 0x0f, 0x01, 0xf0)),
    ...everywhere('lgdt', (code) => {
      movMemory(code, Data, (0xff | (Address.Gdt << 16)) >>> 0)
      movMemory(code, Data + 4, Address.Gdt >>> 16)
      code.raw(0x0f, 0x01, ...absolute(code, 2, Data))
    }),
    ...everywhere(
      'lidt with a 16-bit operand',
      (code) => {
        movMemory(code, Data, 0x0fff | ((Address.Idt & 0xffff) << 16))
        movMemory(code, Data + 4, 0xff00 | (Address.Idt >>> 16))
        code.raw(0x66, 0x0f, 0x01, ...absolute(code, 3, Data))
        code.raw(0x0f, 0x01, ...absolute(code, 1, Data + 16))
        code.raw(0x8b, ...absolute(code, 2, Data + 18))
      },
      [PROTECTED, PROTECTED_USER, COMPATIBILITY],
    ),
    ...[0, Selector.Ldt, Selector.Task, Selector.Data, Selector.Beyond, Selector.LocalData]
      .flatMap((selector) => [
        everywhere(`lldt ${selector.toString(16)}`, (code) =>
          code.raw(...movAx(selector), 0x0f, 0x00, 0xd0, 0x0f, 0x00, 0xc2),
        ),
        everywhere(
          `ltr ${selector.toString(16)}`,
          (code) => code.raw(...movAx(selector), 0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xca),
          // QEMU loads a null selector, and dies at the next interrupt of the user.
          selector === 0 ? [] : EVERYWHERE,
        ),
      ])
      .flat(),
  ]
}
