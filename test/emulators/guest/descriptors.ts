import { PAGE_BYTES } from '../cases/table.ts'
import { COMPLETED, guestAddress, Header, Physical, Selector } from './layout.ts'
import { LEGACY_ENTRY } from './legacy.ts'

const TSS_OFFSET = 0x400
const TSS_BYTES = 0x68
/** Where a 64-bit TSS holds the stack that every gate here names. */
const TSS_IST1 = 0x24
/** Where a 32-bit TSS holds the stack of privilege level 0. */
const TSS_ESP0 = 4
const TSS_SS0 = 8

/** An interrupt gate that a user may call: type and DPL. */
const GATE = 0xee
const IST1 = 1

/** Writes GDT, TSS and IDT. `image` begins at Physical.Header, `handlers` are linear addresses by vector. */
export function writeDescriptors(
  image: Buffer,
  handlers: readonly bigint[],
  longMode: boolean,
): void {
  const linear = (physical: number) => guestAddress(physical, longMode)
  const gdt = Physical.Descriptors - Physical.Header
  const task = linear(Physical.Descriptors) + BigInt(TSS_OFFSET)
  const descriptors = segmentDescriptors(task)
  descriptors.forEach((descriptor, at) => {
    image.writeBigUInt64LE(descriptor, gdt + at * 8)
  })
  const stackTop = linear(Physical.Stack) + BigInt(PAGE_BYTES)
  if (longMode) {
    image.writeBigUInt64LE(stackTop, gdt + TSS_OFFSET + TSS_IST1)
  } else {
    image.writeUInt32LE(Number(stackTop), gdt + TSS_OFFSET + TSS_ESP0)
    image.writeUInt32LE(Selector.Data, gdt + TSS_OFFSET + TSS_SS0)
  }
  handlers.forEach((handler, vector) => {
    if (longMode) writeGate64(image, vector, handler)
    else writeGate32(image, vector, Number(handler))
  })
  const gates = (COMPLETED + 1) * (longMode ? 16 : 8)
  writePointer(
    image,
    Header.GlobalDescriptorTable,
    descriptors.length * 8,
    linear(Physical.Descriptors),
  )
  writePointer(image, Header.InterruptDescriptorTable, gates, linear(Physical.InterruptTable))
  image.writeUInt32LE(Physical.LegacyCode + LEGACY_ENTRY, Header.LegacyEntry)
  image.writeUInt16LE(Selector.LegacyCode, Header.LegacyEntry + 4)
}

/** In the order of {@link Selector} (SDM Vol. 3, 3.4.5). The accessed flags are there, so that the page is not written for them. */
function segmentDescriptors(task: bigint): bigint[] {
  return [
    0n,
    0x00af_9b00_0000_ffffn,
    0x00cf_9300_0000_ffffn,
    0x00cf_f300_0000_ffffn,
    0x00af_fb00_0000_ffffn,
    BigInt(TSS_BYTES - 1) |
      ((task & 0xff_ffffn) << 16n) |
      (0x89n << 40n) |
      (((task >> 24n) & 0xffn) << 56n),
    task >> 32n,
    0x00cf_9b00_0000_ffffn,
    0x00cf_fb00_0000_ffffn,
  ]
}

/** With the stack IST1 (SDM Vol. 3, 6.14.1). */
function writeGate64(image: Buffer, vector: number, handler: bigint): void {
  const at = Physical.InterruptTable - Physical.Header + vector * 16
  image.writeUInt16LE(Number(handler & 0xffffn), at)
  image.writeUInt16LE(Selector.Code, at + 2)
  image.writeUInt8(IST1, at + 4)
  image.writeUInt8(GATE, at + 5)
  image.writeUInt16LE(Number((handler >> 16n) & 0xffffn), at + 6)
  image.writeUInt32LE(Number(handler >> 32n), at + 8)
}

function writeGate32(image: Buffer, vector: number, handler: number): void {
  const at = Physical.InterruptTable - Physical.Header + vector * 8
  image.writeUInt16LE(handler & 0xffff, at)
  image.writeUInt16LE(Selector.LegacyCode, at + 2)
  image.writeUInt8(GATE, at + 5)
  image.writeUInt16LE(handler >>> 16, at + 6)
}

function writePointer(image: Buffer, at: number, length: number, base: bigint): void {
  image.writeUInt16LE(length - 1, at)
  image.writeBigUInt64LE(base, at + 2)
}
