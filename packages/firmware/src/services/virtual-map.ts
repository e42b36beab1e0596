import { decodeMemoryMap, type MemoryDescriptor } from '@trapdoor/uefi'
import type { VirtualAddressMapArgument } from '../quirk/address-change.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** Bytes of a descriptor that are looked at; the stride may be larger. */
const DESCRIPTOR_BYTES = 40
const LARGEST_SANE_MAP = 0x10_0000n
const LARGEST_SANE_COUNT = 0x1_0000n

/** A map that was passed to SetVirtualAddressMap, as it lies in memory. */
export interface VirtualMap {
  readonly address: bigint
  readonly stride: bigint
  readonly count: bigint
}

/**
 * Where the map puts a physical address: in the first descriptor with EFI_MEMORY_RUNTIME that covers it, as edk2's
 * RuntimeDriverConvertPointer. Undefined where none does. Every call reads the map anew, where it was passed.
 */
export function lookUp(call: FirmwareCall, map: VirtualMap, physical: bigint): bigint | undefined {
  if (map.stride === 0n || map.count > LARGEST_SANE_COUNT) {
    return map.count === 0n ? undefined : call.deadLoop(`walks a map of ${map.count} descriptors`)
  }
  // As many at a time as a page would hold.
  const batch = map.stride > 4096n ? 1n : 4096n / map.stride
  for (let first = 0n; first < map.count; first += batch) {
    const count = Number(map.count - first < batch ? map.count - first : batch)
    const stride = Number(map.stride)
    const length = (count - 1) * stride + DESCRIPTOR_BYTES
    const { buffer } = call.readBytes(map.address + first * map.stride, length)
    const view = new DataView(buffer)
    for (let at = 0; at + DESCRIPTOR_BYTES <= length; at += stride) {
      const runtime = view.getInt32(at + 36, true) < 0
      if (!runtime) continue
      const start = view.getBigUint64(at + 8, true)
      const bytes = view.getBigUint64(at + 24, true) * 4096n
      if (physical >= start && physical < start + bytes) {
        return BigInt.asUintN(64, physical - start + view.getBigUint64(at + 16, true))
      }
    }
  }
  return undefined
}

/** The arguments of a call of SetVirtualAddressMap. */
export function virtualMapArgument(call: FirmwareCall): VirtualAddressMapArgument {
  const size = call.arg(0)
  const descriptorSize = call.arg(1)
  const address = call.arg(3)
  return {
    size,
    descriptorSize,
    descriptorVersion: call.arg(2),
    address,
    read: (): readonly MemoryDescriptor[] => {
      if (descriptorSize < DESCRIPTOR_BYTES || size > LARGEST_SANE_MAP) return []
      const bytes = call.readBytes(address, Number(size - (size % descriptorSize)))
      return decodeMemoryMap(bytes, Number(descriptorSize))
    },
  }
}
