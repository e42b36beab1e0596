import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { parseAccesses } from '@trapdoor/capture'
import {
  type Board,
  Cr0,
  Cr4,
  FIVE_LEVEL,
  FOUR_LEVEL,
  type PhysicalMemory,
  PAGE_SIZE,
  PageTableBuilder,
  type PagingMode,
  pagingMode,
  phys,
  virt,
} from '@trapdoor/core'

import { Header } from '../emulators/guest/layout.ts'
import { assembleRom } from '../emulators/guest/rom.ts'
import type { QemuTrace } from '../traces/qemu-trace.ts'
import { runEmulator } from '../emulators/machines/process.ts'
import type { CodeMode, Ended, Entry, VectorState } from './call-state.ts'
import { assembleLegacyTrampoline, LegacyShared } from './legacy-trampoline.ts'
import type { PortAccess } from './noted-ports.ts'
import {
  assembleTrampoline,
  assembleWayBack,
  EXIT_CODE,
  EXIT_PORT,
  FxImage,
  LAST_MASK_PORT,
  RETURNED,
  Selector,
  Shared,
  VECTORS,
} from './trampoline.ts'

/** A processor at the first instruction of a call, and what of its machine the twin needs. */
export interface CallState extends Entry {
  /** RAM from address 0 on, in bytes, below 3 GiB. */
  readonly ramBytes: number
  /** A page of code and two of data that the kernel maps and nobody looks at: where the twin's own code and tables go. */
  readonly room: Room
}

/** Pages for the twin. */
export interface Room {
  readonly code: MappedPage
  readonly data: MappedPage
  /** Physical address of a page that the call's tables map where it is, and code may be in: what 32-bit code comes back to. Undefined where it is not needed. */
  readonly low?: number | undefined
}

/** Where a page is, and at which linear address the call's page tables map it. */
export interface MappedPage {
  readonly virtual: bigint
  readonly physical: number
}

/** The machine that QEMU is to be. */
export interface TwinMachine {
  readonly board: Board
  /** Bytes of the flash device that holds the firmware's code: the variables lie below it. */
  readonly codeFlashBytes: number
  /** Contents of the variable flash. */
  readonly flash: Uint8Array
}

/** How a call ended on QEMU. */
export interface TwinResult {
  readonly ended: Ended
  /** Undefined after a reset, which leaves no time to note them. */
  readonly general: readonly bigint[] | undefined
  readonly rflags: number | undefined
  readonly vectors: VectorState | undefined
  /** What the call did at ports, in order. */
  readonly ports: readonly PortAccess[]
  /** All RAM. */
  readonly ram: Uint8Array
  readonly flash: Uint8Array
}

/** Memory behind the machine's own that the twin's header and tables take. */
const EXTRA_BYTES = 0x20_0000
const EXIT_AT_RESET = 0
const LONGEST_IDENTITY = 2 ** 32
/** A trace writes all registers before each instruction: hundreds of megabytes of text for SetVirtualAddressMap. */
const TRACE_LIMIT_MS = 900_000

