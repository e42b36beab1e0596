import type { Cpu } from '@trapdoor/core'
import type { Architecture } from '@trapdoor/uefi'

/** Reads a pointer or UINTN of the firmware's architecture through the page tables of `cpu`. */
export function readNatural({ naturalBytes }: Architecture, cpu: Cpu, address: bigint): bigint {
  return naturalBytes === 8 ? cpu.read64(address) : BigInt(cpu.read32(address))
}

/** Writes a pointer or UINTN; the low bits of `value` count. */
export function writeNatural(
  { naturalBytes }: Architecture,
  cpu: Cpu,
  address: bigint,
  value: bigint,
): void {
  if (naturalBytes === 8) cpu.write64(address, value)
  else cpu.write32(address, Number(BigInt.asUintN(32, value)))
}
