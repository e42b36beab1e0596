/** A translation that a processor holds: what the walk gave, at the time of the walk. */
export interface TlbEntry {
  /** Frame of 4 KiB that the page number translates to. */
  readonly frame: number
  /** The walker's rights: the AND of R/W and U/S, the OR of NX. */
  readonly rights: number
  readonly dirty: boolean
  readonly global: boolean
  /** Pages of 4 KiB in the page that it came from. */
  readonly pageFrames: number
  readonly patIndex: number
}

const SLOTS = 256
/** How many translations are kept beside the front, far more than hardware has; the oldest go first. */
const EVICTED_CAPACITY = 65_536
const NO_TAG = -1

/**
 * A processor's TLB. It keeps every translation until something that the SDM names takes it away (Vol. 3, 4.10.4), however stale
 * it has become: hardware may keep that long, and software must not rely on luck. Large pages are held in fragments of 4 KiB, as the SDM allows.
 * A direct-mapped front answers fast; what it evicts goes to a map behind it.
 */
export class Tlb {
  /** Fields of the entry that the last successful {@link find} found. */
  frame = 0
  rights = 0
  dirty = false

  // A page number has 52 bits: the low 32 are the tag, the rest and the generation the second tag.
  // All five columns lie in one buffer: a fork makes a TLB for each CPU.
  readonly #columns: ArrayBuffer = new ArrayBuffer(SLOTS * 24)
  readonly #frame: Float64Array = new Float64Array(this.#columns, 0, SLOTS)
  readonly #tagLow: Int32Array = new Int32Array(this.#columns, SLOTS * 8, SLOTS)
  readonly #tagHigh: Int32Array = new Int32Array(this.#columns, SLOTS * 12, SLOTS).fill(NO_TAG)
  readonly #generation: Int32Array = new Int32Array(this.#columns, SLOTS * 16, SLOTS)
  /** Bits 0 to 2 rights, 3 dirty, 4 global, 5 to 7 PAT index, 8 and up pageFrames. */
  readonly #flags: Int32Array = new Int32Array(this.#columns, SLOTS * 20, SLOTS)
  readonly #evicted: Map<number, TlbEntry> = new Map()
  /** Whether fragments of a large page may be held. */
  #holdsFragments = false
  #localGeneration = 0
  #globalGeneration = 0

