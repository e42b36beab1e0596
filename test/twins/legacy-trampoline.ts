import { Assembler, Register } from '@trapdoor/assembler'
import { type Board, PAGE_SIZE } from '@trapdoor/core'

import {
  EXIT_PORT,
  EXIT_VALUE,
  maskInterrupts,
  MSR_EFER,
  placePowerManagement,
  pushesErrorCode,
  RETURNED,
  Shared,
  type Trampoline,
  VECTORS,
} from './trampoline.ts'

/** Where the code and the shared pages are: as the call's tables have them, and in memory. */
export interface LegacyPlaces {
  readonly code: { readonly virtual: bigint; readonly physical: number }
  readonly shared: { readonly virtual: bigint; readonly physical: number }
}

/** Fields that the code here has beside those of 64-bit code. */
export const LegacyShared = { TemporaryCr3: 0x2b0 } as const

/**
 * As assembleTrampoline(), for a call of a 32-bit kernel. It begins with paging off, in the segments of the ROM. Where the call has paging, tables that map the page at both of its addresses come in
 * between: with those it goes from one to the other, and from there to the call's tables.
 */
export function assembleLegacyTrampoline(
  { code, shared }: LegacyPlaces,
  call: {
    readonly rip: bigint
    readonly flags: number
    readonly board: Board
    readonly isPaged: boolean
  },
): Trampoline {
  const { A, C, D, B, SP } = Register
  const { isPaged } = call
  // All addresses in it are relative, or those that it has while the call runs.
  const origin = isPaged ? code.virtual : BigInt(code.physical)
  const data = Number(isPaged ? shared.virtual : BigInt(shared.physical))
  const to = new Assembler(origin, 32)
  placePowerManagement(to, call.board)
  maskInterrupts(to)
  to.moveImmediate(32, B, shared.physical)
  to.lgdt(B, Shared.GdtPointer)
  to.moveImmediate(32, C, MSR_EFER)
  to.load(32, A, B, Shared.Efer)
  to.moveImmediate(32, D, 0)
  to.wrmsr()
  to.load(32, A, B, Shared.Cr4)
  to.moveToControl(4, A)
  if (isPaged) {
    to.load(32, A, B, LegacyShared.TemporaryCr3)
    to.moveToControl(3, A)
    to.load(32, C, B, Shared.Cr3)
  }
  to.load(32, A, B, Shared.Cr0)
  to.moveToControl(0, A)
  to.label('here')
  // The address of what follows the jump: that of this place, and the bytes in between.
  to.moveImmediate(32, A, Number(to.addressOf('here')) + MOVE_BYTES + JUMP_BYTES)
  to.jumpRegister(A)
  to.moveImmediate(32, B, data)
  to.lidt(B, Shared.IdtPointer)
  if (isPaged) to.moveToControl(3, C)
  // FXRSTOR [EBX + …].
  to.raw(0x0f, 0xae, 0x8b, ...word(Shared.VectorsBefore))
  to.moveImmediate(32, SP, data + Shared.Stack)
  to.pushImmediate(call.flags)
  // POPFD.
  to.raw(0x9d)
  for (const register of [A, C, D, SP, Register.BP, Register.SI, Register.DI, B]) {
    to.load(32, register, B, Shared.Registers + register * 8)
  }
  // JMP rel32.
  const jumpEnd = Number(origin) + to.size + RELATIVE_JUMP_BYTES
  to.raw(0xe9, ...word((Number(call.rip) - jumpEnd) | 0))

  to.label('returned')
  storeA(to, data + Shared.Left)
  // PUSHFD takes the place of the return address.
  to.raw(0x9c)
  to.pop(A)
  storeA(to, data + Shared.Rflags)
  to.moveImmediate(32, A, RETURNED)
  storeA(to, data + Shared.Vector)
  to.jump('note')
  for (let vector = 0; vector < VECTORS; vector++) {
    to.label(`handler ${vector}`)
    if (!pushesErrorCode(vector)) to.pushImmediate(0)
    storeA(to, data + Shared.Left)
    to.moveImmediate(32, A, vector)
    storeA(to, data + Shared.Vector)
    to.jump('faulted')
  }
  to.label('faulted')
  // The frame: error code, EIP, CS, EFLAGS. Without a change of the level there is no stack in it.
  for (const [field, offset] of [
    [Shared.ErrorCode, 0],
    [Shared.Rip, 4],
    [Shared.Rflags, 12],
  ] as const) {
    to.load(32, A, SP, offset)
    storeA(to, data + field)
  }
  to.moveFromControl(A, 2)
  storeA(to, data + Shared.Cr2)
  to.label('note')
  to.moveImmediate(32, A, data)
  for (let register = 1; register < 8; register++) {
    to.store(32, A, Shared.Left + register * 8, register as Register)
  }
  // FXSAVE [EAX + …].
  to.raw(0x0f, 0xae, 0x80, ...word(Shared.VectorsLeft))
  to.moveImmediate(32, A, EXIT_VALUE)
  to.out(EXIT_PORT)
  to.hlt()
  const bytes = to.assemble()
  if (bytes.length > PAGE_SIZE) throw new RangeError('the trampoline does not fit into a page')
  return {
    bytes,
    entry: BigInt(code.physical),
    returnAddress: to.addressOf('returned'),
    handlers: Array.from({ length: VECTORS }, (_, vector) => to.addressOf(`handler ${vector}`)),
  }
}

/** Bytes of MOV r32, imm32, of JMP r32 and of JMP rel32. */
const MOVE_BYTES = 5
const JUMP_BYTES = 2
const RELATIVE_JUMP_BYTES = 5

/** MOV moffs32, EAX. */
function storeA(to: Assembler, address: number): void {
  to.raw(0xa3, ...word(address))
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}
