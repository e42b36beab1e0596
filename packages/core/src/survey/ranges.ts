import type { VirtualAddress } from '../address.ts'
import { Entry, leafPatIndex } from '../paging/entry.ts'
import type { TranslationContext } from '../paging/inspect.ts'
import { halfPages, linearAddress, linearPage } from '../paging/linear-page.ts'
import { type EntryMasks, entryMasks, type PagingMode } from '../paging/mode.ts'

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
  /** 0 to 15; 0 where entries have none. */
  readonly protectionKey: number
}

/** What {@link mappedRanges} found under a root. */
export interface MappingSurvey {
  /** In ascending order of address. */
  readonly ranges: readonly MappedRange[]
  /** Frames of the paging structures, the root among them, each once. */
  readonly tables: readonly number[]
}

/** Linear addresses of one half of the address space; `end` is exclusive. */
export interface LinearWindow {
  readonly start: bigint
  readonly end: bigint
}

/** The lower half of a mode's linear addresses; all of them where addresses have 32 bits. */
export function lowerHalf(mode: PagingMode): LinearWindow {
  return { start: 0n, end: BigInt(halfPages(mode)) << 12n }
}

/** The upper half, sign-extended; empty where addresses have 32 bits. */
export function upperHalf(mode: PagingMode): LinearWindow {
  const end = mode.linearBits === 32 ? 2n ** 32n : 2n ** 64n
  return { start: mode.linearBits === 32 ? end : end - (BigInt(halfPages(mode)) << 12n), end }
}

/**
 * Every mapping under a root, merged, without entries that have a reserved bit set; with a window those that have a byte in it, which may begin before it and end behind it.
 */
export function mappedRanges(context: TranslationContext, window?: LinearWindow): MappingSurvey {
  const survey = new Survey(context, { readsLeaves: true })
  survey.window(window)
  return { ranges: survey.finish(), tables: [...survey.tables] }
}

/** As {@link mappedRanges} without a window for each of several roots at one moment; `contexts` differ in nothing but the root. Tables that roots share are looked at once. */
export function mappedRangesOfAll(contexts: readonly TranslationContext[]): MappingSurvey[] {
  const known: Map<string, Subtree> = new Map()
  return contexts.map((context) => {
    const survey = new Survey(context, { readsLeaves: true, known })
    survey.window(undefined)
    return { ranges: survey.finish(), tables: [...survey.tables] }
  })
}

/** The frames of the paging structures alone that {@link mappedRanges} finds: tables that hold nothing but pages are not looked into. */
export function tableFrames(context: TranslationContext, window?: LinearWindow): readonly number[] {
  const survey = new Survey(context, { readsLeaves: false })
  survey.window(window)
  return [...survey.tables]
}

/** What {@link filterRanges} looks for; what is left out may be anything. */
export type RangeQuery = Partial<
  Pick<
    MappedRange,
    'pageSize' | 'writable' | 'user' | 'executable' | 'global' | 'patIndex' | 'protectionKey'
  >
>

/** The ranges that are all that a query says, such as `{ writable: true, executable: true }`. */
export function filterRanges<Range extends MappedRange>(
  ranges: readonly Range[],
  query: RangeQuery,
): Range[] {
  const { pageSize, writable, user, executable, global, patIndex, protectionKey } = query
  return ranges.filter(
    (range) =>
      (pageSize ?? range.pageSize) === range.pageSize &&
      (writable ?? range.writable) === range.writable &&
      (user ?? range.user) === range.user &&
      (executable ?? range.executable) === range.executable &&
      (global ?? range.global) === range.global &&
      (patIndex ?? range.patIndex) === range.patIndex &&
      (protectionKey ?? range.protectionKey) === range.protectionKey,
  )
}

/** A mapping of pages that may be of several sizes. */
export interface JoinedRange extends Omit<MappedRange, 'pageSize'> {
  /** The sizes in bytes, each once, in order of address. */
  readonly pageSizes: readonly number[]
}

/** The ranges, in ascending order, with neighbours joined that differ in page size alone. */
export function joinPageSizes(ranges: readonly MappedRange[]): JoinedRange[] {
  const joined: JoinedRange[] = []
  for (const { pageSize, ...range } of ranges) {
    const last = joined.at(-1)
    if (last !== undefined && continues(last, range)) {
      const pageSizes = last.pageSizes.includes(pageSize)
        ? last.pageSizes
        : [...last.pageSizes, pageSize]
      joined[joined.length - 1] = { ...last, bytes: last.bytes + range.bytes, pageSizes }
    } else joined.push({ ...range, pageSizes: [pageSize] })
  }
  return joined
}

