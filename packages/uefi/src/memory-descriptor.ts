import { UefiError } from './error.ts'
import { MemoryAttribute } from './memory-attribute.ts'

/** EFI_MEMORY_DESCRIPTOR (UEFI 2.10, 7.2.3). */
export interface MemoryDescriptor {
  readonly type: number
  /** Bytes; a physical address, exact below 2^53. */
  readonly physicalStart: number
  /** 0 where nobody has assigned one. */
  readonly virtualStart: bigint
  /** Pages of 4 KiB. */
  readonly numberOfPages: number
  readonly attribute: bigint
}

/** Bytes of the structure in version 1. */
export const MEMORY_DESCRIPTOR_SIZE = 40
/** Bytes from one descriptor to the next in maps that edk2 reports: on purpose not the structure's size. */
export const EDK2_DESCRIPTOR_STRIDE = 48
/** EFI_MEMORY_DESCRIPTOR_VERSION (UEFI 2.10, 7.2). */
export const MEMORY_DESCRIPTOR_VERSION = 1

/** Exclusive end in bytes. A length that 64 bits do not hold wraps around, as it does in every kernel's arithmetic. */
export function descriptorEnd(descriptor: MemoryDescriptor): number {
  const end = descriptor.physicalStart + descriptor.numberOfPages * 4096
  return end < 2 ** 64 ? end : Number(BigInt.asUintN(64, BigInt(end)))
}

/** Whether the descriptor has the RUNTIME attribute. */
export function isRuntime(descriptor: MemoryDescriptor): boolean {
  return (descriptor.attribute & MemoryAttribute.RUNTIME) !== 0n
}

/** A map as GetMemoryMap writes it, with descriptors `stride` bytes apart. Throws UEFI_BAD_STRIDE below {@link MEMORY_DESCRIPTOR_SIZE}. */
export function encodeMemoryMap(
  descriptors: readonly MemoryDescriptor[],
  stride: number,
): Uint8Array {
  checkStride(stride)
  const bytes = new Uint8Array(descriptors.length * stride)
  const view = new DataView(bytes.buffer)
  for (const [index, descriptor] of descriptors.entries()) {
    const at = index * stride
    view.setUint32(at, descriptor.type, true)
    setNumber(view, at + 8, descriptor.physicalStart)
    view.setBigUint64(at + 16, descriptor.virtualStart, true)
    setNumber(view, at + 24, descriptor.numberOfPages)
    view.setBigUint64(at + 32, descriptor.attribute, true)
  }
  return bytes
}

/**
 * Reads a map whose descriptors are `stride` bytes apart. Throws UEFI_BAD_STRIDE on a stride below {@link MEMORY_DESCRIPTOR_SIZE}, UEFI_BAD_LENGTH where `bytes` is no whole number of
 * descriptors, UEFI_BAD_DESCRIPTOR on an address or length of 2^53 or more.
 */
export function decodeMemoryMap(bytes: Uint8Array, stride: number): MemoryDescriptor[] {
  checkStride(stride)
  if (bytes.length % stride !== 0) {
    throw new UefiError('UEFI_BAD_LENGTH', {
      expected: `a multiple of ${stride} bytes`,
      found: `${bytes.length} bytes`,
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const descriptors: MemoryDescriptor[] = []
  for (let at = 0; at < bytes.length; at += stride) {
    descriptors.push({
      type: view.getUint32(at, true),
      physicalStart: exact(view, at, 8),
      virtualStart: view.getBigUint64(at + 16, true),
      numberOfPages: exact(view, at, 24),
      attribute: view.getBigUint64(at + 32, true),
    })
  }
  return descriptors
}

function checkStride(stride: number): void {
  if (Number.isInteger(stride) && stride >= MEMORY_DESCRIPTOR_SIZE) return
  throw new UefiError('UEFI_BAD_STRIDE', {
    expected: `a descriptor size of ${MEMORY_DESCRIPTOR_SIZE} bytes or more`,
    found: String(stride),
  })
}

/** A whole number in 64 bits, without the detour of a bigint where it has no more than 53. */
function setNumber(view: DataView, at: number, value: number): void {
  if (value >= 0 && value <= Number.MAX_SAFE_INTEGER) {
    view.setUint32(at, value % 2 ** 32, true)
    view.setUint32(at + 4, Math.floor(value / 2 ** 32), true)
  } else {
    view.setBigUint64(at, BigInt(value), true)
  }
}

/** The 64-bit field at `offset` of the descriptor at byte `at`. */
function exact(view: DataView, at: number, offset: number): number {
  const value = view.getUint32(at + offset + 4, true) * 2 ** 32 + view.getUint32(at + offset, true)
  if (value <= Number.MAX_SAFE_INTEGER) return value
  throw new UefiError('UEFI_BAD_DESCRIPTOR', {
    expected: 'an address and a number of pages below 2^53',
    found: `0x${view.getBigUint64(at + offset, true).toString(16)} in the descriptor at byte ${at}`,
  })
}
