import type { PhysicalMemory } from '../memory/physical-memory.ts'

/** 32-bit words of an entry. */
const ENTRY_WORDS = 2

/** The first entry from `first` up to `end` (exclusive) in which the tables in two frames differ, or `end`. */
export function firstDifference(
  memory: PhysicalMemory,
  one: number,
  other: number,
  first: number,
  end: number,
): number {
  const words = memory.locate(one)
  const { base } = memory
  const others = memory.locate(other)
  const otherBase = memory.base
  for (let word = first * ENTRY_WORDS; word < end * ENTRY_WORDS; word++) {
    if (words[base + word] !== others[otherBase + word]) return word >>> 1
  }
  return end
}

/**
 * Copies 64-bit entries `first` up to `end` (exclusive) of the table in frame `from` to the one in frame `to`, as memcpy() does; entries that are equal already are not
 * written. What processors hold of those that are replaced is the caller's to flush.
 */
export function copyEntries(
  memory: PhysicalMemory,
  from: number,
  to: number,
  first: number,
  end: number,
): void {
  for (
    let index = firstDifference(memory, from, to, first, end);
    index < end;
    index = firstDifference(memory, from, to, index + 1, end)
  ) {
    const words = memory.locate(from)
    const at = memory.base + index * ENTRY_WORDS
    const [low, high] = [words[at]!, words[at + 1]!]
    const target = memory.locateForWrite(to)
    target[memory.base + index * ENTRY_WORDS] = low
    target[memory.base + index * ENTRY_WORDS + 1] = high
    memory.noteTableWrite(to, index * ENTRY_WORDS, (index + 1) * ENTRY_WORDS)
  }
}
