import {
  AccessBit,
  type AccessControls,
  accessErrorBits,
  ErrorBit,
  keyDenies,
  rightsPermit,
} from './access-rights.ts'
import {
  type EntryFormat,
  type EntryName,
  largePageAllowed,
  reservedBits,
} from './reserved-bits.ts'

/** Everything but entries and access that the outcome of a translation depends on. */
export interface TranslationState extends EntryFormat, AccessControls {
  /**
   * When the accessed flags of entries above a fault are set: as they are used, or together when the access succeeds. SDM Vol. 3, 4.8 leaves it to
   * the processor.
   */
  readonly accessedFlags: 'lazy' | 'eager'
}

/** The entries on the way of one linear address, root first, as signed 32-bit halves. */
export class Path {
  readonly low: Int32Array = new Int32Array(5)
  readonly high: Int32Array = new Int32Array(5)

  copy(other: Path): void {
    for (let depth = 0; depth < 5; depth++) {
      this.low[depth] = other.low[depth]!
      this.high[depth] = other.high[depth]!
    }
  }

  set(depth: number, low: number, high: number): void {
    this.low[depth] = low
    this.high[depth] = high
  }
}

/** How a linear address is cut up: SDM Vol. 3, figures 4-2 (32-bit), 4-5 (PAE), 4-8 (4-level), and 4.5.3 (5-level). */
export const STRUCTURE_LEVELS: Readonly<
  Record<EntryFormat['structure'], readonly { readonly name: EntryName; readonly shift: number }[]>
> = {
  '32-bit': [
    { name: 'PDE', shift: 22 },
    { name: 'PTE', shift: 12 },
  ],
  PAE: [
    { name: 'PDPTE', shift: 30 },
    { name: 'PDE', shift: 21 },
    { name: 'PTE', shift: 12 },
  ],
  '4-level': [
    { name: 'PML4E', shift: 39 },
    { name: 'PDPTE', shift: 30 },
    { name: 'PDE', shift: 21 },
    { name: 'PTE', shift: 12 },
  ],
  '5-level': [
    { name: 'PML5E', shift: 48 },
    { name: 'PML4E', shift: 39 },
    { name: 'PDPTE', shift: 30 },
    { name: 'PDE', shift: 21 },
    { name: 'PTE', shift: 12 },
  ],
}

/** A level with what the state makes of its entries. */
interface Level {
  readonly shift: number
  readonly mapsAlways: boolean
  readonly mapsWithPS: boolean
  readonly tableReservedLow: number
  readonly tableReservedHigh: number
  readonly leafReservedLow: number
  readonly leafReservedHigh: number
  /** The PDPTEs of PAE paging have neither access rights nor an accessed flag (4.4.1). */
  readonly plain: boolean
}

/** {@link TranslationOracle.predict} returns it for an access that succeeds. */
export const NO_FAULT = -1

const P = 1
const RW = 2
const US = 4
const PS = 0x80
const A = 0x20
const D = 0x40

/** Says how an access through given entries ends in one state. Its fields describe the last prediction. */
export class TranslationOracle {
  readonly state: TranslationState
  /** The 4-KByte frame reached. */
  frame = 0
  /** Depths whose accessed flag the access sets, as bits. */
  accessed = 0
  /** The depth of the entry whose dirty flag it sets, or -1. */
  dirtyDepth = -1
  readonly #levels: readonly Level[]
  readonly #page: { writable: boolean; userAddress: boolean; executable: boolean; key: number }
  readonly #pse36Mask: number

  constructor(state: TranslationState) {
    this.state = state
    this.#page = { writable: true, userAddress: true, executable: true, key: 0 }
    this.#levels = STRUCTURE_LEVELS[state.structure].map(({ name, shift }) => {
      const table = reservedBits(state, name, false)
      const leaf = reservedBits(state, name, true)
      return {
        shift,
        mapsAlways: name === 'PTE',
        mapsWithPS: largePageAllowed(state, name),
        tableReservedLow: table.low,
        tableReservedHigh: table.high,
        leafReservedLow: leaf.low,
        leafReservedHigh: leaf.high,
        plain: state.structure === 'PAE' && name === 'PDPTE',
      }
    })
    this.#pse36Mask = (1 << (Math.min(state.physicalAddressBits, 40) - 32)) - 1
  }

  /** The error code of the page fault that the access ends in, or {@link NO_FAULT}. */
  predict(path: Path, linearLow: number, access: number): number {
    const { state } = this
    const eager = state.accessedFlags === 'eager'
    const page = this.#page
    page.writable = true
    page.userAddress = true
    page.executable = true
    this.accessed = 0
    this.dirtyDepth = -1
    let used = 0
    for (let depth = 0; depth < this.#levels.length; depth++) {
      const level = this.#levels[depth]!
      const low = path.low[depth]!
      const high = path.high[depth]!
      // 4.7: a reserved bit is looked at only where P is 1, and in the order of the walk.
      if ((low & P) === 0) return accessErrorBits(state, access)
      const leaf = level.mapsAlways || (level.mapsWithPS && (low & PS) !== 0)
      const reservedLow = leaf ? level.leafReservedLow : level.tableReservedLow
      const reservedHigh = leaf ? level.leafReservedHigh : level.tableReservedHigh
      if ((low & reservedLow) !== 0 || (high & reservedHigh) !== 0)
        return accessErrorBits(state, access) | ErrorBit.P | ErrorBit.RSVD
      if (!level.plain) {
        if ((low & RW) === 0) page.writable = false
        if ((low & US) === 0) page.userAddress = false
        if (high < 0) page.executable = false
        used |= 1 << depth
      }
      if (leaf) return this.#finish(low, high, level.shift, linearLow, access, depth, used)
      if (eager) this.accessed = used
    }
    throw new Error('the last level maps a page always')
  }

  #finish(
    low: number,
    high: number,
    shift: number,
    linearLow: number,
    access: number,
    depth: number,
    used: number,
  ): number {
    const { state } = this
    const page = this.#page
    page.key = (high >>> 27) & 15
    const denied = keyDenies(state, access, page)
    if (denied || !rightsPermit(state, access, page))
      return accessErrorBits(state, access) | ErrorBit.P | (denied ? ErrorBit.PK : 0)
    // 4.8: accessed in every entry used, dirty in the one that maps the page, on a write.
    this.accessed = used
    if ((access & AccessBit.Write) !== 0) this.dirtyDepth = depth
    this.frame = this.#frameOf(low, high, shift, linearLow)
    return NO_FAULT
  }

  /** Tables 4-4 to 4-6, 4-9, 4-11, 4-16, 4-18, 4-20: the address bits above the page offset come from the entry, the rest from the linear address. */
  #frameOf(low: number, high: number, shift: number, linearLow: number): number {
    const offsetFrames = (1 << (shift - 12)) - 1
    const inPage = (linearLow >>> 12) & offsetFrames
    const above4G =
      this.state.structure === '32-bit'
        ? shift === 22
          ? (low >>> 13) & this.#pse36Mask & 0xff
          : 0
        : high & 0xf_ffff
    return above4G * 0x10_0000 + (((low >>> 12) & ~offsetFrames) | inPage)
  }

  /** Writes the flags of the last prediction into `path`. */
  mark(path: Path): void {
    for (let depth = 0; depth < this.#levels.length; depth++)
      if (((this.accessed >>> depth) & 1) !== 0) path.low[depth] = path.low[depth]! | A
    if (this.dirtyDepth >= 0) path.low[this.dirtyDepth] = path.low[this.dirtyDepth]! | D
  }
}
