import { formatAddress } from '../address.ts'
import type { WalkStep } from '../paging/inspect.ts'

/** What an access does. */
export type Access = 'read' | 'write' | 'execute'

/** Bits of a page fault's error code (SDM Vol. 3, 4.7). */
export const PageFaultBit = { Present: 1, Write: 2, User: 4, Reserved: 8, Instruction: 16 } as const

/** The state at a fault, as far as a reader needs it. */
export interface FaultSite {
  readonly cpu: number
  /** Address of the code that was running: a call gate's, or undefined for the kernel's own. */
  readonly rip: bigint | undefined
  readonly cr3: number
}

/** An exception that the processor raises; the names and vectors are the SDM's (Vol. 3, table 6-1). */
export abstract class CpuException extends Error {
  abstract readonly vector: number
  abstract readonly mnemonic: string
  readonly site: FaultSite

  constructor(message: string, site: FaultSite) {
    super(message)
    this.site = site
  }
}

/** #PF. */
export class PageFault extends CpuException {
  override readonly name = 'PageFault'
  readonly vector = 14
  readonly mnemonic = '#PF'
  /** The linear address, as CR2 would hold it. */
  readonly address: bigint
  readonly access: Access
  readonly errorCode: number
  /** The entries that were read on the way; empty where a TLB entry alone refused the access. */
  readonly steps: readonly WalkStep[]

  constructor(
    address: bigint,
    access: Access,
    errorCode: number,
    steps: readonly WalkStep[],
    site: FaultSite,
  ) {
    super(`${access} at ${formatAddress(address)}: ${describePageFault(errorCode)}`, site)
    this.address = address
    this.access = access
    this.errorCode = errorCode
    this.steps = steps
  }
}

/** #GP(0), for an address that is not canonical or a control register that may not hold a value. */
export class GeneralProtection extends CpuException {
  override readonly name = 'GeneralProtection'
  readonly vector = 13
  readonly mnemonic = '#GP'
  /** The value that raised it. */
  readonly value: bigint

  constructor(reason: string, value: bigint, site: FaultSite) {
    super(`${reason}: ${formatAddress(value)}`, site)
    this.value = value
  }
}

/** #UD: the bytes at an address that was called are no code of this machine. */
export class InvalidOpcode extends CpuException {
  override readonly name = 'InvalidOpcode'
  readonly vector = 6
  readonly mnemonic = '#UD'
  readonly address: bigint
  /** The bytes that were fetched. */
  readonly bytes: Uint8Array

  constructor(address: bigint, bytes: Uint8Array, site: FaultSite) {
    const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    super(`no instruction at ${formatAddress(address)}: ${text}`, site)
    this.address = address
    this.bytes = bytes
  }
}

/** A page fault's error code in words, such as "supervisor write, page not present". */
export function describePageFault(errorCode: number): string {
  const who = (errorCode & PageFaultBit.User) !== 0 ? 'user' : 'supervisor'
  const what =
    (errorCode & PageFaultBit.Instruction) !== 0
      ? 'instruction fetch'
      : (errorCode & PageFaultBit.Write) !== 0
        ? 'write'
        : 'read'
  const why =
    (errorCode & PageFaultBit.Reserved) !== 0
      ? 'reserved bit set in a paging-structure entry'
      : (errorCode & PageFaultBit.Present) !== 0
        ? 'not allowed by the page'
        : 'page not present'
  return `${who} ${what}, ${why}`
}
