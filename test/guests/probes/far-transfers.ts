import type { Assembler } from '@trapdoor/assembler'
import { Address, CALL_GATE_LABEL, END_LABEL, Selector, type Probe } from '../probe.ts'
import {
  PROTECTED,
  LONG,
  LONG_USER,
  COMPATIBILITY,
  LEGACY,
  IF,
  NT,
  IOPL3,
  word,
  absolute,
  movMemory,
  everywhere,
} from './places.ts'

const { Data } = Address

const direct =
  (opcode: number, selector: number) =>
  (code: Assembler): void => {
    // The offset is that of the end of all probes: an instruction that any mode has.
    code.raw(opcode)
    code.dataLabel(END_LABEL)
    code.raw(selector & 0xff, selector >>> 8)
  }

const indirect =
  (extension: number, selector: number) =>
  (code: Assembler): void => {
    code.pushLabel(END_LABEL)
    code.raw(0x58, 0x89, ...absolute(code, 0, Data))
    movMemory(code, Data + 4, selector)
    code.raw(0xff, ...absolute(code, extension, Data))
  }

const returning =
  (selector: number) =>
  (code: Assembler): void => {
    code.raw(0x68, ...word(selector))
    code.pushLabel(END_LABEL)
    // In 64-bit mode operands of 64 bits were pushed.
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xcb)
  }

const toOuter =
  (selector: number, stack: number) =>
  (code: Assembler): void => {
    code.raw(0x68, ...word(stack), 0x68, ...word(Address.UserStack - 64), 0x68, ...word(selector))
    code.pushLabel(END_LABEL)
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xca, 0x00, 0x00)
  }

const interruptReturn =
  (selector: number, stack: number, flags: number) =>
  (code: Assembler): void => {
    code.raw(
      0x68,
      ...word(stack),
      0x68,
      ...word(Address.UserStack - 64),
      0x68,
      ...word(flags),
      0x68,
      ...word(selector),
    )
    code.pushLabel(END_LABEL)
    code.raw(...(code.bits === 64 ? [0x48] : []), 0xcf)
  }

export function farTransfers(): Probe[] {
  const selectors = [
    0,
    Selector.Code32,
    Selector.Code64,
    Selector.UserCode32,
    Selector.UserCode64,
    Selector.Data,
    Selector.ConformingCode,
    Selector.AbsentCode,
    Selector.Task,
    Selector.CallGate,
    Selector.Beyond,
  ]
  const stacks = [
    0,
    3,
    Selector.Data,
    Selector.UserData,
    Selector.AbsentData,
    Selector.ReadOnlyData,
  ]
  return [
    ...selectors
      .flatMap((selector) => {
        const name = selector.toString(16)
        return [
          everywhere(`jmp ${name}:end`, direct(0xea, selector), LEGACY),
          everywhere(`call ${name}:end`, direct(0x9a, selector), LEGACY),
          everywhere(`jmp far [${name}:end]`, indirect(5, selector)),
          everywhere(`call far [${name}:end]`, indirect(3, selector)),
          everywhere(`retf to ${name}`, returning(selector)),
        ]
      })
      .flat(),
    ...stacks
      .flatMap((stack) => [
        everywhere(
          `retf to the user with stack ${stack.toString(16)}`,
          toOuter(Selector.UserCode32, stack),
        ),
        everywhere(
          `retf to the 64-bit user with stack ${stack.toString(16)}`,
          toOuter(Selector.UserCode64, stack),
        ),
        everywhere(
          `iret to the user with stack ${stack.toString(16)}`,
          interruptReturn(Selector.UserCode32, stack, 2),
        ),
        everywhere(
          `iret to the 64-bit user with stack ${stack.toString(16)}`,
          interruptReturn(Selector.UserCode64, stack, 2),
        ),
        everywhere(
          `iret within 64-bit code with stack ${stack.toString(16)}`,
          interruptReturn(Selector.Code64, stack, 2),
          [LONG, LONG_USER],
        ),
      ])
      .flat(),
    ...[IOPL3 | IF, NT, 0x24_0000].flatMap((flags) =>
      everywhere(
        `iret to the user with flags ${flags.toString(16)}`,
        interruptReturn(Selector.UserCode32, Selector.UserData, flags | 2),
      ),
    ),
    ...everywhere(
      'iret with NT',
      interruptReturn(Selector.UserCode64, Selector.UserData, 2),
      [LONG, COMPATIBILITY],
      NT | 2,
    ),
    ...everywhere(
      'jmp to 16-bit code',
      (code) => {
        // The selector's limit of 1 MiB does not reach the offset.
        code.raw(0xea)
        code.dataLabel(CALL_GATE_LABEL)
        code.raw(Selector.Code16, 0)
      },
      [PROTECTED, COMPATIBILITY],
    ),
  ]
}
