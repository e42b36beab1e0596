import { CoreError } from '../error.ts'
import type { Rewind } from '../rewind.ts'
import type { NoFrame } from './failure.ts'

/** Hands out a frame for a new page table; undefined, or throwing, where there is none. */
export type AllocateTable = () => number | undefined

/** Takes back the frame of a table that nothing leads to any more. */
export type ReleaseTable = (frame: number) => void

/** Frames for the tables of an operation, allocated before it changes anything, so that it does all or nothing. */
export class FrameStock {
  readonly #allocate: AllocateTable
  readonly #release: ReleaseTable | undefined
  /** One more than the highest frame that an entry can point to. */
  readonly #limit: number
  // Those from #next up to #end are ready. The array stays: filling it anew for each operation would cost more than small ones do.
  readonly #frames: number[] = []
  #next = 0
  #end = 0

  constructor(allocate: AllocateTable, release: ReleaseTable | undefined, entryBytes: 4 | 8) {
    this.#allocate = allocate
    this.#release = release
    this.#limit = entryBytes === 4 ? 2 ** 20 : 2 ** 40
  }

  /** Has `count` frames ready for {@link take}. What was allocated when the allocator gave up is kept for the next time. */
  reserve(count: number): NoFrame | undefined {
    while (this.#end - this.#next < count) {
      const frame = this.#allocate()
      if (frame === undefined) return { kind: 'no-frame', needed: count }
      if (frame >= this.#limit) throw unreachable(frame)
      this.#frames[this.#end++] = frame
    }
    return undefined
  }

  /** The next of the frames that were reserved, in the order of their allocation. */
  take(): number {
    const frame = this.#frames[this.#next++]!
    if (this.#next === this.#end) {
      this.#next = 0
      this.#end = 0
    }
    return frame
  }

  /** Remembers which frames are ready at this moment. */
  checkpoint(): Rewind {
    const ready = this.#frames.slice(this.#next, this.#end)
    return () => {
      this.#frames.splice(0, Infinity, ...ready)
      this.#next = 0
      this.#end = ready.length
    }
  }

  give(frame: number): void {
    this.#release?.(frame)
  }
}

function unreachable(frame: number): CoreError {
  return new CoreError('CORE_BAD_PHYSICAL_ADDRESS', {
    expected: 'a frame for a table that an entry can point to',
    found: `frame 0x${frame.toString(16)}`,
  })
}
