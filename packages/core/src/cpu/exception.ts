import { formatAddress } from '../address.ts'
import type { WalkStep } from '../paging/inspect.ts'

/** What an access does. */
export type Access = 'read' | 'write' | 'execute'

/** Bits of a page fault's error code (SDM Vol. 3, 4.7). */
export const PageFaultBit = {
  Present: 1,
  Write: 2,
  User: 4,
  Reserved: 8,
  Instruction: 16,
  ProtectionKey: 32,
} as const

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
  /** The error code that goes on the handler's stack; undefined for an exception without one. */
  abstract readonly pushedCode: number | undefined
  readonly site: FaultSite

  constructor(message: string, site: FaultSite) {
    // Machine code raises exceptions by the million, as part of what it does. Where they come from is the site, not a stack of this program.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(message)
    Error.stackTraceLimit = stackTraceLimit
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

  get pushedCode(): number {
    return this.errorCode
  }
}

/** #GP(0), for an address that is not canonical or on the wrong side of LASS, or a register that may not hold a value. */
export class GeneralProtection extends CpuException {
  override readonly name = 'GeneralProtection'
  readonly vector = 13
  readonly mnemonic = '#GP'
  readonly pushedCode = 0
  /** The value that raised it. */
  readonly value: bigint

  constructor(reason: string, value: bigint, site: FaultSite) {
    super(`${reason}: ${formatAddress(value)}`, site)
    this.value = value
  }
}

/** #SS(0), for an access to the stack at an address that is not canonical or on the wrong side of LASS. */
export class StackFault extends CpuException {
  override readonly name = 'StackFault'
  readonly vector = 12
  readonly mnemonic = '#SS'
  readonly pushedCode = 0
  /** The address that raised it. */
  readonly value: bigint

  constructor(reason: string, value: bigint, site: FaultSite) {
    super(`${reason}: ${formatAddress(value)}`, site)
    this.value = value
  }
}

/** #DE: a division by zero, or one whose quotient does not fit. */
export class DivideError extends CpuException {
  override readonly name = 'DivideError'
  readonly vector = 0
  readonly mnemonic = '#DE'
  readonly pushedCode = undefined

  constructor(site: FaultSite) {
    super('the quotient does not fit, or the divisor is 0', site)
  }
}

/** #BR: BOUND has found an index outside of its bounds. */
export class BoundRangeExceeded extends CpuException {
  override readonly name = 'BoundRangeExceeded'
  readonly vector = 5
  readonly mnemonic = '#BR'
  readonly pushedCode = undefined

  constructor(index: number, lower: number, upper: number, site: FaultSite) {
    super(`index ${index} is not within ${lower} and ${upper}`, site)
  }
}

/** #UD: the bytes at an address that was called are no code of this machine, or an instruction that the CPU model lacks. */
export class InvalidOpcode extends CpuException {
  override readonly name = 'InvalidOpcode'
  readonly vector = 6
  readonly mnemonic = '#UD'
  readonly pushedCode = undefined
  /** Where the bytes were fetched; undefined for an instruction that the CPU lacks. */
  readonly address: bigint | undefined
  readonly bytes: Uint8Array

  constructor(message: string, address: bigint | undefined, bytes: Uint8Array, site: FaultSite) {
    super(message, site)
    this.address = address
    this.bytes = bytes
  }
}

/** #NM: an instruction of the x87, MMX or SSE while CR0.TS or CR0.EM says that their state is not there. */
export class DeviceNotAvailable extends CpuException {
  override readonly name = 'DeviceNotAvailable'
  readonly vector = 7
  readonly mnemonic = '#NM'
  readonly pushedCode = undefined

  constructor(site: FaultSite) {
    super('CR0.TS or CR0.EM is set', site)
  }
}

/** #MF: an x87 exception that is not masked was pending when an instruction came that waits for such. */
export class X87Exception extends CpuException {
  override readonly name = 'X87Exception'
  readonly vector = 16
  readonly mnemonic = '#MF'
  readonly pushedCode = undefined

  constructor(site: FaultSite) {
    super('an x87 exception is pending', site)
  }
}

/** #XM: an exception of SSE's floating-point arithmetic that MXCSR does not mask. */
export class SimdException extends CpuException {
  override readonly name = 'SimdException'
  readonly vector = 19
  readonly mnemonic = '#XM'
  readonly pushedCode = undefined

  constructor(site: FaultSite) {
    super('MXCSR does not mask the exception', site)
  }
}

/** Error code of #CP for a branch to something that is no ENDBR (SDM Vol. 3, 6.15, interrupt 21). */
const ENDBRANCH = 3

/** #CP(ENDBRANCH): an indirect branch led to an instruction other than ENDBR64. */
export class ControlProtection extends CpuException {
  override readonly name = 'ControlProtection'
  readonly vector = 21
  readonly mnemonic = '#CP'
  readonly pushedCode: number = ENDBRANCH
  /** Where the branch led. */
  readonly address: bigint

  constructor(address: bigint, site: FaultSite) {
    super(`no ENDBR64 at ${formatAddress(address)}`, site)
    this.address = address
  }
}

const DESCRIPTOR_FAULT_VECTORS = { '#TS': 10, '#NP': 11, '#SS': 12, '#GP': 13 } as const

/** #TS, #NP, #SS or #GP for a descriptor that an event or a segment register cannot use. */
export class DescriptorFault extends CpuException {
  override readonly name = 'DescriptorFault'
  readonly mnemonic: keyof typeof DESCRIPTOR_FAULT_VECTORS
  readonly vector: number
  /** Selector or vector times 8, with the flags IDT (2) and EXT (1) (SDM Vol. 3, 6.13). */
  readonly pushedCode: number

  constructor(mnemonic: keyof typeof DESCRIPTOR_FAULT_VECTORS, errorCode: number, site: FaultSite) {
    const what =
      (errorCode & 2) !== 0
        ? `vector ${errorCode >>> 3} of the IDT`
        : `selector 0x${(errorCode & ~7).toString(16)}`
    super(`${what} cannot be used`, site)
    this.mnemonic = mnemonic
    this.vector = DESCRIPTOR_FAULT_VECTORS[mnemonic]
    this.pushedCode = errorCode
  }
}

/** A fault while a double fault was delivered: the processor shuts down, and a machine resets (SDM Vol. 3, 6.15, interrupt 8). */
export class TripleFault extends Error {
  override readonly name = 'TripleFault'
  /** The vector that was to be delivered. */
  readonly vector: number
  /** The exceptions that its delivery, and those in its place, ended in. */
  readonly failures: readonly CpuException[]

  constructor(vector: number, failures: readonly CpuException[]) {
    const chain = failures.map(({ mnemonic, message }) => `${mnemonic} ${message}`).join('; then ')
    super(`triple fault while vector ${vector} was delivered: ${chain}`)
    this.vector = vector
    this.failures = failures
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
      : (errorCode & PageFaultBit.ProtectionKey) !== 0
        ? 'not allowed by the protection key'
        : (errorCode & PageFaultBit.Present) !== 0
          ? 'not allowed by the page'
          : 'page not present'
  return `${who} ${what}, ${why}`
}
