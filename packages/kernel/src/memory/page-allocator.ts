import type { FrameOwner, PhysicalMemory, Rewind } from '@trapdoor/core'
import { OutOfMemory } from '../error.ts'

/** A range of frames; `end` is exclusive. */
export interface FrameRange {
  start: number
  end: number
}

/** Where frames may be, in frames; `below` is exclusive. */
export interface Placement {
  readonly align?: number
  readonly below?: number
  /** Whether high memory will do, which then goes first (__GFP_HIGHMEM). */
  readonly highMemory?: boolean
  /** The first frame, with `topDown`. */
  readonly from?: number
  /** The highest place, as memblock_find_in_range() chooses; default the lowest. */
  readonly topDown?: boolean
}

/** Below this frame memory is kept for those who ask for it (ZONE_DMA: the first 16 MiB). */
const ZONE_DMA_END = 0x1000

/**
 * The kernel's free physical memory: first the early allocator's, then the page allocator's, which takes over what the former left
 * (mm_init()). Lowest frames above ZONE_DMA go first. Frames that are handed out get an owner.
 */
export class PageAllocator {
  readonly #memory: PhysicalMemory
  readonly #ram: readonly Readonly<FrameRange>[]
  readonly #lowEnd: number
  #free: FrameRange[]

  /** `ranges` in ascending order, in frames, without what is reserved. Frames from `lowEnd` on are high memory. */
  constructor(memory: PhysicalMemory, ranges: readonly FrameRange[], lowEnd: number = Infinity) {
    this.#lowEnd = lowEnd
    this.#memory = memory
    this.#ram = copyOf(ranges)
    this.#free = copyOf(ranges)
  }

  /** What is free, in ascending order. */
  get freeRanges(): readonly Readonly<FrameRange>[] {
    return this.#free
  }

  /** Remembers what is free at this moment. */
  checkpoint(): Rewind {
    const free = copyOf(this.#free)
    return () => {
      this.#free = copyOf(free)
    }
  }

  /** The first of `count` contiguous frames; panics where there are none left. `align` in frames; `below` is an exclusive end in frames. */
  allocate(owner: FrameOwner, count = 1, place: Placement = {}): number {
    const start = this.tryAllocate(owner, count, place)
    if (start !== undefined) return start
    throw new OutOfMemory(count, owner.name)
  }

  /** As {@link allocate}, but undefined where there are none left. */
  tryAllocate(
    owner: FrameOwner,
    count: number,
    {
      align = 1,
      below = this.#lowEnd,
      from = 0,
      highMemory = false,
      topDown = false,
    }: Placement = {},
  ): number | undefined {
    const start = topDown
      ? this.#findLast(count, align, from, below)
      : ((highMemory ? this.#find(count, align, this.#lowEnd, Infinity) : undefined) ??
        this.#find(count, align, ZONE_DMA_END, below) ??
        this.#find(count, align, 0, below))
    if (start === undefined) return undefined
    this.reserve(start, start + count)
    this.#memory.owners.set(start, start + count, owner)
    return start
  }

  /** Takes frames out of the free ranges, wherever they are in them. */
  reserve(start: number, end: number): void {
    if (end <= start) return
    const index = this.#free.findIndex((range) => range.end > start)
    if (index < 0) return
    const range = this.#free[index]!
    // Handing out from the front is by far the most frequent case.
    if (range.start === start && end < range.end) {
      range.start = end
      return
    }
    let next = index
    const rest: FrameRange[] = []
    for (; next < this.#free.length && this.#free[next]!.start < end; next++) {
      const free = this.#free[next]!
      if (free.start < start) rest.push({ start: free.start, end: start })
      if (free.end > end) rest.push({ start: end, end: free.end })
    }
    this.#free.splice(index, next - index, ...rest)
  }

  /** Takes `count` frames, or all that there are, out of the lowest free ranges from frame `from` on; where they were, in ascending order. */
  takeLowest(count: number, from: number): FrameRange[] {
    const taken: FrameRange[] = []
    const rest: FrameRange[] = []
    let left = count
    for (const free of this.#free) {
      const start = Math.max(free.start, from)
      const end = Math.min(free.end, start + left)
      if (end <= start) {
        rest.push(free)
        continue
      }
      taken.push({ start, end })
      if (free.start < start) rest.push({ start: free.start, end: start })
      if (free.end > end) rest.push({ start: end, end: free.end })
      left -= end - start
    }
    this.#free = rest
    return taken
  }

  /** Whether any RAM from frame `start` up to `end` (exclusive) is taken already (memblock_is_region_reserved()). */
  isReserved(start: number, end: number): boolean {
    return framesWithin(this.#free, start, end) < framesWithin(this.#ram, start, end)
  }

  /** Gives frames back, those that are RAM (memblock_free_late()). They keep their owner until somebody else gets them. */
  release(start: number, end: number): void {
    this.reserve(start, end)
    for (const ram of this.#ram) {
      if (ram.start >= end) break
      const back = { start: Math.max(ram.start, start), end: Math.min(ram.end, end) }
      if (back.start >= back.end) continue
      const next = this.#free.findIndex((range) => range.start > back.start)
      this.#free.splice(next < 0 ? this.#free.length : next, 0, back)
    }
  }

  #find(count: number, align: number, from: number, below: number): number | undefined {
    for (const range of this.#free) {
      const start = Math.ceil(Math.max(range.start, from) / align) * align
      if (start + count <= Math.min(range.end, below)) return start
    }
    return undefined
  }

  #findLast(count: number, align: number, from: number, below: number): number | undefined {
    for (const range of this.#free.toReversed()) {
      const start = Math.floor((Math.min(range.end, below) - count) / align) * align
      if (start >= Math.max(range.start, from)) return start
    }
    return undefined
  }
}

function copyOf(ranges: readonly Readonly<FrameRange>[]): FrameRange[] {
  return ranges.map(({ start, end }) => ({ start, end }))
}

/** How many frames of `ranges` lie from `start` up to `end` (exclusive). */
function framesWithin(ranges: readonly Readonly<FrameRange>[], start: number, end: number): number {
  return ranges.reduce(
    (sum, range) => sum + Math.max(0, Math.min(range.end, end) - Math.max(range.start, start)),
    0,
  )
}
