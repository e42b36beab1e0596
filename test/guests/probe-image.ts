import { Assembler, Condition, Register } from '@trapdoor/assembler'
import { Address, CALL_GATE_LABEL, END_LABEL, END_VECTOR, type Probe, Selector } from './probe.ts'
import { Slot } from './record.ts'

/** What the image is for: its interrupt table and its handlers have one size. */
export type ImageMode = 'protected' | 'ia32e'

const LOAD = 0x10_0000
/** Behind everything that {@link Address} names. */
const CODE = 0x20_0000
/** Where the mapping of IA-32e mode and the memory of the guest have room for it. */
const CODE_BYTES = 0x20_0000
const SERIAL = 0x3f8
const EXIT_PORT = 0xf4
const VECTORS = 256
/** Exceptions that push an error code. */
const WITH_CODE: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21])
const PRESENT_GATE = 0x8e
const PRESENT_USER_GATE = 0xee
const TSS_BYTES = 0x68
const IA32_EFER = 0xc000_0080
/** In a handler of protected mode only SS and CS are sure to be there: DS may be the user's, or null. */
const SS_OVERRIDE = 0x36
const CR0_PROTECTED = 0x11
const CR0_PAGED = 0x8001_0011
const CR4 = 0x20

/** Where the driver has left the address to go on at. */
const RESUME = Address.Record + 0x800

/**
 * A flat Multiboot image that carries out probes one after the other and prints a line for each: the words of its record in hexadecimal. At the end it writes 0 to the exit port. `mode` says which
 * kind of interrupt table it has; probes of the other kind cannot be in it.
 */
export function probeImage(mode: ImageMode, probes: readonly Probe[]): Uint8Array {
  const isLong = mode === 'ia32e'
  const code = new Assembler(BigInt(CODE), 32)
  const writer = new ImageCode(code, isLong)
  writer.entry()
  for (const [index, probe] of probes.entries()) writer.probe(index, probe)
  writer.finish()
  writer.handlers()
  const bytes = code.assemble()
  if (bytes.length > CODE_BYTES) {
    throw new RangeError(`the probes take ${bytes.length} bytes of code, which is too much`)
  }
  const image = Buffer.alloc(CODE - LOAD + bytes.length)
  writeHeader(image)
  image.set(bytes, CODE - LOAD)
  const at = (address: number): number => address - LOAD
  writeGdt(image, at(Address.Gdt), Number(code.addressOf(CALL_GATE_LABEL)), isLong)
  for (let vector = 0; vector < VECTORS; vector++) {
    const handler = Number(
      code.addressOf(vector < 32 || vector === END_VECTOR ? `vector ${vector}` : 'vector 255'),
    )
    writeGate(image, at(Address.Idt), vector, handler, isLong)
  }
  if (isLong) {
    writePageTables(image, at(Address.PageTables))
    image.writeUInt32LE(Address.InnerStack, at(Address.Task) + 4)
    image.writeUInt32LE(Address.InterruptStack, at(Address.Task) + 0x24)
  } else {
    image.writeUInt32LE(Address.InnerStack, at(Address.Task) + 4)
    image.writeUInt32LE(Selector.Data, at(Address.Task) + 8)
  }
  writeDescriptor(image, at(Address.Ldt) + 8, FLAT_DATA)
  writeDescriptor(image, at(Address.Ldt) + 16, { ...FLAT_DATA, access: 0xf3 })
  return image
}

function slot(index: number): number {
  return Address.Record + index * 4
}

/** Emits the code of the image: how it comes to its mode, the driver of each probe, and the handlers. */
class ImageCode {
  readonly #code: Assembler
  readonly #isLong: boolean

  constructor(code: Assembler, isLong: boolean) {
    this.#code = code
    this.#isLong = isLong
  }

  entry(): void {
    const code = this.#code
    code.moveImmediate(32, Register.SP, Address.Stack)
    // The interrupt controllers keep still.
    code.moveImmediate(32, Register.A, 0xff)
    code.out(0x21)
    code.out(0xa1)
    this.#loadTables()
    if (!this.#isLong) {
      code.jumpFar(Selector.Code32, 'in protected mode')
      code.label('in protected mode')
    } else {
      code.moveImmediate(32, Register.A, CR4)
      code.moveToControl(4, Register.A)
      code.moveImmediate(32, Register.A, Address.PageTables)
      code.moveToControl(3, Register.A)
      this.#writeMsr(IA32_EFER, 0x901)
      code.moveImmediate(32, Register.A, CR0_PAGED)
      code.moveToControl(0, Register.A)
      code.jumpFar(Selector.Code64, 'in 64-bit mode')
      code.bits = 64
      code.label('in 64-bit mode')
    }
    this.#loadSegments()
    this.#loadStack()
    code.moveImmediate(32, Register.A, Selector.Task)
    code.ltr(Register.A)
    code.moveImmediate(32, Register.A, Selector.Ldt)
    // LLDT AX
    code.raw(0x0f, 0x00, 0xd0)
  }

