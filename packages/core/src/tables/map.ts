import { Entry, entryFrame, frameHigh } from '../paging/entry.ts'
import { linearAddress } from '../paging/linear-page.ts'
import type { AlreadyMapped, NoFrame, NotSplittable } from './failure.ts'
import { fillLeaves, firstPresent, leafLow } from './leaf.ts'
import type { Mapping } from './mapping.ts'
import { refuseSplit, splitLeaf } from './page-size.ts'
import { countTables, leafDepths } from './table-count.ts'
import type { TableTree } from './tree.ts'

/** Makes a mapping, or changes nothing. */
export function map(
  tree: TableTree,
  mapping: Mapping,
): AlreadyMapped | NotSplittable | NoFrame | undefined {
  const run = new MapRun(tree, mapping)
  const needed = run.plan(tree.rootFrame, 0, 0, mapping.first, mapping.end)
  const error = run.refusal ?? tree.stock.reserve(needed)
  if (error === undefined) run.write(tree.rootFrame, 0, 0, mapping.first, mapping.end)
  return error
}

/** The tables that a mapping needs and the tree does not have, whether or not it may be made. */
export function missingTables(tree: TableTree, mapping: Mapping): number {
  const run = new MapRun(tree, { ...mapping, replace: true })
  return run.plan(tree.rootFrame, 0, 0, mapping.first, mapping.end)
}

/** What a table's entries are compared with before they become that. */
const NEW_LEAVES: Int32Array = new Int32Array(1024)

/**
 * Goes over the tables twice: {@link plan} looks whether the mapping can be made and counts the tables that are missing, {@link write} makes it. Both are given a table, its
 * depth, the number of its first page, and the part of the mapping that lies in it.
 */
class MapRun {
  refusal: AlreadyMapped | NotSplittable | undefined
  readonly #tree: TableTree
  readonly #mapping: Mapping
  /** How much further than a page its frame is. */
  readonly #distance: number
  readonly #leafDepths: number

  constructor(tree: TableTree, mapping: Mapping) {
    this.#tree = tree
    this.#mapping = mapping
    this.#distance = mapping.frame - mapping.first
    this.#leafDepths = leafDepths(tree.mode.levels, mapping.largest, this.#distance)
  }

  plan(table: number, depth: number, tablePage: number, first: number, end: number): number {
    const tree = this.#tree
    const { levels } = tree.mode
    const { replace } = this.#mapping
    const { frames } = levels[depth]!
    const { entryWords } = tree
    const words = tree.memory.locate(table)
    const base = tree.memory.base + tree.wordOf(depth, 0)
    const endIndex = Math.ceil((end - tablePage) / frames)
    let index = Math.floor((first - tablePage) / frames)
    let needed = 0
    // What becomes leaves of this table needs none below it, and is looked at where it must be free only.
    const isLeafDepth = this.#isLeafDepth(depth)
    const passFirst = replace && isLeafDepth ? Math.ceil((first - tablePage) / frames) : endIndex
    const passEnd = Math.floor((end - tablePage) / frames)
    while (index < endIndex) {
      if (index >= passFirst && index < passEnd) {
        index = passEnd
        continue
      }
      const at = firstPresent(
        words,
        base + index * entryWords,
        base + endIndex * entryWords,
        entryWords,
      )
      const present = (at - base) / entryWords
      if (present > index) {
        const from = Math.max(first, tablePage + index * frames)
        const to = Math.min(end, tablePage + present * frames)
        needed += countTables(levels, this.#leafDepths, depth, from, to)
        index = present
      }
      if (index === endIndex) break
      needed += this.#planPresent(table, depth, index, tablePage + index * frames, first, end)
      if (this.refusal !== undefined) return needed
      index++
    }
    return needed
  }

  #planPresent(
    table: number,
    depth: number,
    index: number,
    page: number,
    first: number,
    end: number,
  ): number {
    const tree = this.#tree
    const { replace } = this.#mapping
    const { frames } = tree.level(depth)
    const from = Math.max(first, page)
    const to = Math.min(end, page + frames)
    const isWhole = to - from === frames
    const fits = isWhole && this.#isLeafDepth(depth)
    const low = tree.read(table, depth, index)
    if (!tree.isLeaf(depth, low)) {
      const child = tree.childOf(low)
      if (!fits) return this.plan(child, depth + 1, page, from, to)
      if (!replace && tree.mapsAnything(child, depth + 1)) {
        this.#refuseAt(table, depth, index, from)
      }
      return 0
    }
    if (!replace) this.#refuseAt(table, depth, index, from)
    else if (!isWhole) this.refusal = refuseSplit(tree, depth, low, page)
    return fits ? 0 : 1 + countTables(tree.mode.levels, this.#leafDepths, depth + 1, from, to)
  }

  #refuseAt(table: number, depth: number, index: number, page: number): void {
    this.refusal = {
      kind: 'already-mapped',
      address: linearAddress(this.#tree.mode, page),
      table: table * 4096 + (this.#tree.wordOf(depth, 0) % 1024) * 4,
      index,
    }
  }

  write(table: number, depth: number, tablePage: number, first: number, end: number): void {
    const { frames } = this.#tree.level(depth)
    const endIndex = Math.ceil((end - tablePage) / frames)
    let index = Math.floor((first - tablePage) / frames)
    if (this.#isLeafDepth(depth)) {
      const firstLeaf = Math.ceil((first - tablePage) / frames)
      const endLeaf = Math.floor((end - tablePage) / frames)
      if (firstLeaf < endLeaf) {
        if (index < firstLeaf) this.#descend(table, depth, index, tablePage, first, end)
        this.#writeLeaves(table, depth, tablePage, firstLeaf, endLeaf)
        index = endLeaf
      }
    }
    for (; index < endIndex; index++) this.#descend(table, depth, index, tablePage, first, end)
  }

  /** Maps what lies below one entry of a table that there was. */
  #descend(
    table: number,
    depth: number,
    index: number,
    tablePage: number,
    first: number,
    end: number,
  ): void {
    const tree = this.#tree
    const { frames } = tree.level(depth)
    const page = tablePage + index * frames
    const from = Math.max(first, page)
    const to = Math.min(end, page + frames)
    const low = tree.read(table, depth, index)
    const isPresent = (low & Entry.Present) !== 0
    if (isPresent && !tree.isLeaf(depth, low)) {
      this.write(tree.childOf(low), depth + 1, page, from, to)
    } else if (isPresent && to - from < frames) {
      this.write(splitLeaf(tree, table, depth, index, page), depth + 1, page, from, to)
    } else {
      const child = this.#newTable(depth + 1, page, from, to)
      tree.point(table, depth, index, child, this.#mapping.tableFlags)
      if (isPresent) tree.changes.add(page, frames, frames)
    }
  }

  /** A table that maps pages `first` up to `end`, with all below it. Nothing leads to it yet. */
  #newTable(depth: number, tablePage: number, first: number, end: number): number {
    const tree = this.#tree
    const { frames, indexBits } = tree.level(depth)
    const table = tree.stock.take()
    const words = tree.blank(table, end - first === frames * (1 << indexBits))
    const { base } = tree.memory
    const endIndex = Math.ceil((end - tablePage) / frames)
    let index = Math.floor((first - tablePage) / frames)
    if (this.#isLeafDepth(depth)) {
      const firstLeaf = Math.ceil((first - tablePage) / frames)
      const endLeaf = Math.floor((end - tablePage) / frames)
      if (firstLeaf < endLeaf) {
        if (index < firstLeaf) this.#pointToNew(words, base, depth, index, tablePage, first, end)
        this.#fill(words, base, depth, tablePage, firstLeaf, endLeaf)
        index = endLeaf
      }
    }
    for (; index < endIndex; index++) {
      this.#pointToNew(words, base, depth, index, tablePage, first, end)
    }
    return table
  }

  /** Maps what lies below one entry of a new table. */
  #pointToNew(
    words: Int32Array,
    base: number,
    depth: number,
    index: number,
    tablePage: number,
    first: number,
    end: number,
  ): void {
    const tree = this.#tree
    const { frames } = tree.level(depth)
    const page = tablePage + index * frames
    const child = this.#newTable(
      depth + 1,
      page,
      Math.max(first, page),
      Math.min(end, page + frames),
    )
    const at = base + index * tree.entryWords
    words[at] = tree.pointerLow(depth, child, this.#mapping.tableFlags)
    if (tree.entryWords === 2) words[at + 1] = frameHigh(child)
  }