/** Runs a call on QEMU without acceleration, from the same memory, page tables and registers; a trace gets every state on the way. Throws EmulatorError where QEMU is missing or hangs. */
export async function runTwin(
  state: CallState,
  machine: TwinMachine,
  trace?: QemuTrace,
): Promise<TwinResult> {
  const directory = await mkdtemp(join(tmpdir(), 'trapdoor-twin-'))
  const at = (name: string): string => join(directory, name)
  try {
    const memory = prepare(state, machine.board)
    const total = state.ramBytes + EXTRA_BYTES
    await writeMemory(at('ram'), memory, total)
    const code = new Uint8Array(machine.codeFlashBytes).fill(0xff)
    const rom = assembleRom({
      header: state.ramBytes,
      mode: state.mode === 'legacy' ? 'protected' : 'long',
    })
    code.set(rom, code.length - rom.length)
    await writeFile(at('code'), code)
    await writeFile(at('vars'), machine.flash)
    await runEmulator(
      'qemu-system-x86_64',
      [
        ...qemuArguments(machine, { ramBytes: total, clock: state.clock }),
        ...(trace === undefined ? ['-D', LOG] : trace.arguments),
      ],
      {
        directory,
        packages: ['qemu-system-x86'],
        exitCodes: [EXIT_CODE, EXIT_AT_RESET],
        ...(trace === undefined
          ? {}
          : { onErrorOutput: (text) => trace.read(text), timeLimitMs: TRACE_LIMIT_MS }),
      },
    )
    const ram = new Uint8Array(await readFile(at('ram')))
    return {
      ...readResult(ram, state),
      ports: portsIn(trace?.otherText ?? (await readFile(at(LOG), 'latin1'))),
      ram: ram.subarray(0, state.ramBytes),
      flash: new Uint8Array(await readFile(at('vars'))),
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** A copy of the call's memory with the twin's code, descriptors and tables in it, and the call's return address pointing at them. */
function prepare(state: CallState, board: Board): PhysicalMemory {
  const memory = state.memory.fork()
  memory.write(state.room.data.physical, new Uint8Array(2 * PAGE_SIZE))
  if (state.mode === 'legacy') prepareLegacy(memory, state, board)
  else prepareLong(memory, state, board)
  writeState(memory, state)
  return memory
}

function prepareLong(memory: PhysicalMemory, state: CallState, board: Board): void {
  const { room, ramBytes } = state
  const trampoline = assembleTrampoline(room.code.virtual, room.data.virtual, {
    rip: state.rip,
    flags: state.rflags,
    board,
    isCompatible: state.mode === 'compatible',
  })
  memory.write(room.code.physical, trampoline.bytes)
  writeDescriptors(memory, room.data, trampoline.handlers)
  const mode = (state.cr4 & Cr4.LA57) === 0 ? FOUR_LEVEL : FIVE_LEVEL
  const tables = extraTables(memory, ramBytes, mode)
  // The ROM runs without EFER.NXE: NX would be a reserved bit.
  const executable = { executable: true } as const
  tables.identityMap(phys(0), LONGEST_IDENTITY, { ...executable, largestPage: 2 ** 30 })
  mapRoom(tables, room)
  memory.write64(ramBytes + Header.Cr4, BigInt(Cr4.PAE | (state.cr4 & Cr4.LA57)))
  memory.write64(ramBytes + Header.Root, BigInt(tables.root))
  memory.write64(ramBytes + Header.Entry, trampoline.entry)
  if (room.low === undefined) {
    memory.write64(state.returnSlot, trampoline.returnAddress)
  } else {
    memory.write(room.low, assembleWayBack(room.low, trampoline.returnAddress))
    memory.write32(state.returnSlot, room.low)
  }
}

function prepareLegacy(memory: PhysicalMemory, state: CallState, board: Board): void {
  const { room, ramBytes } = state
  const isPaged = (state.cr0 & Cr0.PG) !== 0
  const trampoline = assembleLegacyTrampoline(
    { code: room.code, shared: room.data },
    { rip: state.rip, flags: state.rflags, board, isPaged },
  )
  memory.write(room.code.physical, trampoline.bytes)
  const { physical } = room.data
  const base = isPaged ? room.data.virtual : BigInt(physical)
  writeLegacyDescriptors(memory, physical, base, trampoline.handlers)
  if (isPaged) {
    const tables = extraTables(memory, ramBytes, pagingMode(state.cr0, state.cr4, state.efer))
    tables.identityMap(phys(room.code.physical), PAGE_SIZE, { executable: true })
    tables.identityMap(phys(physical), 2 * PAGE_SIZE, { executable: true })
    mapRoom(tables, room)
    memory.write32(physical + LegacyShared.TemporaryCr3, tables.root)
  }
  memory.write64(ramBytes + Header.Entry, trampoline.entry)
  memory.write32(state.returnSlot, Number(trampoline.returnAddress))
}

/** Tables behind the machine's own memory. */
function extraTables(memory: PhysicalMemory, ramBytes: number, mode: PagingMode): PageTableBuilder {
  let next = ramBytes + PAGE_SIZE
  const frame = (): number => {
    const taken = next / PAGE_SIZE
    memory.clearFrame(taken)
    next += PAGE_SIZE
    return taken
  }
  return new PageTableBuilder(memory, phys(frame() * PAGE_SIZE), frame, { mode })
}

function mapRoom(tables: PageTableBuilder, { code, data }: Room): void {
  for (const [{ virtual, physical }, bytes] of [
    [code, PAGE_SIZE],
    [data, 2 * PAGE_SIZE],
  ] as const) {
    tables.mapRange(virt(virtual), phys(physical), bytes, { executable: true })
  }
}

/** GDT and IDT of 32-bit code in the two data pages, for addresses from `base` on. */
function writeLegacyDescriptors(
  memory: PhysicalMemory,
  physical: number,
  base: bigint,
  handlers: readonly bigint[],
): void {
  for (const [index, entry] of FLAT.entries()) {
    memory.write64(physical + Shared.Gdt + index * 8, entry)
  }
  for (const [vector, handler] of handlers.entries()) {
    const low = (handler & 0xffffn) | (BigInt(Selector.Code32) << 16n)
    const gate = low | INTERRUPT_GATE | ((handler >> 16n) << 48n)
    memory.write64(physical + PAGE_SIZE + vector * 8, gate)
  }
  const pointer = (field: number, limit: number, table: bigint): void => {
    memory.write64(physical + field, BigInt(limit) | (table << 16n))
  }
  pointer(Shared.GdtPointer, FLAT.length * 8 - 1, base + BigInt(Shared.Gdt))
  pointer(Shared.IdtPointer, VECTORS * 8 - 1, base + BigInt(PAGE_SIZE))
}

/** Segments of all 4 GiB: code of 32 bits, data, code of 64 bits. */
const FLAT = [0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn, 0x00af_9b00_0000_ffffn] as const

/** GDT, IDT and TSS in the two data pages. */
function writeDescriptors(
  memory: PhysicalMemory,
  { virtual, physical }: MappedPage,
  handlers: readonly bigint[],
): void {
  const task = virtual + BigInt(Shared.Tss)
  const gdt = [
    ...FLAT,
    0x67n | ((task & 0xff_ffffn) << 16n) | (0x89n << 40n) | (((task >> 24n) & 0xffn) << 56n),
    task >> 32n,
  ]
  for (const [index, entry] of gdt.entries()) {
    memory.write64(physical + Shared.Gdt + index * 8, entry)
  }
  const idt = virtual + BigInt(PAGE_SIZE)
  for (const [vector, handler] of handlers.entries()) {
    const at = physical + PAGE_SIZE + vector * 16
    const low = (handler & 0xffffn) | (BigInt(Selector.Code) << 16n)
    memory.write64(at, low | IST1 | INTERRUPT_GATE | (((handler >> 16n) & 0xffffn) << 48n))
    memory.write64(at + 8, handler >> 32n)
  }
  const pointer = (field: number, limit: number, base: bigint): void => {
    memory.write64(physical + field, BigInt(limit) | (BigInt.asUintN(48, base) << 16n))
    memory.write64(physical + field + 8, base >> 48n)
  }
  pointer(Shared.GdtPointer, gdt.length * 8 - 1, virtual + BigInt(Shared.Gdt))
  pointer(Shared.IdtPointer, VECTORS * 16 - 1, idt)
  // IST1 lies at 0x24 of the TSS (SDM Vol. 3, 8.7).
  memory.write(physical + Shared.Tss + 0x24, quadword(virtual + BigInt(Shared.HandlerStack)))
}

const INTERRUPT_GATE = 0x8en << 40n
const IST1 = 1n << 32n

function quadword(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer)
}

function writeState(memory: PhysicalMemory, state: CallState): void {
  const { physical } = state.room.data
  for (const [register, value] of state.general.entries()) {
    memory.write64(physical + Shared.Registers + register * 8, value)
  }
  for (const [field, value] of [
    [Shared.Cr0, state.cr0],
    [Shared.Cr3, state.cr3],
    [Shared.Cr4, state.cr4],
    [Shared.Efer, state.efer],
  ] as const) {
    memory.write64(physical + field, BigInt(value))
  }
  memory.write64(physical + Shared.Vector, NOTHING_HAPPENED)
  const { fcw, mxcsr, xmm } = state.vectors
  const image = physical + Shared.VectorsBefore
  memory.write16(image + FxImage.Fcw, fcw)
  memory.write32(image + FxImage.Mxcsr, mxcsr)
  for (const [word, value] of xmm.entries()) memory.write32(image + FxImage.Xmm + word * 4, value)
}

/** What {@link Shared}.Vector says until the call has ended. */
const NOTHING_HAPPENED = 0xffffn

async function writeMemory(path: string, memory: PhysicalMemory, bytes: number): Promise<void> {
  const file = await open(path, 'wx')
  try {
    for (let at = 0; at < bytes; at += CHUNK_BYTES) {
      await file.write(memory.read(at, Math.min(CHUNK_BYTES, bytes - at)))
    }
  } finally {
    await file.close()
  }
}

const CHUNK_BYTES = 0x40_0000

function readResult(
  ram: Uint8Array,
  { room, mode }: CallState,
): Pick<TwinResult, 'ended' | 'general' | 'rflags' | 'vectors'> {
  const view = new DataView(ram.buffer, ram.byteOffset + room.data.physical, 2 * PAGE_SIZE)
  const field = (offset: number): bigint => view.getBigUint64(offset, true)
  const vector = field(Shared.Vector)
  if (vector === NOTHING_HAPPENED) {
    return { ended: { kind: 'reset' }, general: undefined, rflags: undefined, vectors: undefined }
  }
  const bits = mode === 'long' ? 64 : 32
  const general = Array.from({ length: mode === 'long' ? 16 : 8 }, (_, register) =>
    BigInt.asUintN(bits, field(Shared.Left + register * 8)),
  )
  const rflags = Number(field(Shared.Rflags))
  const vectors = vectorsIn(view, mode)
  if (vector === BigInt(RETURNED)) {
    return { ended: { kind: 'returned', rax: general[0]! }, general, rflags, vectors }
  }
  // RAX and RSP were the handler's by the time that registers were noted.
  general[4] =
    mode === 'legacy' ? general[4]! + LEGACY_FRAME_BYTES : BigInt.asUintN(bits, field(Shared.Rsp))
  return {
    ended: {
      kind: 'exception',
      vector: Number(vector),
      errorCode: Number(field(Shared.ErrorCode)),
      cr2: field(Shared.Cr2),
      rip: field(Shared.Rip),
    },
    general,
    rflags,
    vectors,
  }
}

/** Error code, EIP, CS, EFLAGS. */
const LEGACY_FRAME_BYTES = 16n

function vectorsIn(view: DataView, mode: CodeMode): VectorState {
  const at = Shared.VectorsLeft
  const length = mode === 'legacy' ? 32 : 64
  return {
    fcw: view.getUint16(at + FxImage.Fcw, true),
    mxcsr: view.getUint32(at + FxImage.Mxcsr, true),
    xmm: Array.from({ length }, (_, word) => view.getInt32(at + FxImage.Xmm + word * 4, true)),
  }
}

/** Accesses to ports in QEMU's log, from where the trampoline has masked interrupts to where it leaves. */
function portsIn(log: string): PortAccess[] {
  const accesses = parseAccesses(log).filter(({ address }) => address < PORT_LIMIT)
  const begin = accesses.findIndex((access) => isWriteTo(access, LAST_MASK_PORT)) + 1
  const end = accesses.findIndex((access) => isWriteTo(access, EXIT_PORT))
  return accesses
    .slice(begin, end === -1 ? undefined : end)
    .map(({ kind, address, size, value }) => ({ kind, address, size, value }))
}

function isWriteTo({ kind, address }: PortAccess, port: number): boolean {
  return kind === 'write' && address === port
}

const PORT_LIMIT = 0x1_0000

function qemuArguments(
  { board }: TwinMachine,
  { ramBytes, clock }: { readonly ramBytes: number; readonly clock: string },
): string[] {
  return [
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none'],
    ['-accel', 'tcg'],
    // Time is counted in instructions: a second never passes within a call.
    ['-icount', 'shift=4,sleep=off'],
    ['-cpu', 'max'],
    ['-machine', `${board},memory-backend=main`],
    ['-m', `size=${ramBytes / 2 ** 20}M`],
    ['-object', `memory-backend-file,id=main,size=${ramBytes},mem-path=ram,share=on`],
    ['-rtc', `base=${clock},clock=vm`],
    ['-drive', 'if=pflash,unit=0,format=raw,readonly=on,file=code'],
    ['-drive', 'if=pflash,unit=1,format=raw,file=vars'],
    ['-device', `isa-debug-exit,iobase=0x${EXIT_PORT.toString(16)},iosize=1`],
    ['-trace', 'memory_region_ops_read', '-trace', 'memory_region_ops_write'],
  ].flat()
}

const LOG = 'log'
