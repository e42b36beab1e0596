import { Assembler, Register } from '@trapdoor/assembler'
import { type Board, PAGE_SIZE, POWER_MANAGEMENT_BASE } from '@trapdoor/core'

/** Fields of the page that the guest's code and the host share, in bytes from its start: 64 bits each where nothing else is said. */
export const Shared = {
  /** GDT of six entries; the TSS descriptor takes the last two. */
  Gdt: 0x000,
  /** Operands of LGDT and LIDT: limit and base. */
  GdtPointer: 0x040,
  IdtPointer: 0x050,
  Tss: 0x080,
  /** What the call starts with: general registers in the order of their numbers, then these. */
  Registers: 0x100,
  Cr0: 0x180,
  Cr3: 0x188,
  Cr4: 0x190,
  Efer: 0x198,
  /** What it ended with: general registers, and what the processor said. */
  Left: 0x200,
  Vector: 0x280,
  ErrorCode: 0x288,
  Cr2: 0x290,
  Rip: 0x298,
  Rsp: 0x2a0,
  Rflags: 0x2a8,
  /** Tops of the stacks of handlers and of the code around the call. */
  HandlerStack: 0x800,
  Stack: 0xf00,
  /** FXSAVE images (SDM Vol. 1, 10.5.1), behind the IDT in the second page: what the call starts with, and what it ended with. */
  VectorsBefore: 0x1400,
  VectorsLeft: 0x1600,
} as const

/** Fields of an FXSAVE image. */
export const FxImage = { Fcw: 0, Mxcsr: 24, Xmm: 160, Bytes: 512 } as const

/** Selectors, as the ROM's GDT has them too: data, code of 64 and of 32 bits. */
export const Selector = { Code32: 0x08, Data: 0x10, Code: 0x18, Task: 0x20 } as const

/** What {@link Shared}.Vector says where the call came back. */
export const RETURNED = 0x100

/** Exceptions that have a handler. */
export const VECTORS = 32
/** Those that push an error code (SDM Vol. 3, table 6-1). */
const WITH_ERROR_CODE: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21, 29, 30])

/** Where the guest ends the emulator. */
export const EXIT_PORT = 0xf4
/** What it writes there; the process ends with twice that and one. */
export const EXIT_VALUE = 0x21
export const EXIT_CODE: number = 2 * EXIT_VALUE + 1
/** The mask of the second interrupt controller: the last port that is written to before the call. */
export const LAST_MASK_PORT = 0xa1
/** Masks of the interrupt controllers. */
const PIC_MASKS = [0x21, LAST_MASK_PORT] as const
/** IA32_EFER. */
export const MSR_EFER = 0xc000_0080

/** CONFIG_ADDRESS and CONFIG_DATA. */
const CONFIGURATION_PORTS = [0xcf8, 0xcfc] as const
/**
 * What firmware has written to PCI configuration space so that the registers of power management are at their ports (core's POWER_MANAGEMENT_BASE): of the PIIX4 PMBA and PMREGMISC
 * (82371AB datasheet, 7.1), of the ICH9 PMBASE and ACPI_CNTL (datasheet, 13.1.13 and 13.1.14). The values of CONFIG_ADDRESS, and what follows.
 */
const POWER_MANAGEMENT: Readonly<Record<Board, readonly (readonly [number, number])[]>> = {
  pc: [
    [0x8000_0b40, POWER_MANAGEMENT_BASE.pc + 1],
    [0x8000_0b80, 1],
  ],
  q35: [
    [0x8000_f840, POWER_MANAGEMENT_BASE.q35 + 1],
    [0x8000_f844, 0x80],
  ],
}

/** The guest's code: a page that both the ROM's tables and the call's map at `code`, with the shared page at `shared`. */
export interface Trampoline {
  readonly bytes: Uint8Array
  /** Where the ROM goes on, where the call returns to, and the handlers by vector: linear addresses. */
  readonly entry: bigint
  readonly returnAddress: bigint
  readonly handlers: readonly bigint[]
}