  /** Writes leaves `first` up to `end` of a table whatever there was, its words beginning at `base`. */
  #fill(
    words: Int32Array,
    base: number,
    depth: number,
    tablePage: number,
    first: number,
    end: number,
  ): void {
    const { mode, entryWords } = this.#tree
    const level = mode.levels[depth]!
    const frame = tablePage + first * level.frames + this.#distance
    fillLeaves(
      words,
      base + first * entryWords,
      end - first,
      entryWords,
      leafLow(mode, level, frame, this.#mapping.flags),
      frameHigh(frame) | this.#mapping.flagsHigh,
      level.frames * 4096,
    )
  }

  /** Writes leaves of a table that there was. */
  #writeLeaves(table: number, depth: number, tablePage: number, first: number, end: number): void {
    const tree = this.#tree
    const { memory, entryWords } = tree
    const isFree = depth === tree.mode.levels.length - 1 && !this.#mapping.replace
    if (!isFree) this.#takeDown(table, depth, tablePage, first, end)
    const words = memory.locateForWrite(table)
    const start = tree.wordOf(depth, 0)
    this.#fill(words, memory.base + start, depth, tablePage, first, end)
    memory.noteTableWrite(table, start + first * entryWords, start + end * entryWords)
  }

  /** Takes down which of the entries that are about to be replaced are live and become others. */
  #takeDown(table: number, depth: number, tablePage: number, first: number, end: number): void {
    const tree = this.#tree
    const { memory, entryWords } = tree
    const words = memory.locate(table)
    const base = memory.base + tree.wordOf(depth, 0)
    const endWord = base + end * entryWords
    let at = firstPresent(words, base + first * entryWords, endWord, entryWords)
    if (at === endWord) return
    const isWide = entryWords === 2
    this.#fill(NEW_LEAVES, 0, depth, tablePage, first, end)
    for (; at < endWord; at += entryWords) {
      const low = words[at]!
      const isSame =
        low === NEW_LEAVES[at - base] && (!isWide || words[at + 1] === NEW_LEAVES[at - base + 1])
      if (isSame || (low & Entry.Present) === 0) continue
      this.#takeDownEntry(
        low,
        isWide ? words[at + 1]! : 0,
        depth,
        tablePage,
        (at - base) / entryWords,
      )
    }
  }

  #takeDownEntry(low: number, high: number, depth: number, tablePage: number, index: number): void {
    const tree = this.#tree
    const { frames } = tree.level(depth)
    const page = tablePage + index * frames
    if (tree.isLeaf(depth, low)) tree.changes.add(page, frames, frames)
    else tree.discard(entryFrame(low, high), depth + 1, page)
  }

  #isLeafDepth(depth: number): boolean {
    return (this.#leafDepths & (1 << depth)) !== 0
  }
}
