import { highHalf, lowHalf } from '../halves.ts'
import { Entry, entryFrame, frameHigh, frameLow } from '../paging/entry.ts'
import { linearAddress, linearPage } from '../paging/linear-page.ts'
import type { EntryContent, TableDifference } from '../survey/diff.ts'
import type { NoFrame, NotApplicable } from './failure.ts'
import type { TableTree } from './tree.ts'

/** Makes a tree what the other side of a difference was, or changes nothing. */
export function applyDifferences(
  tree: TableTree,
  differences: readonly TableDifference[],
): NotApplicable | NoFrame | undefined {
  let tables = 0
  for (const difference of differences) {
    for (let nth = 0; nth < difference.count; nth++) {
      const { page, found, content } = entryOf(tree, difference, nth)
      if ((found === undefined ? 'nothing' : content) !== difference.before.content) {
        return { kind: 'not-applicable', address: linearAddress(tree.mode, page) }
      }
    }
    const { before, after, count } = difference
    if (after.content === 'table' && before.content !== 'table') tables += count
  }
  const error = tree.stock.reserve(tables)
  if (error !== undefined) return error
  for (const difference of differences) {
    for (let nth = 0; nth < difference.count; nth++) applyEntry(tree, difference, nth)
  }
  return undefined
}

/** An entry of a run; `found` is undefined where the tables end above it. */
function entryOf(
  tree: TableTree,
  { start, depth }: TableDifference,
  nth: number,
): {
  readonly page: number
  readonly found: { readonly table: number; readonly index: number } | undefined
  readonly low: number
  readonly high: number
  readonly content: EntryContent
} {
  const page = linearPage(tree.mode, start) + nth * tree.level(depth).frames
  const located = tree.locate(page, depth)
  const { low } = located
  const { high } = tree
  const isTable = (low & Entry.Present) !== 0 && !tree.isLeaf(depth, low)
  const content = low === 0 && high === 0 ? 'nothing' : isTable ? 'table' : 'value'
  return { page, found: located.depth === depth ? located : undefined, low, high, content }
}

function applyEntry(tree: TableTree, difference: TableDifference, nth: number): void {
  const { depth, after } = difference
  const { page, found, low, high, content } = entryOf(tree, difference, nth)
  // A table above it was taken away by the same differences, and all below went with it.
  if (found === undefined) return
  const { frames } = tree.level(depth)
  const { table, index } = found
  const value = after.entry + BigInt(nth) * BigInt(after.step)
  const newLow = lowHalf(value)
  const newHigh = highHalf(value)
  if (after.content === 'table') {
    const child = content === 'table' ? entryFrame(low, high) : tree.stock.take()
    if (content !== 'table') tree.blank(child, false)
    const flagsHigh = newHigh & FLAGS_HIGH
    tree.write(
      table,
      depth,
      index,
      frameLow(child) | (newLow & FLAGS),
      frameHigh(child) | flagsHigh,
    )
    if (content === 'table') tree.changes.addTable(page, frames)
  } else {
    tree.write(table, depth, index, newLow, newHigh)
    if (content === 'table') tree.discard(entryFrame(low, high), depth + 1, page)
  }
  if (content === 'value' && (low & Entry.Present) !== 0) tree.changes.add(page, frames, frames)
}

const FLAGS = 0xfff
const FLAGS_HIGH = -0x10_0000
