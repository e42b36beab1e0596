/** Numbers of the segment registers, as instructions encode them. */
export const Segment = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const
/** One of {@link Segment}, as the Sreg field of ModR/M has it (SDM Vol. 2, table B-8). */
export type SegmentNumber = (typeof Segment)[keyof typeof Segment]

/** A segment register with its hidden part (SDM Vol. 3, 3.4.3), or LDTR. It is never changed in place: loading one puts another there. */
export interface SegmentRegister {
  readonly selector: number
  readonly base: bigint
  /** Offset of the last byte, with the granularity flag worked in. */
  readonly limit: number
  /** Access rights: bits 8 to 15 and 20 to 23 of the second doubleword of the descriptor, at those places (SDM Vol. 3, figure 3-8). 0 for an unusable segment. */
  readonly rights: number
}

/** Bits of {@link SegmentRegister.rights}. */
export const SegmentRights = {
  /** For a code or data segment: it was accessed, is readable (code) or writable (data), is conforming (code) or expands down (data), is code. */
  Accessed: 0x100,
  ReadableOrWritable: 0x200,
  ConformingOrExpandDown: 0x400,
  Code: 0x800,
  /** Clear for a system segment. */
  CodeOrData: 0x1000,
  PrivilegeShift: 13,
  Present: 0x8000,
  /** CS.L: a 64-bit code segment. */
  Long: 0x20_0000,
  /** D/B: operands of 32 bits by default. */
  Default32: 0x40_0000,
  Granularity: 0x80_0000,
} as const

const FLAT_LIMIT = 0xffff_ffff
const NULL_SEGMENT: SegmentRegister = { selector: 0, base: 0n, limit: FLAT_LIMIT, rights: 0 }
const FLAT_RIGHTS =
  SegmentRights.Granularity |
  SegmentRights.Present |
  SegmentRights.CodeOrData |
  SegmentRights.ReadableOrWritable |
  SegmentRights.Accessed
const RIGHTS_OF: Readonly<Record<'code-64' | 'code-32' | 'data', number>> = {
  'code-64': FLAT_RIGHTS | SegmentRights.Code | SegmentRights.Long,
  'code-32': FLAT_RIGHTS | SegmentRights.Code | SegmentRights.Default32,
  data: FLAT_RIGHTS | SegmentRights.Default32,
}

/** A segment of privilege level 0 from 0 on with all of 4 GiB, as a descriptor that a selector names would make it. */
export function flatSegment(
  selector: number,
  kind: 'code-64' | 'code-32' | 'data',
): SegmentRegister {
  return { selector, base: 0n, limit: FLAT_LIMIT, rights: RIGHTS_OF[kind] }
}

const FLAT_CODE_64 = flatSegment(0, 'code-64')
const FLAT_DATA = flatSegment(0, 'data')
/** Real-address mode: what RESET leaves (SDM Vol. 3, table 10-1), but for the base of CS. */
const REAL_MODE: SegmentRegister = {
  selector: 0,
  base: 0n,
  limit: 0xffff,
  rights: SegmentRights.Present | SegmentRights.CodeOrData | 0x300,
}

/** ES, CS, SS, DS, FS, GS of a CPU in 64-bit mode, flat, with null selectors. */
export const SEGMENTS_IN_LONG_MODE: readonly SegmentRegister[] = [
  FLAT_DATA,
  FLAT_CODE_64,
  FLAT_DATA,
  FLAT_DATA,
  NULL_SEGMENT,
  NULL_SEGMENT,
]
/** ES, CS, SS, DS, FS, GS after RESET, with CS at address 0. */
export const SEGMENTS_AT_RESET: readonly SegmentRegister[] = Array.from(
  { length: 6 },
  () => REAL_MODE,
)
/** LDTR without a table. */
export const NO_LDT: SegmentRegister = { selector: 0, base: 0n, limit: 0xffff, rights: 0 }