  /** Whether a translation is held for the page of the address with these halves; its fields are then in this object. */
  find(high: number, low: number): boolean {
    const tagLow = (high << 20) | (low >>> 12)
    const slot = tagLow & (SLOTS - 1)
    if (this.#tagLow[slot] === tagLow && this.#tagHigh[slot] === high >>> 12 && this.#live(slot)) {
      const flags = this.#flags[slot]!
      this.frame = this.#frame[slot]!
      this.rights = flags & 7
      this.dirty = (flags & 8) !== 0
      return true
    }
    if (this.#evicted.size === 0) return false
    const entry = this.#evicted.get(pageNumber(high, low))
    if (entry === undefined) return false
    this.frame = entry.frame
    this.rights = entry.rights
    this.dirty = entry.dirty
    return true
  }

  /** Holds a translation for the page of the address with these halves, in place of the one held before. */
  insert(high: number, low: number, entry: TlbEntry): void {
    const tagLow = (high << 20) | (low >>> 12)
    const tagHigh = high >>> 12
    const slot = tagLow & (SLOTS - 1)
    if (
      this.#tagHigh[slot] !== NO_TAG &&
      this.#live(slot) &&
      (this.#tagLow[slot] !== tagLow || this.#tagHigh[slot] !== tagHigh)
    ) {
      this.#keepEvicted(slot)
    }
    if (this.#evicted.size > 0) this.#evicted.delete(pageNumber(high, low))
    this.#tagLow[slot] = tagLow
    this.#tagHigh[slot] = tagHigh
    this.#generation[slot] = entry.global ? this.#globalGeneration : this.#localGeneration
    this.#frame[slot] = entry.frame
    if (entry.pageFrames > 1) this.#holdsFragments = true
    this.#flags[slot] =
      entry.rights |
      (entry.dirty ? 8 : 0) |
      (entry.global ? 16 : 0) |
      (entry.patIndex << 5) |
      (entry.pageFrames << 8)
  }

  /** The whole entry that is held for a 64-bit address, for an inspector. */
  peek(address: bigint): TlbEntry | undefined {
    const high = Number(BigInt.asUintN(32, address >> 32n)) | 0
    const low = Number(BigInt.asUintN(32, address)) | 0
    const tagLow = (high << 20) | (low >>> 12)
    const slot = tagLow & (SLOTS - 1)
    if (this.#tagLow[slot] === tagLow && this.#tagHigh[slot] === high >>> 12 && this.#live(slot)) {
      return this.#slotEntry(slot)
    }
    return this.#evicted.get(pageNumber(high, low))
  }

  /** Drops what is not global: a MOV to CR3 (SDM Vol. 3, 4.10.4.1). */
  flushNonGlobal(): void {
    this.#localGeneration++
    for (const [page, entry] of this.#evicted) {
      if (!entry.global) this.#evicted.delete(page)
    }
  }

  /** Drops everything: a change of CR4.PGE, or SMEP set. */
  flushAll(): void {
    this.#localGeneration++
    this.#globalGeneration++
    this.#evicted.clear()
    this.#holdsFragments = false
  }

  /**
   * Drops the translations of the page that holds an address, global or not: INVLPG. Of a large page all fragments go, whether the
   * one at the address is held or not (SDM Vol. 3, 4.10.4.1).
   */
  invalidatePage(address: bigint): void {
    const high = Number(BigInt.asUintN(32, address >> 32n)) | 0
    const low = Number(BigInt.asUintN(32, address)) | 0
    if (this.#holdsFragments) this.#dropFragments(pageNumber(high, low))
    this.#drop(high, low)
  }

  /** Number of translations held. */
  get size(): number {
    let size = this.#evicted.size
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#tagHigh[slot] !== NO_TAG && this.#live(slot)) size++
    }
    return size
  }

  #keepEvicted(slot: number): void {
    if (this.#evicted.size >= EVICTED_CAPACITY) {
      for (const oldest of this.#evicted.keys()) {
        this.#evicted.delete(oldest)
        break
      }
    }
    this.#evicted.set(this.#slotPage(slot), this.#slotEntry(slot))
  }

  #live(slot: number): boolean {
    const global = (this.#flags[slot]! & 16) !== 0
    return this.#generation[slot] === (global ? this.#globalGeneration : this.#localGeneration)
  }

  #drop(high: number, low: number): void {
    const tagLow = (high << 20) | (low >>> 12)
    const slot = tagLow & (SLOTS - 1)
    if (this.#tagLow[slot] === tagLow && this.#tagHigh[slot] === high >>> 12) {
      this.#tagHigh[slot] = NO_TAG
    }
    this.#evicted.delete(pageNumber(high, low))
  }

  /** Drops every entry that comes from a large page around `page`. */
  #dropFragments(page: number): void {
    const covers = (held: number, frames: number): boolean =>
      frames > 1 && Math.floor(held / frames) === Math.floor(page / frames)
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#tagHigh[slot] === NO_TAG) continue
      if (covers(this.#slotPage(slot), this.#flags[slot]! >>> 8)) this.#tagHigh[slot] = NO_TAG
    }
    for (const [held, { pageFrames }] of this.#evicted) {
      if (covers(held, pageFrames)) this.#evicted.delete(held)
    }
  }

  #slotPage(slot: number): number {
    return this.#tagHigh[slot]! * 2 ** 32 + (this.#tagLow[slot]! >>> 0)
  }

  #slotEntry(slot: number): TlbEntry {
    const flags = this.#flags[slot]!
    return {
      frame: this.#frame[slot]!,
      rights: flags & 7,
      dirty: (flags & 8) !== 0,
      global: (flags & 16) !== 0,
      patIndex: (flags >>> 5) & 7,
      pageFrames: flags >>> 8,
    }
  }
}

/** The page number (bits 63 to 12) of an address, exact as a number. */
function pageNumber(high: number, low: number): number {
  return (high >>> 0) * 0x10_0000 + (low >>> 12)
}
