import type { VirtualAddress } from '../address.ts'
import { highHalf, lowHalf } from '../halves.ts'
import type { PagingMode } from './mode.ts'

/**
 * The number of the 4 KiB page that holds a linear address of a mode: bits 56 or 47 or 31 down to 12, which a number holds exactly; -1 where the
 * address is none of the mode.
 */
export function linearPage(mode: PagingMode, address: bigint): number {
  const low = lowHalf(address) >>> 12
  const high = highHalf(address)
  if (mode.linearBits === 32) return high === 0 ? low : -1
  const signBit = mode.linearBits - 33
  const sign = high >> signBit
  if (sign !== 0 && sign !== -1) return -1
  return (high & ((2 << signBit) - 1)) * 0x10_0000 + low
}

/** Bytes from the beginning of its 4 KiB page to an address. */
export function offsetInPage(address: bigint): number {
  return lowHalf(address) & 0xfff
}

/** The address of the first byte of a page that {@link linearPage} numbered. */
export function linearAddress(mode: PagingMode, page: number): VirtualAddress {
  const address = BigInt(page) << 12n
  const wide = mode.linearBits === 32 ? address : BigInt.asIntN(mode.linearBits, address)
  return BigInt.asUintN(64, wide) as VirtualAddress
}

/** Number of the page with which the upper half of a mode's address space begins; 32-bit addresses have one half, which ends there. */
export function halfPages(mode: PagingMode): number {
  if (mode.linearBits === 32) return 2 ** 20
  return mode.linearBits === 48 ? 2 ** 35 : 2 ** 44
}
