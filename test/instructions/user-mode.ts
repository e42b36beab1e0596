import {
  type Cpu,
  Cr0,
  Cr4,
  Efer,
  type PhysicalAddress,
  type PhysicalMemory,
  Segment,
  type SegmentRegister,
  SegmentRights,
} from '@trapdoor/core'

import { FxsaveOffset } from './cases/fpu-state.ts'
import type { HostMode } from './native/host.ts'
import { CODE_32, CODE_64, DATA, RecordOffset } from './native/layout.ts'

const USER =
  SegmentRights.Granularity |
  SegmentRights.Present |
  SegmentRights.CodeOrData |
  SegmentRights.ReadableOrWritable |
  SegmentRights.Accessed |
  (3 << SegmentRights.PrivilegeShift)
const LIMIT = 0xffff_ffff

/** Segments of Linux's processes (arch/x86/kernel/cpu/common.c, gdt_page). */
const USER_CODE_64: SegmentRegister = {
  selector: CODE_64,
  base: 0n,
  limit: LIMIT,
  rights: USER | SegmentRights.Code | SegmentRights.Long,
}
const USER_CODE_32: SegmentRegister = {
  selector: CODE_32,
  base: 0n,
  limit: LIMIT,
  rights: USER | SegmentRights.Code | SegmentRights.Default32,
}
const USER_DATA: SegmentRegister = {
  selector: DATA,
  base: 0n,
  limit: LIMIT,
  rights: USER | SegmentRights.Default32,
}

/** Linear address of a page that only the processor reads: the descriptor table and the task-state segment. */
export const SYSTEM_TABLES = 0x7000_0000n
const TASK_STATE_OFFSET = 0x800
const TASK_STATE_BYTES = 104
const IO_MAP_BASE = 102
const GDT_ENTRIES = 16

/** Descriptors by index in Linux's table: kernel code and data, 32-bit code, data and 64-bit code of processes. */
const DESCRIPTORS: readonly (readonly [index: number, descriptor: bigint])[] = [
  [1, 0x00cf_9b00_0000_ffffn],
  [2, 0x00af_9b00_0000_ffffn],
  [3, 0x00cf_9300_0000_ffffn],
  [4, 0x00cf_fb00_0000_ffffn],
  [5, 0x00cf_f300_0000_ffffn],
  [6, 0x00af_fb00_0000_ffffn],
]

/** Writes the tables of {@link SYSTEM_TABLES}, whose page lies at a physical address. The task-state segment ends before its I/O permission map: no port is allowed. */
export function writeSystemTables(memory: PhysicalMemory, physical: number): void {
  for (const [index, descriptor] of DESCRIPTORS) memory.write64(physical + index * 8, descriptor)
  memory.write16(physical + TASK_STATE_OFFSET + IO_MAP_BASE, TASK_STATE_BYTES)
}

/** PKRU of a new process: data of key 0 alone may be accessed (Linux, arch/x86/mm/pkeys.c, init_pkru_value). */
const INITIAL_PKRU = 0x5555_5554

/** Control registers as Linux has them on a host, as far as an instruction of user mode can tell, and privilege level 3. */
export function enterUserMode(cpu: Cpu, root: PhysicalAddress, host: HostMode): void {
  cpu.writeEfer(cpu.efer | Efer.NXE)
  cpu.writeCr3(root)
  cpu.writeCr0(cpu.cr0 | Cr0.MP | Cr0.NE)
  cpu.writeCr4(
    cpu.cr4 |
      (Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.OSXSAVE) |
      (host.protectionKeys ? Cr4.PKE : 0) |
      (host.baseInstructions ? Cr4.FSGSBASE : 0),
  )
  if (host.protectionKeys) cpu.writePkru(INITIAL_PKRU)
  cpu.floatingPoint.xcr0 = 3
  cpu.loadSegment(Segment.CS, USER_CODE_64)
  for (const segment of [Segment.SS, Segment.DS, Segment.ES]) cpu.loadSegment(segment, USER_DATA)
  cpu.gdtr = { base: SYSTEM_TABLES, limit: GDT_ENTRIES * 8 - 1 }
  cpu.taskRegister = {
    selector: 0x40,
    base: SYSTEM_TABLES + BigInt(TASK_STATE_OFFSET),
    limit: TASK_STATE_BYTES - 1,
  }
  cpu.cpl = 3
}

