import type { Assembler } from '@trapdoor/assembler'
import { Address, END_LABEL, Selector, type Probe } from '../probe.ts'
import { LONG, LONG_USER, word, absolute, movMemory, everywhere } from './places.ts'

const { Data } = Address

const msr = (code: Assembler, index: number, high: number, low: number): void => {
  code.raw(0xb9, ...word(index), 0xba, ...word(high), 0xb8, ...word(low), 0x0f, 0x30)
}

const msrLabel = (code: Assembler, index: number, label: string): void => {
  code.raw(0xb9, ...word(index), 0x31, 0xd2)
  code.pushLabel(label)
  code.raw(0x58, 0x0f, 0x30)
}

const setUp = (code: Assembler): void => {
  msr(code, 0xc000_0080, 0, 0x901)
  msr(code, 0xc000_0081, (0x20 << 16) | Selector.Code64, 0)
  msrLabel(code, 0xc000_0082, END_LABEL)
  msrLabel(code, 0xc000_0083, END_LABEL)
  msr(code, 0xc000_0084, 0, 0x4_0700)
}

export function systemCalls(): Probe[] {
  return [
    ...everywhere(
      'syscall',
      (code) => {
        setUp(code)
        code.raw(0xf9, 0x0f, 0x05)
      },
      [LONG],
      0x4_0602,
    ),
    ...everywhere(
      'syscall of the user, set up by the probe before',
      (code) => code.raw(0x0f, 0x05),
      [LONG_USER],
      0x4_0202,
    ),
    ...everywhere(
      'syscall with SCE off',
      (code) => {
        msr(code, 0xc000_0080, 0, 0x900)
        code.raw(0x0f, 0x05)
      },
      [LONG],
    ),
    ...everywhere(
      'sysret to 64-bit code',
      (code) => {
        setUp(code)
        code.pushLabel(END_LABEL)
        code.raw(0x59, 0x41, 0xbb, ...word(0x24_7ed7), 0x48, 0x0f, 0x07)
      },
      [LONG],
    ),
    ...everywhere(
      'sysret to compatibility mode',
      (code) => {
        setUp(code)
        code.pushLabel(END_LABEL)
        code.raw(0x59, 0x41, 0xbb, ...word(0x202), 0x0f, 0x07)
      },
      [LONG],
    ),
    ...everywhere('sysret of the user', (code) => code.raw(0x48, 0x0f, 0x07), [LONG_USER]),
    ...everywhere(
      'swapgs',
      (code) => {
        msr(code, 0xc000_0102, 0, Data)
        movMemory(code, Data + 8, 0x1234_5678)
        // SWAPGS; MOV EDX, GS:[8]
        code.raw(0x0f, 0x01, 0xf8, 0x65, 0x8b, ...absolute(code, 2, 8))
      },
      [LONG],
    ),
    ...everywhere('swapgs of the user', (code) => code.raw(0x0f, 0x01, 0xf8), [LONG_USER]),
  ]
}
