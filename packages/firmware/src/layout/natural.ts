import type { PhysicalMemory } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'

/** Reads a pointer or UINTN at a physical address. */
export function readNatural(
  { naturalBytes }: Architecture,
  memory: PhysicalMemory,
  address: number,
): bigint {
  return naturalBytes === 8 ? memory.read64(address) : BigInt(memory.read32(address))
}

/** Writes a pointer or UINTN at a physical address; the low bits of `value` count. */
export function writeNatural(
  { naturalBytes }: Architecture,
  memory: PhysicalMemory,
  address: number,
  value: bigint,
): void {
  if (naturalBytes === 8) memory.write64(address, BigInt.asUintN(64, value))
  else memory.write32(address, Number(BigInt.asUintN(32, value)))
}