function continues(last: JoinedRange, next: Omit<MappedRange, 'pageSize'>): boolean {
  return (
    last.start + BigInt(last.bytes) === next.start &&
    last.physical + last.bytes === next.physical &&
    last.writable === next.writable &&
    last.user === next.user &&
    last.executable === next.executable &&
    last.global === next.global &&
    last.patIndex === next.patIndex &&
    last.protectionKey === next.protectionKey
  )
}

/** What addresses from `start` up to `end` (exclusive) are called, such as "vmalloc". */
export interface AddressName {
  readonly name: string
  readonly start: bigint
  readonly end: bigint
}

/** A mapping, or the part of it that has one name; undefined where nothing is called so. */
export interface NamedRange extends MappedRange {
  readonly name: string | undefined
}

/** The ranges, in ascending order, cut where names begin and end. Where names overlap the last of the list counts. */
export function nameRanges(
  ranges: readonly MappedRange[],
  names: readonly AddressName[],
): NamedRange[] {
  const edges = names.flatMap(({ start, end }) => [start, end])
  const cuts = [...new Set<bigint>(edges)].toSorted((a, b) => (a < b ? -1 : 1))
  const nameAt = (address: bigint): string | undefined =>
    names.findLast(({ start, end }) => start <= address && address < end)?.name
  const named: NamedRange[] = []
  let cut = 0
  for (const range of ranges) {
    const end = range.start + BigInt(range.bytes)
    let start: bigint = range.start
    while (start < end) {
      while (cut < cuts.length && cuts[cut]! <= start) cut++
      const until = cut < cuts.length && cuts[cut]! < end ? cuts[cut]! : end
      const offset = Number(start - range.start)
      const name = nameAt(start)
      const part = {
        ...range,
        start: start as VirtualAddress,
        physical: range.physical + offset,
        bytes: Number(until - start),
        name,
      }
      const last = named.at(-1)
      const isCutInside = offset > 0 && last?.name === name
      if (isCutInside) named[named.length - 1] = { ...last!, bytes: last!.bytes + part.bytes }
      else named.push(part)
      start = until
    }
  }
  return named
}

/** A range under construction; flags are compared as one number. */
interface OpenRange {
  startPage: number
  frame: number
  frames: number
  pageFrames: number
  flags: number
}

/** What lies below one entry of a root. */
interface Subtree {
  readonly ranges: readonly OpenRange[]
  readonly tables: Iterable<number>
}

const FLAG = { writable: 1, user: 2, executable: 4, global: 8, patShift: 4, keyShift: 7 } as const

class Survey {
  readonly tables: Set<number> = new Set()
  readonly #context: TranslationContext
  readonly #masks: readonly EntryMasks[]
  /** Page number at which the upper half begins: the hole before it has none, and no range runs across it. */
  readonly #upperHalf: number
  readonly #ranges: OpenRange[] = []
  /** How deep tables are read: to the last level, or to the one before. */
  readonly #depths: number
  /** What other surveys of this moment have found. */
  readonly #known: Map<string, Subtree> | undefined
  #open: OpenRange | undefined

  constructor(
    context: TranslationContext,
    {
      readsLeaves,
      known,
    }: { readonly readsLeaves: boolean; readonly known?: Map<string, Subtree> },
  ) {
    this.#context = context
    this.#masks = entryMasks(context.mode, context.features, context.noExecute)
    this.#upperHalf = halfPages(context.mode)
    this.#depths = readsLeaves ? this.#masks.length : this.#masks.length - 1
    this.#known = known
  }

  /** Everything, or what has a byte in a window. */
  window(window: LinearWindow | undefined): void {
    const { root, mode } = this.#context
    if (mode.levels.length === 0 || (window !== undefined && window.start >= window.end)) return
    const from = window === undefined ? 0 : linearPage(mode, window.start)
    const to = window === undefined ? Infinity : linearPage(mode, window.end - 1n) + 1
    // PAE paging aligns the root to 32 bytes.
    const firstWord = (root % 4096) / 4
    this.#table(Math.floor(root / 4096), firstWord, 0, 0, true, true, true, from, to)
  }

