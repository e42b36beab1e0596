import { decodeMemoryMap, type MemoryDescriptor } from '@trapdoor/uefi'
import type { VirtualAddressMapArgument } from '../quirk/address-change.ts'
import type { FirmwareCall } from '../quirk/firmware-call.ts'

/** Bytes of a descriptor that are looked at; the stride may be larger. */
const DESCRIPTOR_BYTES = 40
const LARGEST_SANE_MAP = 0x10_0000n
const LARGEST_SANE_COUNT = 0x1_0000n

/** What is read of a map at a time, for as long as it is looked at: it is read for every pointer. */
const COPY: Uint8Array<ArrayBuffer> = new Uint8Array(4096)
const COPY_VIEW: DataView = new DataView(COPY.buffer)

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
  return lookUpAll(call, map, [physical])[0]
}

/** {@link lookUp} of several addresses, between which nothing is written: the map is read once, up to where the last of them is found. */
export function lookUpAll(
  call: FirmwareCall,
  map: VirtualMap,
  physicals: readonly bigint[],
): (bigint | undefined)[] {
  const found: (bigint | undefined)[] = physicals.map(() => undefined)
  let missing = physicals.length
  if (missing === 0) return found
  if (map.stride === 0n || map.count > LARGEST_SANE_COUNT) {
    return map.count === 0n ? found : call.deadLoop(`walks a map of ${map.count} descriptors`)
  }
  // As many at a time as a page would hold.
  const batch = map.stride > 4096n ? 1n : 4096n / map.stride
  const stride = Number(map.stride)
  for (let first = 0n; first < map.count && missing > 0; first += batch) {
    const count = Number(map.count - first < batch ? map.count - first : batch)
    const length = (count - 1) * stride + DESCRIPTOR_BYTES
    call.readInto(map.address + first * map.stride, COPY.subarray(0, length))
    for (let at = 0; at + DESCRIPTOR_BYTES <= length && missing > 0; at += stride) {
      const runtime = COPY_VIEW.getInt32(at + 36, true) < 0
      if (!runtime) continue
      const start = COPY_VIEW.getBigUint64(at + 8, true)
      const bytes = COPY_VIEW.getBigUint64(at + 24, true) * 4096n
      for (let index = 0; index < physicals.length; index++) {
        const physical = physicals[index]!
        if (found[index] !== undefined || physical < start || physical >= start + bytes) continue
        found[index] = BigInt.asUintN(64, physical - start + COPY_VIEW.getBigUint64(at + 16, true))
        missing--
      }
    }
  }
  return found
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
