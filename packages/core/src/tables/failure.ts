import { formatAddress, type VirtualAddress } from '../address.ts'
import { CoreError, type CoreErrorCode, type ErrorDetail } from '../error.ts'

/** An address or a length that is not a multiple of the page that it is for. Sizes are in bytes. */
export interface Misaligned {
  readonly kind: 'misaligned'
  readonly what: 'address' | 'physical address' | 'length'
  readonly value: bigint | number
  readonly alignment: number
}

/** Bytes that do not lie in one half of the mode's address space, or that its entries cannot point to. */
export interface OutOfRange {
  readonly kind: 'out-of-range'
  readonly what: 'address' | 'physical address'
  readonly start: bigint | number
  readonly bytes: number
}

/** A page size that the mode does not have, in bytes. */
export interface BadPageSize {
  readonly kind: 'bad-page-size'
  readonly pageSize: number
  /** Those that it has. */
  readonly known: readonly number[]
}

/** Something is mapped where a mapping was to be made, and it was not to be replaced. */
export interface AlreadyMapped {
  readonly kind: 'already-mapped'
  /** The first address that is. */
  readonly address: VirtualAddress
  /** Physical address in bytes of the table whose entry is present. */
  readonly table: number
  readonly index: number
}

/** Nothing is mapped where a mapping was to be changed. */
export interface NotMapped {
  readonly kind: 'not-mapped'
  /** The first address that is not. */
  readonly address: VirtualAddress
}

/** A page that cannot be split: the smallest there is, or one above 4 GiB (PSE-36), where smaller pages of its mode cannot lie. */
export interface NotSplittable {
  readonly kind: 'not-splittable'
  /** The first address of the page. */
  readonly address: VirtualAddress
  readonly pageSize: number
}

/** Pages that one large page cannot stand for. */
export interface NotMergeable {
  readonly kind: 'not-mergeable'
  /** The first page that is in the way. */
  readonly address: VirtualAddress
  /**
   * It is large already (`no-table`), is made of smaller pages itself (`table`), maps nothing (`hole`), maps physical memory that does not follow the page before, or is not
   * aligned to the large page (`physical`), or has other flags than the first page, accessed and dirty apart (`flags`).
   */
  readonly reason: 'no-table' | 'table' | 'hole' | 'physical' | 'flags'
}

/** Differences between two trees that are not differences from this one. */
export interface NotApplicable {
  readonly kind: 'not-applicable'
  /** The first address whose entry is not what it was when they were taken. */
  readonly address: VirtualAddress
}

/** The allocator has no frame for a table. */
export interface NoFrame {
  readonly kind: 'no-frame'
  /** How many the operation needs. */
  readonly needed: number
}

/** Why a range cannot be mapped. */
export type MapError =
  | Misaligned
  | OutOfRange
  | BadPageSize
  | AlreadyMapped
  | NotSplittable
  | NoFrame
/** Why the leaves of a range cannot be changed. */
export type ChangeError = Misaligned | OutOfRange | NotSplittable | NoFrame
/** Why a range cannot be unmapped. */
export type UnmapError = ChangeError
/** Why the flags of a range cannot be changed. */
export type ProtectError = ChangeError | NotMapped
/** Why a page cannot be split. */
export type SplitError = OutOfRange | NotMapped | NotSplittable | NoFrame
/** Why pages cannot be merged. */
export type MergeError = Misaligned | OutOfRange | BadPageSize | NotMapped | NotMergeable
/** Why differences cannot be applied. */
export type ApplyError = NotApplicable | NoFrame
/** Why any change of page tables fails. */
export type TableError = MapError | ProtectError | SplitError | MergeError | ApplyError

/** A failure as the error that the operations throw which do not return it. */
export function tableFailure(error: TableError): CoreError {
  const { code, detail } = REPORTS[error.kind]
  // Each report is of the kind that it is found by.
  return new CoreError(code, detail(error as never))
}

interface Report<Kind extends TableError['kind']> {
  readonly code: CoreErrorCode
  readonly detail: (error: Extract<TableError, { readonly kind: Kind }>) => ErrorDetail
}

const REPORTS: { readonly [Kind in TableError['kind']]: Report<Kind> } = {
  misaligned: {
    code: 'CORE_MISALIGNED',
    detail: ({ what, value, alignment }) => ({
      expected: `${what === 'address' ? 'an' : 'a'} ${what} that is a multiple of ${alignment} bytes`,
      found: hex(value),
    }),
  },
  'out-of-range': {
    code: 'CORE_BAD_RANGE',
    detail: ({ what, start, bytes }) => ({
      expected:
        what === 'address'
          ? 'a range within one half of the address space'
          : 'physical addresses that an entry can point to',
      found: `${bytes} bytes from ${hex(start)}`,
    }),
  },
  'bad-page-size': {
    code: 'CORE_BAD_RANGE',
    detail: ({ pageSize, known }) => ({
      expected: `a page of ${known.join(' or ')} bytes`,
      found: `${pageSize} bytes`,
    }),
  },
  'already-mapped': {
    code: 'CORE_ALREADY_MAPPED',
    detail: ({ address, table, index }) => ({
      expected: 'an entry that maps nothing',
      found: `${formatAddress(address)} mapped by entry ${index} of the table at ${formatAddress(table)}`,
      hint: 'pass replace: true to change a mapping',
    }),
  },
  'not-mapped': {
    code: 'CORE_NOT_MAPPED',
    detail: ({ address }) => ({
      expected: 'a mapping',
      found: `none at ${formatAddress(address)}`,
    }),
  },
  'not-splittable': {
    code: 'CORE_NOT_SPLITTABLE',
    detail: ({ address, pageSize }) => ({
      expected: 'a large page that smaller pages can stand for',
      found: `a page of ${pageSize} bytes at ${formatAddress(address)}`,
    }),
  },
  'not-mergeable': {
    code: 'CORE_NOT_MERGEABLE',
    detail: ({ address, reason }) => ({
      expected: 'a table of pages with equal flags, one after the other in physical memory',
      found: `${IN_THE_WAY[reason]} at ${formatAddress(address)}`,
    }),
  },
  'not-applicable': {
    code: 'CORE_NOT_APPLICABLE',
    detail: ({ address }) => ({
      expected: 'the tables that the differences were taken from',
      found: `another entry for ${formatAddress(address)}`,
    }),
  },
  'no-frame': {
    code: 'CORE_NO_FRAME',
    detail: ({ needed }) => ({ expected: `${needed} frames for page tables`, found: 'fewer' }),
  },
}

const IN_THE_WAY: Readonly<Record<NotMergeable['reason'], string>> = {
  'no-table': 'a page that is as large already',
  table: 'a table of smaller pages',
  hole: 'no page',
  physical: 'a page that is not where it should be in physical memory',
  flags: 'a page with other flags',
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`
}
