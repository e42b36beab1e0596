import { truncateVirt, type VirtualAddress } from '../address.ts'
import { Entry, entryFrame, patIndex } from './entry.ts'
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

/** Every mapping under a root, merged, for the linear addresses of PML4 entries `firstIndex` up to `endIndex` (exclusive, default all). */
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
  readonly #ranges: MappedRange[] = []
  #open: OpenRange | undefined

  constructor(context: TranslationContext) {
    this.#context = context
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
    const { memory, mode, features, noExecute } = this.#context
    const level = mode.levels[depth]!
    const last = depth === mode.levels.length - 1
    const leafBit =
      level.pageSize === 'leaf' || (level.pageSize === 'leaf-with-1g' && features.pages1G)
    const words = memory.locate(frame)
    const base = memory.base
    for (let index = firstIndex; index < endIndex; index++) {
      const low = words[base + index * 2]!
      if ((low & Entry.Present) === 0) continue
      const high = words[base + index * 2 + 1]!
      const mayWrite = writable && (low & Entry.Writable) !== 0
      const mayUser = user && (low & Entry.User) !== 0
      const mayExecute = executable && !(noExecute && high < 0)
      const target = entryFrame(low, high)
      const isLargeLeaf = leafBit && (low & Entry.PageSize) !== 0
      if (!last && !isLargeLeaf) {
        const address = prefix | (BigInt(index) << BigInt(level.shift))
        this.table(target, depth + 1, address, mayWrite, mayUser, mayExecute, 0, 512)
        continue
      }
      const patBit = last ? (low & Entry.Pat4K) >>> 7 : (low & Entry.PatLarge) >>> 12
      const flags =
        (mayWrite ? FLAG.writable : 0) |
        (mayUser ? FLAG.user : 0) |
        (mayExecute ? FLAG.executable : 0) |
        ((low & Entry.Global) !== 0 ? FLAG.global : 0) |
        (patIndex(low, patBit) << FLAG.patShift)
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
      start: truncateVirt(open.start),
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