/** Loads CS, FS and GS as a case has them. */
export function selectSegments(
  cpu: Cpu,
  record: DataView,
  { is32 }: { readonly is32: boolean },
): void {
  const code = is32 ? USER_CODE_32 : USER_CODE_64
  // A far transfer may have led elsewhere.
  if (cpu.cs !== code.selector) cpu.loadSegment(Segment.CS, code)
  const bases = [
    [Segment.FS, record.getBigUint64(RecordOffset.FsBase, true)],
    [Segment.GS, record.getBigUint64(RecordOffset.GsBase, true)],
  ] as const
  for (const [segment, base] of bases) {
    const now = cpu.segments[segment]!
    if (now.base !== base) cpu.loadSegment(segment, { ...now, base })
  }
}

/** Loads the registers of x87 and SSE from an FXSAVE image. */
export function loadFxsave(cpu: Cpu, image: DataView): void {
  const state = cpu.floatingPoint
  state.controlWord = image.getUint16(FxsaveOffset.Fcw, true)
  state.statusWord = image.getUint16(FxsaveOffset.Fsw, true)
  state.tags = image.getUint8(FxsaveOffset.Ftw)
  state.lastOpcode = image.getUint16(FxsaveOffset.Fop, true)
  state.lastInstruction = image.getBigUint64(FxsaveOffset.Fip, true)
  state.lastData = image.getBigUint64(FxsaveOffset.Fdp, true)
  cpu.mxcsr = image.getUint32(FxsaveOffset.Mxcsr, true)
  const top = (state.statusWord >> 11) & 7
  for (let at = 0; at < 8; at++) {
    const register = ((top + at) & 7) * 4
    const from = FxsaveOffset.St + at * 16
    state.registers[register] = image.getInt32(from, true)
    state.registers[register + 1] = image.getInt32(from + 4, true)
    state.registers[register + 2] = image.getUint16(from + 8, true)
  }
  for (let word = 0; word < 64; word++) {
    state.xmm[word] = image.getInt32(FxsaveOffset.Xmm + word * 4, true)
  }
}

const TOP = 0x3800
const ALL_VALID = 0xff

/** A part of going over from the x87 to MMX: R0 becomes the top of the stack, or all registers valid (SDM Vol. 3, 12.2). */
export function enterMmx({ floatingPoint }: Cpu, part: 'top' | 'tags'): void {
  if (part === 'top') floatingPoint.statusWord &= ~TOP
  else floatingPoint.tags = ALL_VALID
}

/** The registers of x87 and SSE as an FXSAVE image, without FOP, FIP and FDP. */
export function storeFxsave(cpu: Cpu, image: DataView): void {
  const state = cpu.floatingPoint
  image.setUint16(FxsaveOffset.Fcw, state.controlWord, true)
  image.setUint16(FxsaveOffset.Fsw, state.statusWord, true)
  image.setUint8(FxsaveOffset.Ftw, state.tags)
  image.setUint32(FxsaveOffset.Mxcsr, cpu.mxcsr, true)
  const top = (state.statusWord >> 11) & 7
  for (let at = 0; at < 8; at++) {
    const register = ((top + at) & 7) * 4
    const to = FxsaveOffset.St + at * 16
    image.setInt32(to, state.registers[register]!, true)
    image.setInt32(to + 4, state.registers[register + 1]!, true)
    image.setUint16(to + 8, state.registers[register + 2]!, true)
  }
  for (let word = 0; word < 64; word++) {
    image.setInt32(FxsaveOffset.Xmm + word * 4, state.xmm[word]!, true)
  }
}
