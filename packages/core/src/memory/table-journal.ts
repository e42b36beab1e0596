import type { Rewind } from '../rewind.ts'

/** A change of entries of a frame that processors have translated through. */
export interface TableChange {
  /** Who made it, such as "first kernel" or "VariableRuntimeDxe: SetVariable on CPU 1". */
  readonly by: string
  /** {@link TableJournal.epoch} after the change. */
  readonly epoch: number
}

interface ChangedWords extends TableChange {
  /** First word of the frame, and the first after the last. */
  readonly start: number
  readonly end: number
}

/** Changes of one frame that are remembered; older ones lose their name. */
const REMEMBERED = 64

/**
 * Remembers who changed which paging-structure entries, so that a translation that outlived its entries can be laid at a door. Only frames that
 * a processor has walked through are watched.
 */
export class TableJournal {
  /** Grows with each change of a watched frame: what was translated in an earlier epoch may be stale. */
  epoch = 0
  /** Grows with each write of entries by who changes page tables, whether a processor has walked through them or not. */
  writes = 0
  /** Tells who is at work. */
  author: () => string = () => 'unknown'
  #changes: Map<number, readonly ChangedWords[]> = new Map()

  /** Notes that the 32-bit words `start` up to `end` (exclusive) of a frame were written. */
  note(frame: number, start: number, end: number): void {
    this.epoch++
    const change = { by: this.author(), epoch: this.epoch, start, end }
    const earlier = this.#changes.get(frame) ?? []
    const kept = earlier.filter((one) => one.start < start || one.end > end).slice(1 - REMEMBERED)
    kept.push(change)
    this.#changes.set(frame, kept)
  }

  /** Remembers what is noted at this moment. */
  checkpoint(): Rewind {
    const { epoch } = this
    // The lists are replaced, never changed.
    const changes = new Map(this.#changes)
    return () => {
      this.epoch = epoch
      this.#changes = new Map(changes)
    }
  }

  /** The last change of a word of a frame after an epoch. */
  lastChange(frame: number, word: number, after: number): TableChange | undefined {
    return this.#changes
      .get(frame)
      ?.findLast(({ start, end, epoch }) => start <= word && word < end && epoch > after)
  }
}
