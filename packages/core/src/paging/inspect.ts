import { isCanonical } from '../address.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry } from './entry.ts'
import type { PagingMode } from './mode.ts'
import { PageWalker, Rights, WalkStatus } from './walk.ts'

/** The translation environment of a root: what {@link inspectAddress} and {@link mappedRanges} need to read tables as the CPU would. */
export interface TranslationContext {
  readonly memory: PhysicalMemory
  readonly mode: PagingMode
  readonly features: CpuFeatures
  /** EFER.NXE. */
  readonly noExecute: boolean
  /** Physical address of the root table in bytes (bits 51:12 of CR3). */
  readonly root: number
}

/** One entry that a walk read. */
export interface WalkStep {
  /** The SDM's name of the entry, such as "PDE". */
  readonly entry: string
  /** Physical address of the table in bytes. */
  readonly table: number
  /** Index of the entry in its table, 0 to 511. */
  readonly index: number
  readonly value: bigint
}

/** What the tables say of an address, whoever asks. */
export type Inspection = { readonly steps: readonly WalkStep[] } & (
  | {
      readonly status: 'mapped'
      /** Physical address in bytes. */
      readonly physical: number
      /** Bytes of the page. */
      readonly pageSize: number
      readonly writable: boolean
      readonly user: boolean
      readonly executable: boolean
      readonly global: boolean
      readonly patIndex: number
    }
  | { readonly status: 'not-present' | 'reserved-bit' | 'non-canonical' }
)

/** Walks the tables for `address` (64 bits) as an inspector: nothing changes, no TLB is asked, no rights are needed. */
export function inspectAddress(context: TranslationContext, address: bigint): Inspection {
  if (!isCanonical(address)) return { status: 'non-canonical', steps: [] }
  const walker = new PageWalker(context.memory, context.mode, context.features, context.noExecute)
  const status = walker.walk(
    context.root / 4096,
    Number(BigInt.asUintN(32, address >> 32n)) | 0,
    Number(BigInt.asUintN(32, address)) | 0,
  )
  const steps = walkSteps(walker, context.memory)
  if (status === WalkStatus.NotPresent) return { status: 'not-present', steps }
  if (status === WalkStatus.ReservedBit) return { status: 'reserved-bit', steps }
  return {
    status: 'mapped',
    steps,
    physical: walker.frame * 4096 + Number(address & 0xfffn),
    pageSize: walker.pageFrames * 4096,
    writable: (walker.rights & Rights.Writable) !== 0,
    user: (walker.rights & Rights.User) !== 0,
    executable: (walker.rights & Rights.NoExecute) === 0,
    global: (walker.leafLow & Entry.Global) !== 0,
    patIndex: walker.patIndex,
  }
}

/** The entries that a walker's last walk read, from the root down. */
export function walkSteps(walker: PageWalker, memory: PhysicalMemory): WalkStep[] {
  return walker.path().map(({ table, index }, depth) => ({
    entry: walker.mode.levels[depth]!.entry,
    table: table * 4096,
    index,
    value: memory.read64(table * 4096 + index * 8),
  }))
}
