import type { Assembler } from '@trapdoor/assembler'
import { Address, type Probe } from '../probe.ts'
import {
  PROTECTED,
  PROTECTED_USER,
  LONG,
  LONG_USER,
  COMPATIBILITY,
  COMPATIBILITY_USER,
  word,
  absolute,
  everywhere,
} from './places.ts'

const { Data } = Address

const moveTo =
  (number: number, value: number) =>
  (code: Assembler): void => {
    code.raw(0xb8, ...word(value), 0x0f, 0x22, 0xc0 | (number << 3))
  }

const read =
  (index: number) =>
  (code: Assembler): void => {
    code.raw(0xb9, ...word(index), 0x0f, 0x32)
  }

const write =
  (index: number, high: number, low: number) =>
  (code: Assembler): void => {
    code.raw(
      0xb9,
      ...word(index),
      0xba,
      ...word(high),
      0xb8,
      ...word(low),
      0x0f,
      0x30,
      0x31,
      0xc0,
      0x31,
      0xd2,
      0x0f,
      0x32,
    )
  }

export function controlRegisters(): Probe[] {
  const supervisors = [PROTECTED, LONG, COMPATIBILITY]
  return [
    ...everywhere('mov eax, cr0', (code) => code.raw(0x0f, 0x20, 0xc0)),
    ...everywhere('mov cr2, eax and back', (code) => {
      moveTo(2, 0x1234_5678)(code)
      code.raw(0x0f, 0x20, 0xd2)
    }),
    ...everywhere('mov cr1', (code) => code.raw(0x0f, 0x22, 0xc8)),
    ...everywhere('mov cr5', (code) => code.raw(0x0f, 0x20, 0xe8), supervisors),
    ...everywhere('clts', (code) => {
      code.raw(0x0f, 0x06, 0x0f, 0x20, 0xc0)
    }),
    ...everywhere('dr0 and dr7', (code) => {
      code.raw(0xb8, ...word(0x1234), 0x0f, 0x23, 0xc0, 0x0f, 0x21, 0xc2, 0x0f, 0x21, 0xfe)
    }),
    ...everywhere('dr4 is dr6', (code) => code.raw(0x0f, 0x21, 0xe2)),
    ...everywhere(
      'dr4 with CR4.DE',
      (code) => {
        code.raw(0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x08, 0x0f, 0x22, 0xe0, 0x0f, 0x21, 0xe2)
      },
      supervisors,
    ),
    ...everywhere('wbinvd', (code) => code.raw(0x0f, 0x09)),
    ...everywhere('invlpg', (code) => code.raw(0x0f, 0x01, ...absolute(code, 7, Data))),
    ...everywhere('invlpg of a register', (code) => code.raw(0x0f, 0x01, 0xf8)),
    ...everywhere('hlt', (code) => code.raw(0xf4), [PROTECTED_USER, LONG_USER, COMPATIBILITY_USER]),
    ...everywhere('rdpmc', (code) => code.raw(0x31, 0xc9, 0x0f, 0x33), [LONG_USER]),
    ...everywhere('rdtsc with CR4.TSD', (code) => {
      code.raw(0x0f, 0x31, 0x31, 0xc0, 0x31, 0xd2)
    }),
  ]
}

export function modelSpecific(): Probe[] {
  const LSTAR = 0xc000_0082
  const places = [PROTECTED, LONG, LONG_USER, COMPATIBILITY]
  return [
    ...everywhere('rdmsr of EFER', read(0xc000_0080), places),
    ...everywhere('wrmsr of LSTAR', write(LSTAR, 0xffff_8000, 0x1234), places),
    ...everywhere('wrmsr of KERNEL_GS_BASE', write(0xc000_0102, 0, 0x1234_5678), places),
    ...everywhere('wrmsr of PAT', write(0x277, 0x0007_0406, 0x0007_0106), places),
    ...everywhere('wrmsr of SYSENTER_CS', write(0x174, 0, 0x18), places),
  ]
}
