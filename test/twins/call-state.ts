import type { PhysicalMemory } from '@trapdoor/core'

/** 64-bit mode, compatibility mode, or protected mode outside of long mode, with paging or without. */
export type CodeMode = 'long' | 'compatible' | 'legacy'

/** A processor when it comes to a call's first instruction, with the memory of that moment. Addresses in bytes; the general registers by their numbers. */
export interface Entry {
  readonly memory: PhysicalMemory
  readonly general: readonly bigint[]
  readonly rip: bigint
  readonly rflags: number
  readonly vectors: VectorState
  readonly cr0: number
  readonly cr3: number
  readonly cr4: number
  readonly efer: number
  readonly mode: CodeMode
  /** Physical address of what RSP points to: the return address, of 64 bits, or of 32 in code of 32 bits. */
  readonly returnSlot: number
  /** What the machine's clock says, ISO without zone. */
  readonly clock: string
}

/** What of SSE and of the x87 FPU firmware has to leave as it was (UEFI 2.10, 2.3.4.2), and the vector registers. */
export interface VectorState {
  readonly fcw: number
  readonly mxcsr: number
  /** XMM0 to XMM15, outside of long mode to XMM7, four words each, the lowest first. */
  readonly xmm: readonly number[]
}

/** How a call ended. */
export type Ended =
  | { readonly kind: 'returned'; readonly rax: bigint }
  | {
      readonly kind: 'exception'
      readonly vector: number
      /** 0 for an exception without one. */
      readonly errorCode: number
      readonly cr2: bigint
      readonly rip: bigint
    }
  | { readonly kind: 'reset' }
