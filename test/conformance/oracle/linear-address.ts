/**
 * What is checked before paging: canonical form (SDM Vol. 1, 3.3.7.1; Vol. 3, 4.5.3) and linear-address-space separation
 * (SDM Vol. 3, the section on LASS among those on 4-level and 5-level paging).
 */
import { AccessBit } from './access-rights.ts'

/** What the check depends on. */
export interface LinearAddressState {
  /** IA32_EFER.LMA. */
  readonly ia32e: boolean
  /** Bits of a linear address: 48 with 4-level paging, 57 with 5-level paging. */
  readonly linearBits: 48 | 57
  /** CR4.LASS. */
  readonly lass: boolean
  /** CR4.SMAP. */
  readonly smap: boolean
  /** RFLAGS.AC. */
  readonly alignmentCheck: boolean
}

/** Whether bits 63 down to the highest one that is translated are all equal. */
export function isCanonicalAddress(address: bigint, linearBits: number): boolean {
  const top = BigInt.asUintN(64, address) >> BigInt(linearBits - 1)
  return top === 0n || top === (1n << BigInt(65 - linearBits)) - 1n
}

/** Whether LASS keeps the access from the half of the address space that bit 63 names. */
export function violatesLass(state: LinearAddressState, address: bigint, access: number): boolean {
  if (!state.lass || !state.ia32e) return false
  const upperHalf = ((address >> 63n) & 1n) === 1n
  if ((access & AccessBit.User) !== 0) return upperHalf
  if ((access & AccessBit.Fetch) !== 0) return !upperHalf
  // A supervisor's data accesses are kept out of the lower half while SMAP is, and as SMAP has it.
  const explicit = (access & AccessBit.Implicit) === 0
  return !upperHalf && state.smap && !(explicit && state.alignmentCheck)
}

/** The exception raised before paging is asked, if any: of the stack it is #SS, else #GP. */
export function linearAddressFault(
  state: LinearAddressState,
  address: bigint,
  access: number,
  stack: boolean,
): '#GP' | '#SS' | undefined {
  const canonical = !state.ia32e || isCanonicalAddress(address, state.linearBits)
  if (canonical && !violatesLass(state, address, access)) return undefined
  return stack ? '#SS' : '#GP'
}
