import { Entry, type PageFlags } from '../paging/entry.ts'
import { linearAddress } from '../paging/linear-page.ts'
import type { NoFrame, NotMapped, NotSplittable } from './failure.ts'
import { firstPresent } from './leaf.ts'
import { refuseSplit, splitLeaf } from './page-size.ts'
import { countTables, leafDepths } from './table-count.ts'
import type { TableTree } from './tree.ts'

/** Gets the halves of a leaf and returns those to put in its place, or undefined to clear it. */
export type ChangeLeaf = (
  low: number,
  high: number,
) => readonly [low: number, high: number] | undefined

/** The same change of every leaf: which bits of its halves are kept, and which are set then. */
export interface LeafBits {
  readonly keep: number
  readonly keepHigh: number
  readonly set: number
  readonly setHigh: number
}

export const CLEAR: LeafBits = { keep: 0, keepHigh: 0, set: 0, setHigh: 0 }

/** The change of a leaf that gives it flags; those left out stay. */
export function flagBits(flags: Partial<PageFlags>): LeafBits {
  const { writable, user, global, writeThrough, cacheDisable, executable } = flags
  let keep = -1
  let set = 0
  const give = (value: boolean | undefined, bit: number): void => {
    if (value === undefined) return
    keep &= ~bit
    if (value) set |= bit
  }
  give(writable, Entry.Writable)
  give(user, Entry.User)
  give(global, Entry.Global)
  give(writeThrough, Entry.WriteThrough)
  give(cacheDisable, Entry.CacheDisable)
  return {
    keep,
    set,
    keepHigh: executable === undefined ? -1 : ~Entry.NoExecuteHigh,
    setHigh: executable === false ? Entry.NoExecuteHigh : 0,
  }
}

/** Pages of 4 KiB to change, `end` exclusive, and how. */
export interface Change {
  readonly first: number
  readonly end: number
  readonly how: ChangeLeaf | LeafBits
  /** Whether a page that is not mapped is passed over; else nothing is changed. */
  readonly skipHoles: boolean
}

/** Changes the leaves of a range, splitting those that lie in it in part, or changes nothing. */
export function changeLeaves(
  tree: TableTree,
  change: Change,
): NotMapped | NotSplittable | NoFrame | undefined {
  const run = new ChangeRun(tree, change)
  const needed = run.plan(tree.rootFrame, 0, 0, change.first, change.end)
  const error = run.refusal ?? tree.stock.reserve(needed)
  if (error === undefined) run.write(tree.rootFrame, 0, 0, change.first, change.end)
  return error
}

/** Goes over the tables twice, as the run of a mapping does: {@link plan} counts the tables that splits take. */
class ChangeRun {
  refusal: NotMapped | NotSplittable | undefined
  readonly #tree: TableTree
  readonly #change: Change
  readonly #allSizes: number

  constructor(tree: TableTree, change: Change) {
    this.#tree = tree
    this.#change = change
    this.#allSizes = leafDepths(tree.mode.levels, Infinity, 0)
  }

  plan(table: number, depth: number, tablePage: number, first: number, end: number): number {
    const tree = this.#tree
    const { levels } = tree.mode
    const { frames } = levels[depth]!
    const { skipHoles } = this.#change
    const endIndex = Math.ceil((end - tablePage) / frames)
    let needed = 0
    for (let index = Math.floor((first - tablePage) / frames); index < endIndex; index++) {
      const page = tablePage + index * frames
      const from = Math.max(first, page)
      const to = Math.min(end, page + frames)
      const isWhole = to - from === frames
      // Only at its ends a range lies in pages in part.
      if (skipHoles && isWhole && index < endIndex - 1) {
        index = Math.max(index, endIndex - 2)
        continue
      }
      const low = tree.read(table, depth, index)
      if ((low & Entry.Present) === 0) {
        if (!skipHoles) {
          this.refusal = { kind: 'not-mapped', address: linearAddress(tree.mode, from) }
        }
      } else if (!tree.isLeaf(depth, low)) {
        if (!skipHoles || !isWhole) {
          needed += this.plan(tree.childOf(low), depth + 1, page, from, to)
        }
      } else if (!isWhole) {
        this.refusal = refuseSplit(tree, depth, low, page)
        needed += 1 + countTables(levels, this.#allSizes, depth + 1, from, to)
      }
      if (this.refusal !== undefined) return needed
    }
    return needed
  }

  write(table: number, depth: number, tablePage: number, first: number, end: number): void {
    const tree = this.#tree
    const { frames } = tree.level(depth)
    const { entryWords, memory } = tree
    const start = tree.wordOf(depth, 0)
    const firstWord = start + Math.floor((first - tablePage) / frames) * entryWords
    const endWord = start + Math.ceil((end - tablePage) / frames) * entryWords
    if (frames === 1) {
      this.#writeRun(table, depth, tablePage, firstWord, endWord)
      return
    }
    for (let word = firstWord; word < endWord; word += entryWords) {
      const words = memory.locate(table)
      const { base } = memory
      word = firstPresent(words, base + word, base + endWord, entryWords) - base
      if (word === endWord) return
      const index = (word - start) / entryWords
      const page = tablePage + index * frames
      const from = Math.max(first, page)
      const to = Math.min(end, page + frames)
      const low = tree.read(table, depth, index)
      if (!tree.isLeaf(depth, low)) this.write(tree.childOf(low), depth + 1, page, from, to)
      else if (to - from === frames) {
        this.#writeRun(table, depth, tablePage, word, word + entryWords)
      } else {
        this.write(splitLeaf(tree, table, depth, index, page), depth + 1, page, from, to)
      }
    }
  }

  /** Changes the entries in the words `first` up to `end` of a table, all of them leaves or not present. */
  #writeRun(table: number, depth: number, tablePage: number, first: number, end: number): void {
    const tree = this.#tree
    const { memory, entryWords, changes } = tree
    const { frames } = tree.level(depth)
    const { how } = this.#change
    const present = memory.locate(table)
    const from = firstPresent(present, memory.base + first, memory.base + end, entryWords)
    if (from === memory.base + end) return
    const words = memory.locateForWrite(table)
    const { base } = memory
    const start = base + tree.wordOf(depth, 0)
    for (let at = base + first; at < base + end; at += entryWords) {
      const low = words[at]!
      if ((low & Entry.Present) === 0) continue
      const high = entryWords === 2 ? words[at + 1]! : 0
      let newLow: number
      let newHigh: number
      if (typeof how === 'function') {
        const changed = how(low, high)
        newLow = (changed?.[0] ?? 0) | 0
        newHigh = (changed?.[1] ?? 0) | 0
      } else {
        newLow = (low & how.keep) | how.set
        newHigh = (high & how.keepHigh) | how.setHigh
      }
      if (newLow === low && (newHigh === high || entryWords === 1)) continue
      words[at] = newLow
      if (entryWords === 2) words[at + 1] = newHigh
      changes.add(tablePage + ((at - start) / entryWords) * frames, frames, frames)
    }
    memory.noteTableWrite(table, first, end)
  }
}
