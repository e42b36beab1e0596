/** Who a physical frame belongs to. `kernel` counts page-cache and other memory in use; `free` is the kernel's to hand out. */
export interface FrameOwner {
  readonly kind: 'firmware' | 'kernel' | 'free' | 'device'
  /** A name that a finding can print, such as "VariableRuntimeDxe" or "page cache". */
  readonly name: string
}

/** Owners of frames, kept as sorted intervals, so that cost grows with the number of owners and not with memory. */
export class OwnerMap {
  // Interval i runs from #starts[i] up to #starts[i + 1], which is exclusive; frames below #starts[0] have no owner.
  #starts: number[]
  #owners: (FrameOwner | undefined)[]
  #shared: boolean

  constructor() {
    this.#starts = []
    this.#owners = []
    this.#shared = false
  }

  /** An equal map; a later change to either does not show in the other. */
  fork(): OwnerMap {
    const copy = new OwnerMap()
    copy.#starts = this.#starts
    copy.#owners = this.#owners
    copy.#shared = true
    this.#shared = true
    return copy
  }

  /** Gives frames `start` up to `end` (exclusive) to `owner`; undefined takes them from whoever has them. */
  set(start: number, end: number, owner: FrameOwner | undefined): void {
    if (end <= start) return
    if (this.#shared) {
      this.#starts = this.#starts.slice()
      this.#owners = this.#owners.slice()
      this.#shared = false
    }
    const first = this.#lowerBound(start)
    const last = this.#lowerBound(end)
    const before = first > 0 ? this.#owners[first - 1] : undefined
    const endsOnBoundary = this.#starts[last] === end
    const after = endsOnBoundary
      ? this.#owners[last]
      : last > 0
        ? this.#owners[last - 1]
        : undefined
    const removed = last - first + (endsOnBoundary ? 1 : 0)
    const begins = owner !== before
    const ends = after !== owner
    const added = (begins ? 1 : 0) + (ends ? 1 : 0)
    this.#resize(first, removed, added)
    let at = first
    if (begins) {
      this.#starts[at] = start
      this.#owners[at++] = owner
    }
    if (ends) {
      this.#starts[at] = end
      this.#owners[at] = after
    }
  }

  /** Makes room for `added` boundaries in place of `removed` ones, from `first` on. */
  #resize(first: number, removed: number, added: number): void {
    const starts = this.#starts
    const owners = this.#owners
    const more = added - removed
    const { length } = starts
    // Element by element: copyWithin and splice of arrays cost several times as much.
    if (more > 0) {
      for (let index = 0; index < more; index++) {
        starts.push(0)
        owners.push(undefined)
      }
      for (let index = length - 1; index >= first + removed; index--) {
        starts[index + more] = starts[index]!
        owners[index + more] = owners[index]
      }
    } else if (more < 0) {
      for (let index = first + removed; index < length; index++) {
        starts[index + more] = starts[index]!
        owners[index + more] = owners[index]
      }
      starts.length = length + more
      owners.length = length + more
    }
  }

  /** The owner of one frame. */
  get(frame: number): FrameOwner | undefined {
    const index = this.#lowerBound(frame + 1) - 1
    return index < 0 ? undefined : this.#owners[index]
  }

  /** Every owned interval in ascending order; `end` is exclusive, both in frames. */
  *intervals(): IterableIterator<{ start: number; end: number; owner: FrameOwner }> {
    for (let index = 0; index < this.#starts.length; index++) {
      const owner = this.#owners[index]
      if (owner === undefined) continue
      yield { start: this.#starts[index]!, end: this.#starts[index + 1] ?? Infinity, owner }
    }
  }

  /** Index of the first interval that starts at `frame` or later. */
  #lowerBound(frame: number): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#starts[middle]! < frame) low = middle + 1
      else high = middle
    }
    return low
  }
}
