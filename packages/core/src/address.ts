import { CoreError } from './error.ts'
import { highHalf } from './halves.ts'

declare const virtualBrand: unique symbol
declare const physicalBrand: unique symbol

/** A canonical linear address as an unsigned 64-bit value (SDM Vol. 1, 3.3.7.1); 48 bits unless its maker was told 57. */
export type VirtualAddress = bigint & { readonly [virtualBrand]: true }

/** A physical address in bytes, below 2^52, exact as a JavaScript number. */
export type PhysicalAddress = number & { readonly [physicalBrand]: true }

/** Bytes of the smallest page. */
export const PAGE_SIZE = 4096
/** Bits of an address within the smallest page: the base-2 logarithm of {@link PAGE_SIZE}. */
export const PAGE_SHIFT = 12
/** Bytes of the page that a page-directory entry maps. */
export const PAGE_SIZE_2M = 0x20_0000
/** Bytes of the page that a page-directory-pointer entry maps. */
export const PAGE_SIZE_1G = 0x4000_0000
/** One more than the highest physical address that the architecture allows (SDM Vol. 3, 4.1.4). */
export const PHYSICAL_ADDRESS_LIMIT: number = 2 ** 52

/** Bits of a linear address: 48 with 4-level paging, 57 with 5-level paging. */
export type LinearAddressBits = 48 | 57

/** Whether the bits of a 64-bit value from `bits - 1` up are all equal. */
export function isCanonical(value: bigint, bits: LinearAddressBits = 48): boolean {
  if (BigInt.asUintN(64, value) !== value) return false
  const sign = highHalf(value) >> (bits - 33)
  return sign === 0 || sign === -1
}

/** The canonical address `value`; throws CORE_NOT_CANONICAL. Negative numbers count down from 2^64. */
export function virt(value: bigint | number, bits: LinearAddressBits = 48): VirtualAddress {
  const address = tryVirt(value, bits)
  if (address === undefined) {
    throw new CoreError('CORE_NOT_CANONICAL', {
      expected: `a canonical ${bits}-bit linear address`,
      found: `0x${BigInt(value).toString(16)}`,
      hint: `truncateVirt() drops the bits above ${bits - 1}`,
    })
  }
  return address
}

/** The canonical address `value`, or undefined where there is none. */
export function tryVirt(
  value: bigint | number,
  bits: LinearAddressBits = 48,
): VirtualAddress | undefined {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return undefined
  const wide = BigInt(value)
  const address = BigInt.asUintN(64, wide)
  if (wide !== address && wide !== BigInt.asIntN(64, wide)) return undefined
  return isCanonical(address, bits) ? (address as VirtualAddress) : undefined
}

/** The canonical address that agrees with `value` in its low `bits` bits. */
export function truncateVirt(value: bigint, bits: LinearAddressBits = 48): VirtualAddress {
  return BigInt.asUintN(64, BigInt.asIntN(bits, value)) as VirtualAddress
}

/** The physical address `value` in bytes; throws CORE_BAD_PHYSICAL_ADDRESS. */
export function phys(value: bigint | number): PhysicalAddress {
  const address = tryPhys(value)
  if (address === undefined) {
    throw new CoreError('CORE_BAD_PHYSICAL_ADDRESS', {
      expected: 'a whole number from 0 to 2^52 - 1',
      found: typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value),
      hint: 'truncatePhys() drops the bits above 51',
    })
  }
  return address
}

/** The physical address `value`, or undefined where there is none. */
export function tryPhys(value: bigint | number): PhysicalAddress | undefined {
  const address = Number(value)
  const fits = Number.isSafeInteger(address) && address >= 0 && address < PHYSICAL_ADDRESS_LIMIT
  return fits ? (address as PhysicalAddress) : undefined
}

/** The low 52 bits of `value`. */
export function truncatePhys(value: bigint): PhysicalAddress {
  return Number(BigInt.asUintN(52, value)) as PhysicalAddress
}

/** An address as the field prints it: sixteen hexadecimal digits. */
export function formatAddress(address: bigint | number): string {
  return `0x${BigInt.asUintN(64, BigInt(address)).toString(16).padStart(16, '0')}`
}
