import { highHalf, lowHalf } from '../halves.ts'
import type { Rewind } from '../rewind.ts'

/** A translation that a processor holds: what the walk gave, at the time of the walk. */
export interface TlbEntry {
  /** Frame of 4 KiB that the page number translates to. */
  readonly frame: number
  /** The walker's rights: the AND of R/W and U/S, the OR of NX, and the protection key. */
  readonly rights: number
  readonly dirty: boolean
  readonly global: boolean
  /** Pages of 4 KiB in the page that it came from. */
  readonly pageFrames: number
  readonly patIndex: number
  /** Epoch of the page tables (see TableJournal) at the walk. */
  readonly epoch: number
}

/** A translation that is held, with where it belongs. */
export interface HeldTranslation extends TlbEntry {
  /** Bits 63 to 12 of the address. */
  readonly page: number
  /** The context whose walk gave it; global ones are good for all. */
  readonly pcid: number | undefined
}

/** Pages of 4 KiB that belong to large pages: by the frames of the large page, then by its number among those of its size. */
type Fragments = Map<number, Map<number, Set<number>>>

const NO_FRAGMENTS: Fragments = new Map()
const SLOTS = 256
/** How many translations a context keeps beside the front, far more than hardware has; the oldest go first. */
const EVICTED_CAPACITY = 65_536
const NO_TAG = -1

/**
 * A processor's TLB. It keeps every translation until something that the SDM names takes it away (Vol. 3, 4.10.4), however stale
 * it has become: hardware may keep that long, and software must not rely on luck. Large pages are held in fragments of 4 KiB, as the SDM allows.
 * A direct-mapped front answers fast; what it evicts goes to a map behind it.
 *
 * Each process-context identifier has a generation, which no other has, and all global translations share one. A translation is live while
 * its generation is its context's, so that dropping a context costs one number.
 */
export class Tlb {
  /** Fields of the entry that the last successful {@link find} found. */
  frame = 0
  rights = 0
  dirty = false
  epoch = 0

  // A page number has 52 bits: the low 32 are the first tag, the rest the second.
  // All columns lie in one buffer: a fork makes a TLB for each CPU.
  readonly #columns: ArrayBuffer = new ArrayBuffer(SLOTS * 28)
  readonly #frame: Float64Array = new Float64Array(this.#columns, 0, SLOTS)
  readonly #tagLow: Int32Array = new Int32Array(this.#columns, SLOTS * 8, SLOTS)
  readonly #tagHigh: Int32Array = new Int32Array(this.#columns, SLOTS * 12, SLOTS).fill(NO_TAG)
  readonly #generation: Int32Array = new Int32Array(this.#columns, SLOTS * 16, SLOTS)
  /** Bits 0 to 6 rights, 7 dirty, 8 to 10 PAT index, 11 and up pageFrames. */
  readonly #flags: Int32Array = new Int32Array(this.#columns, SLOTS * 20, SLOTS)
  readonly #epoch: Int32Array = new Int32Array(this.#columns, SLOTS * 24, SLOTS)
  /** By generation, then by page. */
  #evicted: Map<number, Map<number, TlbEntry>> = new Map()
  /** Pages in {@link #evicted} that are fragments, by generation; some of them may be gone. */
  #evictedFragments: Map<number, Fragments> = new Map()
  /** Whether fragments of a large page may be held. */
  #holdsFragments = false
  #pcid = 0
  /** Generations start at 1, so that an empty slot has none. */
  #lastGeneration = 2
  #globalGeneration = 1
  #current = 2
  #generations: Map<number, number> = new Map([[0, 2]])

