import { truncateVirt, type VirtualAddress } from '../address.ts'
import { Entry, entryFrame, leafPatIndex } from './entry.ts'
import { type EntryMasks, entryMasks } from './mode.ts'
import type { TranslationContext } from './inspect.ts'

/** Neighbouring pages that differ in nothing but their addresses, and whose physical addresses follow one another. */
export interface MappedRange {
  /** First address. */
  readonly start: VirtualAddress
  /** Physical address of the first byte. */
  readonly physical: number
  readonly bytes: number
  /** Bytes of each page. */
  readonly pageSize: number
  readonly writable: boolean
  readonly user: boolean
  readonly executable: boolean
  readonly global: boolean
  readonly patIndex: number
}

/** What {@link mappedRanges} found under a root. */
export interface MappingSurvey {
  /** In ascending order of address. */
  readonly ranges: readonly MappedRange[]
  /** Frames of the paging structures, the root among them, each once. */
  readonly tables: readonly number[]
}

/** Every mapping under a root, merged, without entries that have a reserved bit set, for the linear addresses of PML4 entries `firstIndex` up to `endIndex` (exclusive, default all). */
export function mappedRanges(
  context: TranslationContext,
  firstIndex = 0,
  endIndex = 512,
): MappingSurvey {
  const survey = new Survey(context)
  survey.table(context.root / 4096, 0, 0, true, true, true, firstIndex, endIndex)
  return { ranges: survey.finish(), tables: [...survey.tables] }
}

/** A range under construction; flags are compared as one number. */
interface OpenRange {
  /** Page number of the first address, bits 47 to 12: a number where a bigint would cost. */
  startPage: number
  frame: number
  frames: number
  pageFrames: number
  flags: number
}

/** The first page of the upper half. The hole before it has no page numbers here, and no range runs across it. */
const UPPER_HALF_PAGE = 2 ** 35

const FLAG = { writable: 1, user: 2, executable: 4, global: 8, patShift: 4 } as const

class Survey {
  readonly tables: Set<number> = new Set()
  readonly #context: TranslationContext
  readonly #masks: readonly EntryMasks[]
  readonly #ranges: MappedRange[] = []
  #open: OpenRange | undefined

  constructor(context: TranslationContext) {
    this.#context = context
    this.#masks = entryMasks(context.mode, context.features, context.noExecute)
  }

  table(
    frame: number,
    depth: number,
    firstPage: number,
    writable: boolean,
    user: boolean,
    executable: boolean,
    firstIndex: number,
    endIndex: number,
  ): void {
    this.tables.add(frame)
    const { memory } = this.#context
    const level = this.#masks[depth]!
    const words = memory.locate(frame)
    const base = memory.base
    for (let index = firstIndex; index < endIndex; index++) {
      const low = words[base + index * 2]!
      if ((low & Entry.Present) === 0) continue
      const high = words[base + index * 2 + 1]!
      const isLeaf = (low & level.leafBit) !== 0
      const reservedLow = isLeaf ? level.leafReservedLow : level.reservedLow
      if ((high & level.reservedHigh) !== 0 || (low & reservedLow) !== 0) continue
      const mayWrite = writable && (low & Entry.Writable) !== 0
      const mayUser = user && (low & Entry.User) !== 0
      const mayExecute = executable && high >= 0
      const target = entryFrame(low, high)
      if (!isLeaf) {
        const page = firstPage + index * level.frames
        this.table(target, depth + 1, page, mayWrite, mayUser, mayExecute, 0, 512)
        continue
      }
      const flags =
        (mayWrite ? FLAG.writable : 0) |
        (mayUser ? FLAG.user : 0) |
        (mayExecute ? FLAG.executable : 0) |
        ((low & Entry.Global) !== 0 ? FLAG.global : 0) |
        (leafPatIndex(low, level.frames) << FLAG.patShift)
      const page = firstPage + index * level.frames
      this.#leaf(page, target - (target % level.frames), level.frames, flags)
    }
  }

  finish(): MappedRange[] {
    this.#close()
    return this.#ranges
  }

  #leaf(page: number, frame: number, pageFrames: number, flags: number): void {
    const open = this.#open
    if (
      open !== undefined &&
      open.flags === flags &&
      open.pageFrames === pageFrames &&
      open.frame + open.frames === frame &&
      open.startPage + open.frames === page &&
      page !== UPPER_HALF_PAGE
    ) {
      open.frames += pageFrames
      return
    }
    this.#close()
    this.#open = { startPage: page, frame, frames: pageFrames, pageFrames, flags }
  }

  #close(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    this.#ranges.push({
      start: truncateVirt(BigInt(open.startPage) << 12n),
      physical: open.frame * 4096,
      bytes: open.frames * 4096,
      pageSize: open.pageFrames * 4096,
      writable: (open.flags & FLAG.writable) !== 0,
      user: (open.flags & FLAG.user) !== 0,
      executable: (open.flags & FLAG.executable) !== 0,
      global: (open.flags & FLAG.global) !== 0,
      patIndex: open.flags >>> FLAG.patShift,
    })
  }
}
