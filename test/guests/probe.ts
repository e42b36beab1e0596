import type { Assembler } from '@trapdoor/assembler'

/** Where a probe runs: in protected mode, in 64-bit mode, or in compatibility mode; as supervisor or as user. */
export interface ProbePlace {
  readonly mode: 'protected' | '64-bit' | 'compatibility'
  readonly level: 0 | 3
}

/** A few instructions whose outcome is recorded: registers at the end of them, or the exception that they raise. */
export interface Probe extends ProbePlace {
  readonly name: string
  /** RFLAGS at their beginning. Default: 2, all clear. */
  readonly flags?: number
  /** Emits them. What follows ends the probe, with interrupt 80h. */
  readonly emit: (code: Assembler) => void
}

/** Selectors of the GDT that probes find. */
export const Selector = {
  Code32: 0x08,
  Data: 0x10,
  Code64: 0x18,
  UserCode32: 0x23,
  UserData: 0x2b,
  UserCode64: 0x33,
  /** 16 bytes in IA-32e mode. */
  Task: 0x38,
  Ldt: 0x48,
  AbsentData: 0x58,
  ReadOnlyData: 0x60,
  ConformingCode: 0x68,
  ExecuteOnlyCode: 0x70,
  /** A call gate of level 3 to {@link CALL_GATE_LABEL}; 16 bytes in IA-32e mode. */
  CallGate: 0x7b,
  /** 256 bytes from the beginning of the probe's data on: its limit is what LSL shows. QEMU enforces none. */
  SmallData: 0x88,
  AbsentCode: 0x98,
  Code16: 0xa8,
  /** Beyond the limit of the GDT. */
  Beyond: 0x1f8,
  /** In the LDT: flat data, and flat data of the user. */
  LocalData: 0x0c,
  LocalUserData: 0x17,
} as const

/** Addresses that probes know. */
export const Address = {
  Gdt: 0x10_8000,
  /** Of the mode that the probes run in. */
  Idt: 0x10_9000,
  Task: 0x10_b000,
  Ldt: 0x10_b800,
  PageTables: 0x10_c000,
  /** A page that probes may use: everybody's. */
  Data: 0x10_f000,
  Record: 0x11_0000,
  Stack: 0x12_8000,
  InnerStack: 0x13_0000,
  InterruptStack: 0x13_8000,
  UserStack: 0x14_0000,
} as const

/** Where the call gate leads. */
export const CALL_GATE_LABEL = 'call gate'
/** Where probes can have SYSCALL and SYSENTER lead: a place that ends the probe. */
export const END_LABEL = 'end'
/** The vector that ends a probe. */
export const END_VECTOR = 0x80
