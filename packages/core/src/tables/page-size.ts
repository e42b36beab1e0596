import { Entry, frameHigh } from '../paging/entry.ts'
import { linearAddress } from '../paging/linear-page.ts'
import type { NotMergeable, NotSplittable } from './failure.ts'
import { fillLeaves, leafFlags, leafFlagsHigh, leafFrame, leafLow } from './leaf.ts'
import { PAGE_TABLE_FLAGS, type TableTree } from './tree.ts'

/** What a large page maps can lie where pages of the next size cannot: a PSE-36 page above 4 GiB. */
export function refuseSplit(
  tree: TableTree,
  depth: number,
  low: number,
  page: number,
): NotSplittable | undefined {
  const level = tree.level(depth)
  const isBeyond = tree.mode.entryBytes === 4 && leafFrame(tree.mode, level, low, 0) >= 2 ** 20
  if (level.pageSize !== 'pte' && !isBeyond) return undefined
  const address = linearAddress(tree.mode, page)
  return { kind: 'not-splittable', address, pageSize: level.frames * 4096 }
}

/**
 * Replaces the large page of an entry, which begins at a page number, by a table of pages of the next size with the same flags, and returns the table's frame, taken
 * from the stock. The table itself takes no right away.
 */
export function splitLeaf(
  tree: TableTree,
  table: number,
  depth: number,
  index: number,
  page: number,
): number {
  const { mode, memory } = tree
  const level = tree.level(depth)
  const below = tree.level(depth + 1)
  const low = tree.read(table, depth, index)
  const { high } = tree
  const frame = leafFrame(mode, level, low, high)
  const child = tree.stock.take()
  const words = tree.blank(child, true)
  fillLeaves(
    words,
    memory.base,
    1 << below.indexBits,
    tree.entryWords,
    leafLow(mode, below, frame, leafFlags(level, low)),
    frameHigh(frame) | leafFlagsHigh(high),
    below.frames * 4096,
  )
  tree.point(table, depth, index, child, PAGE_TABLE_FLAGS)
  tree.changes.add(page, level.frames, level.frames)
  return child
}

const USED: number = Entry.Accessed | Entry.Dirty
const RIGHTS: number = Entry.Writable | Entry.User

/**
 * Replaces the entry that leads to a table of leaves by one large page that translates as they do, and gives the table back. It is accessed or dirty where any
 * of them is, and has the rights that they had together with the entry.
 */
export function mergeLeaves(
  tree: TableTree,
  table: number,
  depth: number,
  index: number,
  page: number,
): NotMergeable | undefined {
  const { mode } = tree
  const below = tree.level(depth + 1)
  const count = 1 << below.indexBits
  const entryLow = tree.read(table, depth, index)
  const entryHigh = tree.high
  const child = tree.childOf(entryLow)
  const firstLow = tree.read(child, depth + 1, 0)
  const firstHigh = tree.high
  const flags = leafFlags(below, firstLow) & ~USED
  const flagsHigh = leafFlagsHigh(firstHigh)
  const firstFrame = leafFrame(mode, below, firstLow, firstHigh)
  let used = 0
  for (let at = 0; at < count; at++) {
    const low = tree.read(child, depth + 1, at)
    const frame = firstFrame + at * below.frames
    let reason: NotMergeable['reason'] | undefined
    if ((low & Entry.Present) === 0) reason = 'hole'
    else if (!tree.isLeaf(depth + 1, low)) reason = 'table'
    else if (frame % tree.level(depth).frames !== at * below.frames) reason = 'physical'
    else if (leafFrame(mode, below, low, tree.high) !== frame) reason = 'physical'
    else if ((leafFlags(below, low) & ~USED) !== flags) reason = 'flags'
    else if (leafFlagsHigh(tree.high) !== flagsHigh) reason = 'flags'
    if (reason !== undefined) {
      const address = linearAddress(mode, page + at * below.frames)
      return { kind: 'not-mergeable', address, reason }
    }
    used |= low & USED
  }
  const rights = (flags & ~RIGHTS) | (flags & entryLow & RIGHTS)
  const low = leafLow(mode, tree.level(depth), firstFrame, rights | used)
  const high = frameHigh(firstFrame) | flagsHigh | (entryHigh & Entry.NoExecuteHigh)
  tree.write(table, depth, index, low, high)
  tree.stock.give(child)
  tree.changes.add(page, count * below.frames, below.frames)
  return undefined
}