  /** Remembers what is held at this moment. */
  checkpoint(): Rewind {
    const columns = new Uint8Array(this.#columns.slice())
    const evicted = copyOf(this.#evicted)
    const holdsFragments = this.#holdsFragments
    const pcid = this.#pcid
    const lastGeneration = this.#lastGeneration
    const globalGeneration = this.#globalGeneration
    const current = this.#current
    const generations = new Map(this.#generations)
    return () => {
      new Uint8Array(this.#columns).set(columns)
      this.#evicted = copyOf(evicted)
      this.#evictedFragments = fragmentsOf(evicted)
      this.#holdsFragments = holdsFragments
      this.#pcid = pcid
      this.#lastGeneration = lastGeneration
      this.#globalGeneration = globalGeneration
      this.#current = current
      this.#generations = new Map(generations)
    }
  }

  /** Whether a translation is held for the page of the address with these halves, in the current context; its fields are then in this object. */
  find(high: number, low: number): boolean {
    const tagLow = (high << 20) | (low >>> 12)
    const slot = tagLow & 255
    const generation = this.#generation[slot]!
    if (
      this.#tagLow[slot] === tagLow &&
      this.#tagHigh[slot] === high >>> 12 &&
      (generation === this.#current || generation === this.#globalGeneration)
    ) {
      const flags = this.#flags[slot]!
      this.frame = this.#frame[slot]!
      this.rights = flags & 0x7f
      this.dirty = (flags & 0x80) !== 0
      this.epoch = this.#epoch[slot]!
      return true
    }
    return this.#evicted.size !== 0 && this.#findEvicted(pageNumber(high, low))
  }

  /** Holds a translation for the page of the address with these halves in the current context, in place of the one held before. */
  insert(high: number, low: number, entry: TlbEntry): void {
    const tagLow = (high << 20) | (low >>> 12)
    const tagHigh = high >>> 12
    const slot = tagLow & (SLOTS - 1)
    const isOther = this.#tagLow[slot] !== tagLow || this.#tagHigh[slot] !== tagHigh
    if (this.#isLive(slot) && (isOther || !this.#isVisible(slot))) this.#keepEvicted(slot)
    if (this.#evicted.size > 0) this.#dropEvicted(pageNumber(high, low))
    this.#tagLow[slot] = tagLow
    this.#tagHigh[slot] = tagHigh
    this.#generation[slot] = entry.global ? this.#globalGeneration : this.#current
    this.#frame[slot] = entry.frame
    if (entry.pageFrames > 1) this.#holdsFragments = true
    this.#flags[slot] =
      entry.rights | (entry.dirty ? 0x80 : 0) | (entry.patIndex << 8) | (entry.pageFrames << 11)
    this.#epoch[slot] = entry.epoch
  }

  /** Notes that the entry for the address was compared with the page tables of this epoch. */
  markChecked(high: number, low: number, epoch: number): void {
    const slot = ((high << 20) | (low >>> 12)) & (SLOTS - 1)
    if (this.#isVisible(slot) && this.#slotPage(slot) === pageNumber(high, low)) {
      this.#epoch[slot] = epoch
      return
    }
    const page = pageNumber(high, low)
    for (const generation of [this.#current, this.#globalGeneration]) {
      const entries = this.#evicted.get(generation)
      const entry = entries?.get(page)
      if (entry !== undefined) entries?.set(page, { ...entry, epoch })
    }
  }

  /** The whole entry that is held for a 64-bit address in the current context, for an inspector. */
  peek(address: bigint): TlbEntry | undefined {
    const page = pageOf(address)
    const slot = (lowHalf(address) >>> 12) & (SLOTS - 1)
    if (this.#isVisible(slot) && this.#slotPage(slot) === page) return this.#slotEntry(slot)
    return (
      this.#evicted.get(this.#current)?.get(page) ??
      this.#evicted.get(this.#globalGeneration)?.get(page)
    )
  }

  /** Every translation held, of all contexts. */
  *held(): IterableIterator<HeldTranslation> {
    const pcids = new Map([...this.#generations].map(([pcid, generation]) => [generation, pcid]))
    for (let slot = 0; slot < SLOTS; slot++) {
      if (!this.#isLive(slot)) continue
      const pcid = pcids.get(this.#generation[slot]!)
      yield { ...this.#slotEntry(slot), page: this.#slotPage(slot), pcid }
    }
    for (const [generation, entries] of this.#evicted) {
      for (const [page, entry] of entries) yield { ...entry, page, pcid: pcids.get(generation) }
    }
  }

  /** Makes a process-context identifier the current one: its translations and the global ones are found from now on. */
  selectContext(pcid: number): void {
    let generation = this.#generations.get(pcid)
    if (generation === undefined) {
      generation = ++this.#lastGeneration
      this.#generations.set(pcid, generation)
    }
    this.#pcid = pcid
    this.#current = generation
  }

  /** Drops what is not global of one context: a MOV to CR3, or INVPCID type 1 (SDM Vol. 3, 4.10.4.1). */
  flushContext(pcid: number): void {
    const generation = this.#generations.get(pcid)
    if (generation === undefined) return
    this.#evicted.delete(generation)
    this.#evictedFragments.delete(generation)
    this.#generations.delete(pcid)
    if (pcid === this.#pcid) this.selectContext(pcid)
  }

  /** Drops what is not global of all contexts: INVPCID type 3. */
  flushNonGlobal(): void {
    for (const pcid of this.#generations.keys()) {
      if (pcid !== this.#pcid) this.flushContext(pcid)
    }
    this.flushContext(this.#pcid)
  }

  /** Drops the global translations. */
  flushGlobal(): void {
    this.#evicted.delete(this.#globalGeneration)
    this.#evictedFragments.delete(this.#globalGeneration)
    this.#globalGeneration = ++this.#lastGeneration
  }

  /** Drops everything: a change of CR4.PGE, INVPCID type 2. */
  flushAll(): void {
    this.flushNonGlobal()
    this.flushGlobal()
    this.#holdsFragments = false
  }

  /**
   * Drops the translations of the page that holds an address, in the current context and global ones: INVLPG. Of a large page all
   * fragments go, whether the one at the address is held or not (SDM Vol. 3, 4.10.4.1).
   */
  invalidatePage(address: bigint): void {
    this.invalidateHalves(highHalf(address), lowHalf(address))
  }

  /** {@link invalidatePage} of the address with these signed halves. */
  invalidateHalves(high: number, low: number): void {
    this.#invalidate(high, low, this.#current, this.#globalGeneration)
  }

  /** Drops the translations of the page that holds an address in one context, global ones excepted: INVPCID type 0. */
  invalidatePageOf(pcid: number, address: bigint): void {
    const generation = this.#generations.get(pcid)
    if (generation === undefined) return
    this.#invalidate(highHalf(address), lowHalf(address), generation, generation)
  }

  /** Number of translations held, of all contexts. */
  get size(): number {
    let size = 0
    for (const entries of this.#evicted.values()) size += entries.size
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#isLive(slot)) size++
    }
    return size
  }

  #findEvicted(page: number): boolean {
    const entry =
      this.#evicted.get(this.#current)?.get(page) ??
      this.#evicted.get(this.#globalGeneration)?.get(page)
    if (entry === undefined) return false
    this.frame = entry.frame
    this.rights = entry.rights
    this.dirty = entry.dirty
    this.epoch = entry.epoch
    return true
  }

  #keepEvicted(slot: number): void {
    const generation = this.#generation[slot]!
    let entries = this.#evicted.get(generation)
    if (entries === undefined) {
      entries = new Map()
      this.#evicted.set(generation, entries)
    }
    if (entries.size >= EVICTED_CAPACITY) {
      for (const oldest of entries.keys()) {
        entries.delete(oldest)
        break
      }
    }
    const page = this.#slotPage(slot)
    const entry = this.#slotEntry(slot)
    entries.set(page, entry)
    if (entry.pageFrames > 1)
      addFragment(this.#evictedFragments, generation, page, entry.pageFrames)
  }

  #dropEvicted(page: number): void {
    this.#evicted.get(this.#current)?.delete(page)
    this.#evicted.get(this.#globalGeneration)?.delete(page)
  }

  /** Whether a slot holds a translation of a context that still has its generation. */
  #isLive(slot: number): boolean {
    if (this.#tagHigh[slot] === NO_TAG) return false
    if (this.#isVisible(slot)) return true
    for (const generation of this.#generations.values()) {
      if (generation === this.#generation[slot]) return true
    }
    return false
  }

  /** Whether a slot holds a translation of the current context or a global one. */
  #isVisible(slot: number): boolean {
    const generation = this.#generation[slot]
    return (
      this.#tagHigh[slot] !== NO_TAG &&
      (generation === this.#current || generation === this.#globalGeneration)
    )
  }

  /** Drops what is held of a page, as {@link invalidatePage}, in one or two generations. */
  #invalidate(high: number, low: number, generation: number, other: number): void {
    const tagLow = (high << 20) | (low >>> 12)
    const tagHigh = high >>> 12
    const slots = this.#holdsFragments ? SLOTS : 1
    let slot = this.#holdsFragments ? 0 : tagLow & (SLOTS - 1)
    for (let count = 0; count < slots; count++, slot++) {
      const held = this.#generation[slot]!
      if ((held !== generation && held !== other) || this.#tagHigh[slot] !== tagHigh) continue
      // Sizes are powers of two, and an address of a page shares all bits but the lowest with the others.
      const frames = this.#flags[slot]! >>> 11
      if (((this.#tagLow[slot]! ^ tagLow) & -frames) === 0) this.#tagHigh[slot] = NO_TAG
    }
    if (this.#evicted.size === 0) return
    const page = pageNumber(high, low)
    this.#invalidateEvicted(page, generation)
    if (other !== generation) this.#invalidateEvicted(page, other)
  }

  #invalidateEvicted(page: number, generation: number): void {
    const evicted = this.#evicted.get(generation)
    if (evicted === undefined) return
    evicted.delete(page)
    for (const [frames, largePages] of this.#evictedFragments.get(generation) ?? NO_FRAGMENTS) {
      const number = Math.floor(page / frames)
      const pages = largePages.get(number)
      if (pages === undefined) continue
      for (const held of pages) {
        if (evicted.get(held)?.pageFrames === frames) evicted.delete(held)
      }
      largePages.delete(number)
    }
  }

  #slotPage(slot: number): number {
    return this.#tagHigh[slot]! * 2 ** 32 + (this.#tagLow[slot]! >>> 0)
  }

  #slotEntry(slot: number): TlbEntry {
    const flags = this.#flags[slot]!
    return {
      frame: this.#frame[slot]!,
      rights: flags & 0x7f,
      dirty: (flags & 0x80) !== 0,
      global: this.#generation[slot] === this.#globalGeneration,
      patIndex: (flags >>> 8) & 7,
      pageFrames: flags >>> 11,
      epoch: this.#epoch[slot]!,
    }
  }
}

function copyOf(evicted: Map<number, Map<number, TlbEntry>>): Map<number, Map<number, TlbEntry>> {
  const copy = new Map<number, Map<number, TlbEntry>>()
  for (const [generation, entries] of evicted) copy.set(generation, new Map(entries))
  return copy
}

/** The page number (bits 63 to 12) of the low 64 bits of an address. */
function pageOf(address: bigint): number {
  return pageNumber(highHalf(address), lowHalf(address))
}

/** The page number (bits 63 to 12) of an address, exact as a number. */
function pageNumber(high: number, low: number): number {
  return (high >>> 0) * 0x10_0000 + (low >>> 12)
}

/** Files a fragment of a large page under that page. */
function addFragment(
  all: Map<number, Fragments>,
  generation: number,
  page: number,
  frames: number,
): void {
  let sizes = all.get(generation)
  if (sizes === undefined) {
    sizes = new Map()
    all.set(generation, sizes)
  }
  let largePages = sizes.get(frames)
  if (largePages === undefined) {
    largePages = new Map()
    sizes.set(frames, largePages)
  }
  const number = Math.floor(page / frames)
  const pages = largePages.get(number)
  if (pages === undefined) largePages.set(number, new Set([page]))
  else pages.add(page)
}

/** The fragments among translations, by generation. */
function fragmentsOf(
  evicted: ReadonlyMap<number, ReadonlyMap<number, TlbEntry>>,
): Map<number, Fragments> {
  const all = new Map<number, Fragments>()
  for (const [generation, entries] of evicted) {
    for (const [page, { pageFrames }] of entries) {
      if (pageFrames > 1) addFragment(all, generation, page, pageFrames)
    }
  }
  return all
}
