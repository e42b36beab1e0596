import type { SegmentRegister } from '../cpu/segment-register.ts'

/** What interrupts a processor. */
export interface InterruptEvent {
  /** 0 to 255. */
  readonly vector: number
  /** Pushed on the stack, for the exceptions that have one. */
  readonly errorCode?: number
  /** `software` is INT n, INT3 and INTO, which need the gate's privilege; what the processor or a device raises does not. */
  readonly source: 'exception' | 'external' | 'nmi' | 'software'
  /** Where the handler returns to, if not to the CPU's RIP: the instruction behind INT n. */
  readonly returnRip?: bigint
}

/** A processor that has entered a handler, and has not run any of it. */
export interface Delivery {
  /** The event whose handler was entered: a double fault where the delivery of another failed. */
  readonly event: InterruptEvent
  /** Linear address of the handler. */
  readonly handler: bigint
  /** What RIP becomes: the offset of the handler in its code segment. Whoever runs the handler sets it. */
  readonly rip: bigint
  /** Linear address of the frame on the handler's stack: its error code where it has one, else RIP. */
  readonly frame: bigint
  /** Where IRET finds RIP. */
  readonly returnFrame: bigint
  /** What was interrupted: where the handler returns to, and in which code segment. */
  readonly interrupted: {
    readonly rip: bigint
    readonly rsp: bigint
    readonly code: SegmentRegister
  }
}

/** Exception vectors by their mnemonics (SDM Vol. 3, table 6-1). */
export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
  VE: 20,
  CP: 21,
} as const