  /** Sets everything as each probe finds it, and goes to it. */
  probe(index: number, probe: Probe): void {
    const code = this.#code
    const next = `next ${index}`
    const start = `probe ${index}`
    code.call('prepare')
    this.#storeLabel(RESUME, next)
    const bits = probe.mode === '64-bit' ? 64 : 32
    if (probe.level === 3) this.#loadSegments(Selector.UserData)
    for (const register of Object.values(Register)) {
      if (register === Register.SP || (register >= 8 && !this.#isLong)) continue
      const value = 0x1111_1111 * (register + 1)
      code.moveImmediate(32, register, value % 2 ** 32)
    }
    const flags = probe.flags ?? 2
    const isUser = probe.level === 3
    const selector =
      bits === 64
        ? isUser
          ? Selector.UserCode64
          : Selector.Code64
        : isUser
          ? Selector.UserCode32
          : Selector.Code32
    if (this.#isLong || isUser) {
      code.pushImmediate(isUser ? Selector.UserData : Selector.Data)
      code.pushImmediate(isUser ? Address.UserStack : Address.Stack)
    }
    code.pushImmediate(flags)
    code.pushImmediate(selector)
    code.pushLabel(start)
    if (this.#isLong) code.iretq()
    else code.iretd()
    code.label(start)
    code.bits = bits
    probe.emit(code)
    code.bits = bits
    code.int(END_VECTOR)
    code.bits = this.#isLong ? 64 : 32
    code.label(next)
    this.#print()
  }

  finish(): void {
    const code = this.#code
    code.moveImmediate(32, Register.A, 0)
    code.out(EXIT_PORT)
    code.hlt()
    code.label(CALL_GATE_LABEL)
    code.label(END_LABEL)
    code.int(END_VECTOR)
  }

  handlers(): void {
    const code = this.#code
    for (let vector = 0; vector < VECTORS; vector++) {
      if (vector >= 32 && vector !== END_VECTOR && vector !== 255) continue
      code.label(`vector ${vector}`)
      if (!WITH_CODE.has(vector)) code.raw(0x6a, 0x00)
      code.pushImmediate(vector)
      code.jump('record')
    }
    code.label('record')
    this.#recordFrame()
    code.label('print')
    this.#printRecord()
    code.label('prepare')
    this.#prepare()
  }

  /** What a probe may have changed is as it was. */
  #prepare(): void {
    const code = this.#code
    // POP RBP: the way back, as the stack is set anew.
    code.raw(0x5d)
    code.moveImmediate(32, Register.SP, Address.Stack)
    this.#loadTables()
    this.#loadSegments()
    this.#loadStack()
    code.pushImmediate(2)
    code.raw(0x9d)
    code.moveImmediate(32, Register.A, Selector.Ldt)
    code.raw(0x0f, 0x00, 0xd0)
    code.moveImmediate(32, Register.A, this.#isLong ? CR0_PAGED : CR0_PROTECTED)
    code.moveToControl(0, Register.A)
    code.moveImmediate(32, Register.A, this.#isLong ? CR4 : 0)
    code.moveToControl(4, Register.A)
    if (this.#isLong) this.#writeMsr(IA32_EFER, 0x901)
    code.xorRegister(32, Register.A, Register.A)
    code.moveToControl(2, Register.A)
    code.moveImmediate(32, Register.A, 0xffff_0ff0)
    // MOV DR6, EAX
    code.raw(0x0f, 0x23, 0xf0)
    // Data and record are cleared: REP STOSD of 1024 words each.
    code.raw(0xfc)
    for (const page of [Address.Data, Address.Record]) {
      code.xorRegister(32, Register.A, Register.A)
      code.moveImmediate(32, Register.DI, page)
      code.moveImmediate(32, Register.C, page === Address.Data ? 1024 : 256)
      code.raw(0xf3, 0xab)
    }
    // JMP RBP
    code.raw(0xff, 0xe5)
  }

  #loadTables(): void {
    const code = this.#code
    const pointer = Address.Record + 0xc00
    code.moveImmediate(32, Register.B, pointer)
    for (const [limit, base, load] of [
      [0xff, Address.Gdt, () => code.lgdt(Register.B, 2)],
      [VECTORS * (this.#isLong ? 16 : 8) - 1, Address.Idt, () => code.lidt(Register.B, 2)],
    ] as const) {
      code.moveImmediate(32, Register.A, (limit << 16) >>> 0)
      code.store(32, Register.B, 0, Register.A)
      code.moveImmediate(32, Register.A, base)
      code.store(32, Register.B, 4, Register.A)
      code.xorRegister(32, Register.A, Register.A)
      code.store(32, Register.B, 8, Register.A)
      load()
    }
  }

  /** DS, ES, FS and GS; the stack is the supervisor's. */
  #loadSegments(selector: number = Selector.Data): void {
    const code = this.#code
    code.moveImmediate(32, Register.A, selector)
    // MOV Sreg, AX
    for (const modrm of [0xd8, 0xc0, 0xe0, 0xe8]) code.raw(0x8e, modrm)
  }

  #loadStack(): void {
    this.#code.moveImmediate(32, Register.A, Selector.Data)
    this.#code.moveToSegment('ss', Register.A)
  }

  #writeMsr(index: number, value: number): void {
    const code = this.#code
    code.moveImmediate(32, Register.C, index)
    code.moveImmediate(32, Register.A, value)
    code.xorRegister(32, Register.D, Register.D)
    code.wrmsr()
  }

  /** MOV [address], imm32 of a label: by EAX. */
  #storeLabel(address: number, label: string): void {
    const code = this.#code
    code.pushLabel(label)
    code.raw(0x58)
    this.#store(address, Register.A)
  }

  /** MOV [address], register; 64 bits in 64-bit code. */
  #store(address: number, register: Register): void {
    const code = this.#code
    const rex = 0x48 | (register >= 8 ? 4 : 0)
    if (this.#isLong) code.raw(rex, 0x89, 0x04 | ((register & 7) << 3), 0x25)
    else code.raw(SS_OVERRIDE, 0x89, 0x05 | ((register & 7) << 3))
    code.data32(address)
  }

  #recordFrame(): void {
    const code = this.#code
    const registers = this.#isLong ? 16 : 8
    for (let register = 0; register < registers; register++) {
      if (register === Register.SP) continue
      this.#store(slot(Slot.Registers + register * 2), register as Register)
    }
    // Vector, error code, RIP, CS, RFLAGS, and where they are there RSP and SS.
    const popInto = (index: number): void => {
      code.raw(0x58)
      this.#storeWord(slot(index))
    }
    for (const index of [Slot.Vector, Slot.ErrorCode, Slot.Rip, Slot.Cs, Slot.Flags]) popInto(index)
    if (!this.#isLong) {
      // TEST BYTE SS:[Cs], 3
      code.raw(SS_OVERRIDE, 0xf6, 0x05)
      code.data32(slot(Slot.Cs))
      code.raw(3)
      code.jumpIf(Condition.Equal, 'same level')
    }
    popInto(Slot.Rsp)
    popInto(Slot.Ss)
    if (!this.#isLong) code.label('same level')
    for (const [index, modrm] of [
      [Slot.SsNow, 0xd0],
      [Slot.Ds, 0xd8],
      [Slot.Es, 0xc0],
      [Slot.Fs, 0xe0],
      [Slot.Gs, 0xe8],
    ] as const) {
      // MOV EAX, Sreg
      code.raw(0x8c, modrm)
      this.#storeWord(slot(index))
    }
    for (const [index, control] of [
      [Slot.Cr0, 0],
      [Slot.Cr2, 2],
      [Slot.Cr4, 4],
    ] as const) {
      code.moveFromControl(Register.A, control)
      this.#storeWord(slot(index))
    }
    // MOV EAX, DR6
    code.raw(0x0f, 0x21, 0xf0)
    this.#storeWord(slot(Slot.Dr6))
    this.#loadSegments()
    this.#loadStack()
    code.moveImmediate(32, Register.SP, Address.Stack)
    // JMP [RESUME]
    if (this.#isLong) code.raw(0xff, 0x24, 0x25)
    else code.raw(0xff, 0x25)
    code.data32(RESUME)
  }

  /** MOV [address], EAX. */
  #storeWord(address: number): void {
    const code = this.#code
    if (this.#isLong) code.raw(0x89, 0x04, 0x25)
    else code.raw(SS_OVERRIDE, 0x89, 0x05)
    code.data32(address)
  }

  #print(): void {
    this.#code.call('print')
  }

  /** Prints the record: RBX walks over its words, RCX counts digits. */
  #printRecord(): void {
    const code = this.#code
    code.moveImmediate(32, Register.B, Address.Record)
    code.moveImmediate(32, Register.D, SERIAL)
    code.label('word')
    code.load(32, Register.SI, Register.B)
    code.moveImmediate(32, Register.C, 8)
    code.label('digit')
    // ROL ESI, 4; MOV EAX, ESI
    code.raw(0xc1, 0xc6, 0x04)
    code.move(32, Register.A, Register.SI)
    code.and(32, Register.A, 0xf)
    code.compare(32, Register.A, 10)
    code.jumpIf(Condition.Below, 'decimal')
    code.add(32, Register.A, 0x27)
    code.label('decimal')
    code.add(32, Register.A, 0x30)
    code.raw(0xee)
    code.sub(32, Register.C, 1)
    code.jumpIf(Condition.NotEqual, 'digit')
    code.add(32, Register.B, 4)
    code.compare(32, Register.B, Address.Record + Slot.Count * 4)
    code.jumpIf(Condition.NotEqual, 'word')
    code.moveImmediate(32, Register.A, 0x0a)
    code.raw(0xee)
    code.raw(0xc3)
  }
}

interface Descriptor {
  readonly base?: number
  readonly limit?: number
  readonly access: number
  readonly flags?: number
}

const FLAT_DATA: Descriptor = { access: 0x93, flags: 0xc }

function writeGdt(image: Buffer, at: number, callGate: number, isLong: boolean): void {
  const table: readonly (readonly [number, Descriptor])[] = [
    [Selector.Code32, { access: 0x9b, flags: 0xc }],
    [Selector.Data, FLAT_DATA],
    [Selector.Code64, { access: 0x9b, flags: 0xa }],
    [Selector.UserCode32, { access: 0xfb, flags: 0xc }],
    [Selector.UserData, { access: 0xf3, flags: 0xc }],
    [Selector.UserCode64, { access: 0xfb, flags: 0xa }],
    [Selector.Task, { base: Address.Task, limit: TSS_BYTES - 1, access: 0x89 }],
    [Selector.Ldt, { base: Address.Ldt, limit: 0x1f, access: 0x82 }],
    [Selector.AbsentData, { ...FLAT_DATA, access: 0x13 }],
    [Selector.ReadOnlyData, { ...FLAT_DATA, access: 0x91 }],
    [Selector.ConformingCode, { access: 0x9f, flags: 0xc }],
    [Selector.ExecuteOnlyCode, { access: 0x99, flags: 0xc }],
    [Selector.SmallData, { base: Address.Data, limit: 0xff, access: 0x93, flags: 0x4 }],
    [Selector.AbsentCode, { access: 0x1b, flags: 0xc }],
    [Selector.Code16, { access: 0x9b, limit: 0xf_ffff, flags: 0x8 }],
  ]
  for (const [selector, descriptor] of table)
    writeDescriptor(image, at + (selector & ~7), descriptor)
  const gate = at + (Selector.CallGate & ~7)
  image.writeUInt16LE(callGate & 0xffff, gate)
  image.writeUInt16LE(isLong ? Selector.Code64 : Selector.Code32, gate + 2)
  image.writeUInt16LE(0xec00, gate + 4)
  image.writeUInt16LE(callGate >>> 16, gate + 6)
}

function writeDescriptor(
  image: Buffer,
  at: number,
  { base = 0, limit = 0xf_ffff, access, flags = 0 }: Descriptor,
): void {
  image.writeUInt16LE(limit & 0xffff, at)
  image.writeUInt16LE(base & 0xffff, at + 2)
  image.writeUInt8((base >>> 16) & 0xff, at + 4)
  image.writeUInt8(access, at + 5)
  image.writeUInt8((flags << 4) | (limit >>> 16), at + 6)
  image.writeUInt8(base >>> 24, at + 7)
}

/** Vector 6 has an IST entry in IA-32e mode; the user may call 3, 4 and the one that ends a probe. */
function writeGate(
  image: Buffer,
  table: number,
  vector: number,
  handler: number,
  isLong: boolean,
): void {
  const at = table + vector * (isLong ? 16 : 8)
  const isEverybodys = vector === END_VECTOR || vector === 3 || vector === 4
  const flags =
    ((isEverybodys ? PRESENT_USER_GATE : PRESENT_GATE) << 8) | (isLong && vector === 6 ? 1 : 0)
  image.writeUInt16LE(handler & 0xffff, at)
  image.writeUInt16LE(isLong ? Selector.Code64 : Selector.Code32, at + 2)
  image.writeUInt16LE(flags, at + 4)
  image.writeUInt16LE(handler >>> 16, at + 6)
}

/** The first GiB, by pages of 2 MiB, everybody's. */
function writePageTables(image: Buffer, at: number): void {
  image.writeUInt32LE((Address.PageTables + 0x1000) | 7, at)
  image.writeUInt32LE((Address.PageTables + 0x2000) | 7, at + 0x1000)
  for (let index = 0; index < 512; index++) {
    image.writeUInt32LE(((index << 21) | 0xe7) >>> 0, at + 0x2000 + index * 8)
  }
}

/** A Multiboot header with addresses: the whole file from {@link LOAD} on. */
function writeHeader(image: Buffer): void {
  const flags = 0x1_0000
  const end = LOAD + image.length
  const words = [0x1bad_b002, flags, -(0x1bad_b002 + flags), LOAD, LOAD, end, 0, CODE]
  for (const [index, word] of words.entries()) image.writeUInt32LE(word >>> 0, index * 4)
}
