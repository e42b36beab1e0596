import { isCanonical } from '../address.ts'
import type { CpuFeatures } from '../cpu/features.ts'
import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import type { PhysicalMemory } from '../memory/physical-memory.ts'
import { Entry } from './entry.ts'
import type { PagingMode } from './mode.ts'
import { PdpteRegisters } from './pdpte-registers.ts'
import { PageWalker, Rights, ROOT_IN_REGISTERS, WalkStatus } from './walk.ts'

/** The translation environment of a root: what {@link inspectAddress} and {@link mappedRanges} need to read tables as the CPU would. */
export interface TranslationContext {
  readonly memory: PhysicalMemory
  readonly mode: PagingMode
  readonly features: CpuFeatures
  /** EFER.NXE. */
  readonly noExecute: boolean
  /** Physical address of the root table in bytes (the address bits of CR3). */
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
      /** Protection key, 0 to 15; always 0 where entries have none. */
      readonly protectionKey: number
    }
  | { readonly status: 'not-present' | 'reserved-bit' | 'non-canonical' }
)

/**
 * Walks the tables for `address` (64 bits) as an inspector: nothing changes, no TLB is asked, no rights are needed. Where linear addresses have
 * 32 bits, one above them is non-canonical; without paging an address is mapped to itself, in one page of all the address space.
 */
export function inspectAddress(context: TranslationContext, address: bigint): Inspection {
  if (!isLinear(context.mode, address)) return { status: 'non-canonical', steps: [] }
  if (context.mode.levels.length === 0) return { ...UNPAGED, physical: Number(address) }
  const walker = inspectingWalker(context)
  const high = highHalf(address)
  const low = lowHalf(address)
  const root = context.mode.rootInRegisters ? ROOT_IN_REGISTERS : context.root / 4096
  const status = walker.walk(root, high, low)
  const steps = walkSteps(walker, high, low)
  if (status === WalkStatus.NotPresent) return { status: 'not-present', steps }
  if (status === WalkStatus.ReservedBit) return { status: 'reserved-bit', steps }
  return {
    status: 'mapped',
    steps,
    physical: walker.frame * 4096 + (low & 0xfff),
    pageSize: walker.pageFrames * 4096,
    writable: (walker.rights & Rights.Writable) !== 0,
    user: (walker.rights & Rights.User) !== 0,
    executable: (walker.rights & Rights.NoExecute) === 0,
    global: (walker.leafLow & Entry.Global) !== 0,
    patIndex: walker.patIndex,
    protectionKey: walker.rights >>> Rights.KeyShift,
  }
}

/** The physical address in bytes alone that {@link inspectAddress} finds; undefined where there is none. */
export function physicalAt(context: TranslationContext, address: bigint): number | undefined {
  if (!isLinear(context.mode, address)) return undefined
  if (context.mode.levels.length === 0) return Number(address)
  const walker = inspectingWalker(context)
  const low = lowHalf(address)
  const root = context.mode.rootInRegisters ? ROOT_IN_REGISTERS : context.root / 4096
  const status = walker.walk(root, highHalf(address), low)
  return status === WalkStatus.Mapped ? walker.frame * 4096 + (low & 0xfff) : undefined
}

/** Whether a 64-bit value is a linear address of a mode: canonical, or below 2^32. */
export function isLinear(mode: PagingMode, address: bigint): boolean {
  return mode.linearBits === 32 ? address >> 32n === 0n : isCanonical(address, mode.linearBits)
}

/** The entries that a walker's last walk, for the address with these halves, read, from the root down. */
export function walkSteps(walker: PageWalker, high: number, low: number): WalkStep[] {
  return walker.path(high, low).map(({ depth, table, index, ...entry }) => ({
    entry: walker.mode.levels[depth]!.entry,
    table,
    index,
    value: joinHalves(entry.high, entry.low),
  }))
}

/** A walker that reads tables as memory has them now. */
function inspectingWalker({
  memory,
  mode,
  features,
  noExecute,
  root,
}: TranslationContext): PageWalker {
  const registers = mode.rootInRegisters ? PdpteRegisters.read(memory, root) : undefined
  return new PageWalker(memory, mode, features, noExecute, registers)
}

const UNPAGED = {
  status: 'mapped',
  steps: [],
  pageSize: 2 ** 32,
  writable: true,
  user: true,
  executable: true,
  global: false,
  patIndex: 0,
  protectionKey: 0,
} as const
