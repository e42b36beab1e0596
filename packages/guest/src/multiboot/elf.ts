import { GuestError } from '../error.ts'
import type { LoadSegment } from './image.ts'

/** What of an ELF file a loader needs. */
export interface ElfImage {
  readonly segments: readonly LoadSegment[]
  /** Physical address of the entry point. */
  readonly entry: number
}

const ELF_MAGIC = 0x7f45_4c46
const ELFCLASS64 = 2
const ELFDATA2LSB = 1
const PT_LOAD = 1
const MACHINES: ReadonlyMap<number, string> = new Map([
  [3, 'Intel 80386'],
  [62, 'x86-64'],
])

/** Offsets in the ELF header and in a program header, by class (System V ABI, chapters 4 and 5). */
const CLASS_32 = {
  word: 4,
  headerBytes: 52,
  entry: 24,
  programHeaders: 28,
  entrySize: 42,
  programHeaderBytes: 32,
  fields: { offset: 4, virtual: 8, physical: 12, fileSize: 16, memorySize: 20 },
} as const
const CLASS_64 = {
  word: 8,
  headerBytes: 64,
  entry: 24,
  programHeaders: 32,
  entrySize: 54,
  programHeaderBytes: 56,
  fields: { offset: 8, virtual: 16, physical: 24, fileSize: 32, memorySize: 40 },
} as const

interface ProgramHeader {
  /** Byte of the file at which it lies. */
  readonly at: number
  readonly offset: number
  readonly virtual: number
  readonly physical: number
  readonly fileSize: number
  readonly memorySize: number
}

/** Whether a file starts as ELF files do. */
export function isElf(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) === ELF_MAGIC
  )
}

/**
 * Reads a 32-bit or 64-bit ELF executable for x86: its loadable segments go to their physical addresses. The entry point is a virtual address, and is
 * translated by the segment that it lies in (as GRUB 2.06 has it, grub-core/loader/multiboot_elfxx.c). Throws GUEST_BAD_ELF.
 */
export function readElf(bytes: Uint8Array, file: string): ElfImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const refuse = (offset: number, expected: string, found: string): GuestError =>
    new GuestError('GUEST_BAD_ELF', { file, offset, expected, found })
  const form = view.byteLength > 4 && view.getUint8(4) === ELFCLASS64 ? CLASS_64 : CLASS_32
  if (view.byteLength < form.headerBytes) {
    throw refuse(0, `an ELF header of ${form.headerBytes} bytes`, `${view.byteLength} bytes`)
  }
  if (view.getUint8(5) !== ELFDATA2LSB) {
    throw refuse(5, 'little-endian data (1)', String(view.getUint8(5)))
  }
  const machine = view.getUint16(18, true)
  if (!MACHINES.has(machine)) {
    const names = [...MACHINES].map(([number, name]) => `${name} (${number})`).join(' or ')
    throw refuse(18, `a machine of ${names}`, String(machine))
  }
  const word = (at: number): number =>
    form.word === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true))
  const first = word(form.programHeaders)
  const size = view.getUint16(form.entrySize, true)
  const count = view.getUint16(form.entrySize + 2, true)
  if (count > 0 && (size < form.programHeaderBytes || first + count * size > view.byteLength)) {
    throw refuse(
      form.programHeaders,
      'a program header table inside the file',
      `${count} entries of ${size} bytes at 0x${first.toString(16)}`,
    )
  }
  const loads = Array.from({ length: count }, (_, index) => first + index * size)
    .filter((at) => view.getUint32(at, true) === PT_LOAD)
    .map((at): ProgramHeader => ({
      at,
      offset: word(at + form.fields.offset),
      virtual: word(at + form.fields.virtual),
      physical: word(at + form.fields.physical),
      fileSize: word(at + form.fields.fileSize),
      memorySize: word(at + form.fields.memorySize),
    }))
    .filter(({ memorySize }) => memorySize > 0)
  for (const { at, offset, fileSize, memorySize } of loads) {
    if (fileSize > memorySize || offset + fileSize > view.byteLength) {
      throw refuse(
        at,
        'a segment that lies in the file and is no larger there than in memory',
        `0x${fileSize.toString(16)} bytes at 0x${offset.toString(16)} for 0x${memorySize.toString(16)}`,
      )
    }
  }
  const entry = word(form.entry)
  const holder = loads.find(
    ({ virtual, memorySize }) => entry >= virtual && entry < virtual + memorySize,
  )
  if (holder === undefined) {
    throw refuse(form.entry, 'an entry point in one of the segments', `0x${entry.toString(16)}`)
  }
  return {
    segments: loads.map(({ offset, physical, fileSize, memorySize }) => ({
      address: physical,
      size: memorySize,
      bytes: bytes.subarray(offset, offset + fileSize),
    })),
    entry: entry - holder.virtual + holder.physical,
  }
}