/** Assembles the code that loads a call's state, jumps to `rip`, and notes how that ended. */
export function assembleTrampoline(
  code: bigint,
  shared: bigint,
  {
    rip,
    flags,
    board,
    isCompatible,
  }: {
    readonly rip: bigint
    readonly flags: number
    readonly board: Board
    /** Whether the call begins in a code segment of 32 bits. */
    readonly isCompatible: boolean
  },
): Trampoline {
  const { A, C, D, B, SP, R15 } = Register
  const to = new Assembler(code, 64)
  placePowerManagement(to, board)
  maskInterrupts(to)
  to.moveImmediate(64, B, shared)
  to.lgdt(B, Shared.GdtPointer)
  to.lidt(B, Shared.IdtPointer)
  to.moveImmediate(32, A, Selector.Task)
  to.ltr(A)
  to.moveImmediate(32, A, Selector.Data)
  for (const segment of ['ss', 'ds', 'es'] as const) to.moveToSegment(segment, A)
  to.moveImmediate(32, C, MSR_EFER)
  to.load(32, A, B, Shared.Efer)
  to.load(32, D, B, Shared.Efer + 4)
  to.wrmsr()
  for (const [register, field] of [
    [4, Shared.Cr4],
    [0, Shared.Cr0],
    [3, Shared.Cr3],
  ] as const) {
    to.load(64, A, B, field)
    to.moveToControl(register, A)
  }
  // FXRSTOR64 [RBX + …].
  to.raw(0x48, 0x0f, 0xae, 0x8b, ...doubleword(Shared.VectorsBefore))
  to.moveImmediate(64, SP, shared + BigInt(Shared.Stack))
  to.pushImmediate(flags)
  popFlags(to)
  to.move(64, R15, B)
  for (let register = 0; register < 15; register++) {
    to.load(64, register as Register, R15, Shared.Registers + register * 8)
  }
  to.load(64, R15, R15, Shared.Registers + 15 * 8)
  if (isCompatible) {
    // JMP FAR [RIP], of an offset of 32 bits and a selector.
    to.raw(0xff, 0x2d, 0, 0, 0, 0, ...doubleword(Number(rip)), Selector.Code32, 0)
  } else {
    to.raw(...jumpTo(rip))
  }

  to.label('returned')
  storeA(to, shared + BigInt(Shared.Left))
  // PUSHFQ takes the place of the return address, and no instruction before it changes a flag.
  to.raw(0x9c)
  to.pop(A)
  storeA(to, shared + BigInt(Shared.Rflags))
  to.moveImmediate(32, A, RETURNED)
  storeA(to, shared + BigInt(Shared.Vector))
  to.jump('note')
  for (let vector = 0; vector < VECTORS; vector++) {
    to.label(`handler ${vector}`)
    if (!pushesErrorCode(vector)) to.pushImmediate(0)
    storeA(to, shared + BigInt(Shared.Left))
    to.moveImmediate(32, A, vector)
    storeA(to, shared + BigInt(Shared.Vector))
    to.jump('faulted')
  }
  to.label('faulted')
  // The frame: error code, RIP, CS, RFLAGS, RSP.
  for (const [field, offset] of [
    [Shared.ErrorCode, 0],
    [Shared.Rip, 8],
    [Shared.Rflags, 24],
    [Shared.Rsp, 32],
  ] as const) {
    to.load(64, A, SP, offset)
    storeA(to, shared + BigInt(field))
  }
  to.moveFromControl(A, 2)
  storeA(to, shared + BigInt(Shared.Cr2))
  to.label('note')
  to.moveImmediate(64, A, shared)
  for (let register = 1; register < 16; register++) {
    to.store(64, A, Shared.Left + register * 8, register as Register)
  }
  // FXSAVE64 [RAX + …].
  to.raw(0x48, 0x0f, 0xae, 0x80, ...doubleword(Shared.VectorsLeft))
  to.moveImmediate(32, A, EXIT_VALUE)
  to.out(EXIT_PORT)
  to.hlt()
  const bytes = to.assemble()
  if (bytes.length > PAGE_SIZE) throw new RangeError('the trampoline does not fit into a page')
  return {
    bytes,
    entry: code,
    returnAddress: to.addressOf('returned'),
    handlers: Array.from({ length: VECTORS }, (_, vector) => to.addressOf(`handler ${vector}`)),
  }
}

/** Puts the registers of power management where the firmware has put them. */
export function placePowerManagement(to: Assembler, board: Board): void {
  for (const [register, value] of POWER_MANAGEMENT[board]) {
    writeConfiguration(to, register, value)
  }
}

/** Masks all interrupts of the two controllers. */
export function maskInterrupts(to: Assembler): void {
  for (const port of PIC_MASKS) {
    to.moveImmediate(32, Register.A, 0xff)
    to.out(port)
  }
}

/** Whether an exception pushes an error code. */
export function pushesErrorCode(vector: number): boolean {
  return WITH_ERROR_CODE.has(vector)
}

function writeConfiguration(to: Assembler, register: number, value: number): void {
  const { A, D } = Register
  for (const [port, word] of [
    [CONFIGURATION_PORTS[0], register],
    [CONFIGURATION_PORTS[1], value],
  ] as const) {
    to.moveImmediate(32, D, port)
    to.moveImmediate(32, A, word)
    // OUT DX, EAX.
    to.raw(0xef)
  }
}

/** JMP [RIP]: the address lies behind the instruction. */
function jumpTo(address: bigint): Uint8Array {
  return Uint8Array.of(0xff, 0x25, 0, 0, 0, 0, ...quadword(address))
}

/** What code of 32 bits comes back to, at an address that it can have: a far jump into the segment of 64 bits, and from there to `returned`. */
export function assembleWayBack(at: number, returned: bigint): Uint8Array {
  const behind = at + FAR_JUMP_BYTES
  return Uint8Array.of(0xea, ...doubleword(behind), Selector.Code, 0, ...jumpTo(returned))
}

/** JMP FAR, of 32 bits. */
const FAR_JUMP_BYTES = 7

/** POPFQ. */
function popFlags(to: Assembler): void {
  to.raw(0x9d)
}

/** MOV moffs64, RAX: to any address, with no register to name it. */
function storeA(to: Assembler, address: bigint): void {
  to.raw(0x48, 0xa3, ...quadword(address))
}

function doubleword(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

function quadword(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, value)).buffer)
}