  #table(
    frame: number,
    firstWord: number,
    depth: number,
    firstPage: number,
    writable: boolean,
    user: boolean,
    executable: boolean,
    from: number,
    to: number,
  ): void {
    this.tables.add(frame)
    if (depth === this.#depths) return
    const { memory } = this.#context
    const level = this.#masks[depth]!
    const words = memory.locate(frame)
    const base = memory.base + firstWord
    const first = Math.max(0, Math.floor((from - firstPage) / level.frames))
    const end = Math.min(Math.ceil((to - firstPage) / level.frames), level.indexMask + 1)
    for (let index = first; index < end; index++) {
      const at = base + index * level.words
      const low = words[at]!
      if ((low & Entry.Present) === 0) continue
      const high = words[at + level.highAt]! & level.highMask
      const isLeaf = (low & level.leafBit) !== 0
      const reservedLow = isLeaf ? level.leafReservedLow : level.reservedLow
      if ((high & level.reservedHigh) !== 0 || (low & reservedLow) !== 0) continue
      const rights = low | level.implied
      const mayWrite = writable && (rights & Entry.Writable) !== 0
      const mayUser = user && (rights & Entry.User) !== 0
      const mayExecute = executable && high >= 0
      const page = firstPage + index * level.frames
      if (!isLeaf) {
        const child = (high & 0xf_ffff) * 0x10_0000 + (low >>> 12)
        if (depth === 0 && this.#known !== undefined) {
          this.#shared(this.#known, child, page, mayWrite, mayUser, mayExecute)
        } else {
          this.#table(child, 0, depth + 1, page, mayWrite, mayUser, mayExecute, from, to)
        }
        continue
      }
      const flags =
        (mayWrite ? FLAG.writable : 0) |
        (mayUser ? FLAG.user : 0) |
        (mayExecute ? FLAG.executable : 0) |
        ((low & Entry.Global) !== 0 ? FLAG.global : 0) |
        (leafPatIndex(low, level.frames) << FLAG.patShift) |
        (((high >>> 27) & 0xf) << FLAG.keyShift)
      const target =
        ((high & 0xf_ffff) | ((low >>> 13) & level.pse36)) * 0x10_0000 +
        ((low >>> 12) & ~(level.frames - 1))
      this.#extend(page, target, level.frames, level.frames, flags)
    }
  }

  /** What is below an entry of the root, as the first survey that came here has found it. */
  #shared(
    known: Map<string, Subtree>,
    table: number,
    firstPage: number,
    writable: boolean,
    user: boolean,
    executable: boolean,
  ): void {
    const key = [table, firstPage, writable, user, executable].join()
    let below = known.get(key)
    if (below === undefined) {
      const survey = new Survey(this.#context, { readsLeaves: true })
      survey.#table(table, 0, 1, firstPage, writable, user, executable, 0, Infinity)
      below = { ranges: survey.#ranges, tables: survey.tables }
      known.set(key, below)
    }
    for (const frame of below.tables) this.tables.add(frame)
    for (const { startPage, frame, frames, pageFrames, flags } of below.ranges) {
      this.#extend(startPage, frame, frames, pageFrames, flags)
    }
  }

  finish(): MappedRange[] {
    const { mode } = this.#context
    return this.#ranges.map(({ startPage, frame, frames, pageFrames, flags }) => ({
      start: linearAddress(mode, startPage),
      physical: frame * 4096,
      bytes: frames * 4096,
      pageSize: pageFrames * 4096,
      writable: (flags & FLAG.writable) !== 0,
      user: (flags & FLAG.user) !== 0,
      executable: (flags & FLAG.executable) !== 0,
      global: (flags & FLAG.global) !== 0,
      patIndex: (flags >>> FLAG.patShift) & 7,
      protectionKey: flags >>> FLAG.keyShift,
    }))
  }

  /** Adds so many frames: to the last range where they go on with it. */
  #extend(page: number, frame: number, frames: number, pageFrames: number, flags: number): void {
    const open = this.#open
    if (
      open !== undefined &&
      open.flags === flags &&
      open.pageFrames === pageFrames &&
      open.frame + open.frames === frame &&
      open.startPage + open.frames === page &&
      page !== this.#upperHalf
    ) {
      open.frames += frames
      return
    }
    this.#open = { startPage: page, frame, frames, pageFrames, flags }
    this.#ranges.push(this.#open)
  }
}
