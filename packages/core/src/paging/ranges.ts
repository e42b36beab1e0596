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
  survey.table(context.root / 4096, 0, 0n, true, true, true, firstIndex, endIndex)
  return { ranges: survey.finish(), tables: [...survey.tables] }
}

/** A range under construction; halves of flags are compared as one number. */
interface OpenRange {
  start: bigint
  frame: number
  frames: number
  pageFrames: number
  flags: number
}

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
    prefix: bigint,
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
        // The root's upper half is sign-extended, so that no range runs across the hole between the halves.
        const address = truncateVirt(prefix | (BigInt(index) << BigInt(level.shift)))
        this.table(target, depth + 1, address, mayWrite, mayUser, mayExecute, 0, 512)
        continue
      }
      const flags =
        (mayWrite ? FLAG.writable : 0) |
        (mayUser ? FLAG.user : 0) |
        (mayExecute ? FLAG.executable : 0) |
        ((low & Entry.Global) !== 0 ? FLAG.global : 0) |
        (leafPatIndex(low, level.frames) << FLAG.patShift)
      this.#leaf(prefix, index, level.shift, target - (target % level.frames), level.frames, flags)
    }
  }

  finish(): MappedRange[] {
    this.#close()
    return this.#ranges
  }

  #leaf(
    prefix: bigint,
    index: number,
    shift: number,
    frame: number,
    pageFrames: number,
    flags: number,
  ): void {
    const open = this.#open
    if (
      open !== undefined &&
      open.flags === flags &&
      open.pageFrames === pageFrames &&
      open.frame + open.frames === frame &&
      // The frames follow one another; whether the addresses do is asked only then, as it costs a bigint.
      open.start + BigInt(open.frames) * 4096n === (prefix | (BigInt(index) << BigInt(shift)))
    ) {
      open.frames += pageFrames
      return
    }
    this.#close()
    const start = prefix | (BigInt(index) << BigInt(shift))
    this.#open = { start, frame, frames: pageFrames, pageFrames, flags }
  }

  #close(): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    this.#ranges.push({
      start: open.start as VirtualAddress,
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
