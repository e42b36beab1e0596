import type { AccessOrigin, Cpu, PhysicalMemory } from '@trapdoor/core'
import { join } from './halves.ts'
import { StatusFlags } from './status-flags.ts'

/** A page that accesses may go to at once, until somebody says otherwise. */
interface Window {
  /** Halves of the linear address of the page. */
  high: number
  low: number
  frame: number
  words: Int32Array
  /** Index in `words` at which the page begins. */
  base: number
}

/** Told of an access to memory: its kind, and the linear address of its first byte. */
export type AccessTracer = (access: 'read' | 'write', address: bigint) => void

/** What accesses of one privilege go through: the others may be refused what these are not. */
interface WindowSet {
  readonly reads: Window[]
  readonly writes: Window[]
  readonly codePages: Window[]
}

const WINDOWS = 256
/** Windows that were filled and dropped for their frame are filled again: the list of them is cut when it has this length. */
const FILLED_LIMIT = 4096
/** The high half of an address that no access has: it is canonical nowhere. */
export const NOWHERE = 0x5aa5_5aa5
const NO_WORDS: Int32Array = new Int32Array(0)
const DATA: AccessOrigin = {}
const ON_STACK: AccessOrigin = { stack: true }

/**
 * Loads and stores of machine code: what an access costs is decided here. Each kind of access has windows, which say where the words of a page are. They are filled by core's MMU and dropped
 * whenever core says that something may have changed, so that an access through a window is one that the TLB would have answered, by an entry that is neither stale nor lacks its accessed
 * and dirty flags. Such accesses are not in core's counters: for machine code, `tlbHits` counts the pages that had to be looked up again. Pages of devices, of page tables (for writes), of code that was decoded (for writes), and all pages while every access is recorded have no windows.
 *
 * Addresses are signed halves. A 64-bit load returns the low half and leaves the high one in `high`.
 */
export abstract class DataAccess extends StatusFlags {
  readonly cpu: Cpu
  protected readonly memory: PhysicalMemory
  #reads: Window[] = newWindows()
  #writes: Window[] = newWindows()
  /** For stores to pages that hold code: asked after the others, and the bytes have to be asked for. */
  #codePages: Window[] = newWindows()
  readonly #supervisors: WindowSet = {
    reads: this.#reads,
    writes: this.#writes,
    codePages: this.#codePages,
  }
  /** Those of privilege level 3, once there is somebody. */
  #users: WindowSet | undefined
  readonly #filled: Window[] = []
  #accessTracer: AccessTracer | undefined

  constructor(cpu: Cpu) {
    super()
    this.cpu = cpu
    this.memory = cpu.machine.memory
  }

  /** Told before each load and each store of machine code, while it is set. */
  get accessTracer(): AccessTracer | undefined {
    return this.#accessTracer
  }

  set accessTracer(value: AccessTracer | undefined) {
    this.#accessTracer = value
    this.dropWindows()
  }

  /** Whether any of the bytes `start` up to `end` (exclusive) of a frame was decoded. */
  protected abstract isDecoded(frame: number, start: number, end: number): boolean

  /** Whether the instruction that is carried out addresses its memory operand by SS. */
  protected abstract get usesStackSegment(): boolean

  load8(high: number, low: number): number {
    const window = this.#reads[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high) {
      return (window.words[window.base + ((low & 4095) >>> 2)]! >>> ((low & 3) << 3)) & 0xff
    }
    return this.#load(high, low, 1, this.#reads) & 0xff
  }

  load16(high: number, low: number): number {
    const window = this.#reads[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 1) === 0) {
      return (window.words[window.base + ((low & 4095) >>> 2)]! >>> ((low & 3) << 3)) & 0xffff
    }
    return this.#load(high, low, 2, this.#reads) & 0xffff
  }

  /** A signed value. */
  load32(high: number, low: number): number {
    const window = this.#reads[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 3) === 0) {
      return window.words[window.base + ((low & 4095) >>> 2)]!
    }
    return this.#load(high, low, 4, this.#reads)
  }

  load64(high: number, low: number): number {
    const window = this.#reads[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 7) === 0) {
      const at = window.base + ((low & 4095) >>> 2)
      this.high = window.words[at + 1]!
      return window.words[at]!
    }
    return this.#load(high, low, 8, this.#reads)
  }

  /** A load by an instruction that will store to the same place: it needs the right to write, and a fault says so. */
  loadToModify8(high: number, low: number): number {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high) {
      return (window.words[window.base + ((low & 4095) >>> 2)]! >>> ((low & 3) << 3)) & 0xff
    }
    return this.#load(high, low, 1, this.#writes) & 0xff
  }

  loadToModify16(high: number, low: number): number {
    return this.#load(high, low, 2, this.#writes) & 0xffff
  }

  loadToModify32(high: number, low: number): number {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 3) === 0) {
      return window.words[window.base + ((low & 4095) >>> 2)]!
    }
    return this.#load(high, low, 4, this.#writes)
  }

  loadToModify64(high: number, low: number): number {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 7) === 0) {
      const at = window.base + ((low & 4095) >>> 2)
      this.high = window.words[at + 1]!
      return window.words[at]!
    }
    return this.#load(high, low, 8, this.#writes)
  }

  /** {@link loadToModify8} and so on, by size: unsigned but for 32 bits. */
  loadToModify(high: number, low: number, size: 1 | 2 | 4): number {
    if (size === 4) return this.loadToModify32(high, low)
    return size === 1 ? this.loadToModify8(high, low) : this.loadToModify16(high, low)
  }

  /** {@link store8} and so on, by size. */
  store(high: number, low: number, size: 1 | 2 | 4, value: number): void {
    if (size === 4) this.store32(high, low, value)
    else if (size === 1) this.store8(high, low, value)
    else this.store16(high, low, value)
  }

  store8(high: number, low: number, value: number): void {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high) {
      const { words } = window
      const at = window.base + ((low & 4095) >>> 2)
      const shift = (low & 3) << 3
      words[at] = (words[at]! & ~(0xff << shift)) | ((value & 0xff) << shift)
      return
    }
    this.#store(high, low, 1, value, 0)
  }

  store16(high: number, low: number, value: number): void {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 1) === 0) {
      const { words } = window
      const at = window.base + ((low & 4095) >>> 2)
      const shift = (low & 3) << 3
      words[at] = (words[at]! & ~(0xffff << shift)) | ((value & 0xffff) << shift)
      return
    }
    this.#store(high, low, 2, value, 0)
  }

  store32(high: number, low: number, value: number): void {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 3) === 0) {
      window.words[window.base + ((low & 4095) >>> 2)] = value
      return
    }
    this.#store(high, low, 4, value, 0)
  }

  store64(high: number, low: number, value: number, valueHigh: number): void {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 7) === 0) {
      const { words } = window
      const at = window.base + ((low & 4095) >>> 2)
      words[at] = value
      words[at + 1] = valueHigh
      return
    }
    this.#store(high, low, 8, value, valueHigh)
  }

  /** {@link load64} from the stack: an address that is not canonical is #SS. */
  loadStack64(high: number, low: number): number {
    const window = this.#reads[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 7) === 0) {
      const at = window.base + ((low & 4095) >>> 2)
      this.high = window.words[at + 1]!
      return window.words[at]!
    }
    return this.#load(high, low, 8, this.#reads, ON_STACK)
  }

  storeStack64(high: number, low: number, value: number, valueHigh: number): void {
    const window = this.#writes[(low >>> 12) & 255]!
    if (window.low === (low & -4096) && window.high === high && (low & 7) === 0) {
      const { words } = window
      const at = window.base + ((low & 4095) >>> 2)
      words[at] = value
      words[at + 1] = valueHigh
      return
    }
    this.#store(high, low, 8, value, valueHigh, ON_STACK)
  }

  /** {@link load32} or {@link load16} from the stack. */
  loadStack(high: number, low: number, size: 2 | 4): number {
    const value = this.#load(high, low, size, this.#reads, ON_STACK)
    return size === 2 ? value & 0xffff : value
  }

  storeStack(high: number, low: number, size: 2 | 4, value: number): void {
    this.#store(high, low, size, value, 0, ON_STACK)
  }

  /** The bytes of the page that an address lies in, for bulk work within it; undefined where accesses have to go one by one. Raises what an access to the address raises. They are good until the next access. */
  pageBytes(high: number, low: number, access: 'read' | 'write'): Uint8Array | undefined {
    const window = this.#open(high, low, access === 'read' ? this.#reads : this.#writes)
    if (window === undefined) return undefined
    const { words, base } = window
    return new Uint8Array(words.buffer, words.byteOffset + base * 4, 4096)
  }

  protected dropWindows(): void {
    for (const window of this.#filled) window.high = NOWHERE
    this.#filled.length = 0
  }

  /** Drops the windows of pages in the same GiB as an address: no page is larger. */
  protected dropAround(high: number, low: number): void {
    const filled = this.#filled
    let kept = 0
    for (const window of filled) {
      if (window.high === high && (window.low ^ low) >>> 30 === 0) window.high = NOWHERE
      else filled[kept++] = window
    }
    filled.length = kept
  }

  /** Goes on with the windows of users, or of supervisors. */
  protected selectWindows({ isUser }: { readonly isUser: boolean }): void {
    const set = isUser ? (this.#users ??= newWindowSet()) : this.#supervisors
    this.#reads = set.reads
    this.#writes = set.writes
    this.#codePages = set.codePages
  }

  protected dropFrame(frame: number): void {
    for (const window of this.#filled) {
      if (window.frame === frame) window.high = NOWHERE
    }
  }

  #load(
    high: number,
    low: number,
    size: 1 | 2 | 4 | 8,
    windows: Window[],
    origin?: AccessOrigin,
  ): number {
    if (this.#accessTracer !== undefined) this.#accessTracer('read', join(high, low))
    const offset = low & 4095
    if (offset + size > 4096) return this.#loadAcross(high, low, size, windows, origin)
    const window = this.#open(high, low, windows, origin)
    if (window !== undefined) {
      const { words, base } = window
      const at = base + (offset >>> 2)
      const shift = (low & 3) << 3
      if (shift === 0) {
        if (size === 8) this.high = words[at + 1]!
        return words[at]!
      }
      // Bits that lie in the next word; there is none where the bytes end before it.
      const carried = offset + size > (offset & ~3) + 4 ? words[at + 1]! << (32 - shift) : 0
      if (size === 8) this.high = (words[at + 1]! >>> shift) | (words[at + 2]! << (32 - shift))
      return (words[at]! >>> shift) | carried
    }
    const { cpu, memory } = this
    const physical = cpu.translate(
      join(high, low),
      windows === this.#writes ? 'write' : 'read',
      origin ?? this.#dataOrigin,
    )
    if (windows === this.#writes && cpu.recordsEveryAccess) {
      cpu.translate(join(high, low), 'read', origin ?? this.#dataOrigin)
    }
    if (size === 8) {
      const value = memory.readByCpu(physical, 4) | 0
      this.high = memory.readByCpu(physical + 4, 4) | 0
      return value
    }
    return memory.readByCpu(physical, size) | 0
  }

  #store(
    high: number,
    low: number,
    size: 1 | 2 | 4 | 8,
    value: number,
    valueHigh: number,
    origin?: AccessOrigin,
  ): void {
    const offset = low & 4095
    if (this.#accessTracer !== undefined) this.#accessTracer('write', join(high, low))
    if (offset + size > 4096) {
      this.#storeAcross(join(high, low), size, value, valueHigh, origin ?? this.#dataOrigin)
      return
    }
    const window = this.#open(high, low, this.#writes, origin)
    if (window !== undefined) {
      storeInWindow(window, offset, size, value, valueHigh)
      return
    }
    const { cpu, memory } = this
    const codePage = this.#codePages[(low >>> 12) & 255]!
    if (codePage.low === (low & -4096) && codePage.high === high) {
      const { frame } = codePage
      const isDecoded = this.isDecoded(frame, offset, offset + size)
      // What stays as it was need not be decoded again.
      if (isDecoded && holdsAlready(codePage, offset, size, value, valueHigh)) return
      storeInWindow(codePage, offset, size, value, valueHigh)
      if (isDecoded) memory.noteCodeWrite(frame, offset, offset + size)
      return
    }
    const address = join(high, low)
    const physical = cpu.translate(address, 'write', origin ?? this.#dataOrigin)
    if (size === 8) {
      memory.writeByCpu(physical, 4, value)
      memory.writeByCpu(physical + 4, 4, valueHigh)
    } else {
      memory.writeByCpu(physical, size, value)
    }
  }

  /** The window of a page, filled if it was not; undefined where the page has none. Raises what the access raises. */
  #open(high: number, low: number, windows: Window[], origin?: AccessOrigin): Window | undefined {
    const window = windows[(low >>> 12) & 255]!
    const pageLow = low & -4096
    if (window.low === pageLow && window.high === high) return window
    const isWrite = windows === this.#writes
    const { cpu, memory } = this
    if (isWrite) {
      const codePage = this.#codePages[(low >>> 12) & 255]!
      if (codePage.low === pageLow && codePage.high === high) return undefined
    }
    if (cpu.recordsEveryAccess || this.#accessTracer !== undefined) return undefined
    const physical = cpu.translate(
      join(high, low),
      isWrite ? 'write' : 'read',
      origin ?? this.#dataOrigin,
    )
    const frame = Math.floor(physical / 4096)
    const device = memory.hasDevices ? memory.deviceAt(frame) : undefined
    if (device !== undefined && (isWrite || device.readsAsMemory !== true)) return undefined
    const words = isWrite ? memory.wordsForStores(frame) : memory.locate(frame)
    if (words === undefined) return undefined
    if (isWrite) this.#dropOther(high, pageLow, frame)
    const isCode = isWrite && memory.holdsCode
    const filled = isCode ? this.#codePages[(low >>> 12) & 255]! : window
    if (this.#filled.length > FILLED_LIMIT) this.dropWindows()
    if (filled.high === NOWHERE) this.#filled.push(filled)
    filled.high = high
    filled.low = pageLow
    filled.frame = frame
    filled.words = words
    filled.base = memory.base
    return isCode ? undefined : window
  }

  /** A write may have walked the tables again, and found another frame than reads had. */
  #dropOther(high: number, pageLow: number, frame: number): void {
    dropOther(this.#supervisors.reads, high, pageLow, frame)
    if (this.#users !== undefined) dropOther(this.#users.reads, high, pageLow, frame)
  }

  get #dataOrigin(): AccessOrigin {
    return this.usesStackSegment ? ON_STACK : DATA
  }

  /** Loads bytes of two pages; both are translated before either is read, as a fault leaves no trace. */
  #loadAcross(
    high: number,
    low: number,
    size: 1 | 2 | 4 | 8,
    windows: Window[],
    origin: AccessOrigin = this.#dataOrigin,
  ): number {
    const { cpu, memory } = this
    const access = windows === this.#writes ? 'write' : 'read'
    const address = join(high, low)
    const inFirst = 4096 - (low & 4095)
    const first = cpu.translate(address, access, origin)
    const second = cpu.translate(BigInt.asUintN(64, address + BigInt(inFirst)), access, origin)
    const bytes = new Uint8Array(8)
    memory.readBytesByCpu(first, bytes.subarray(0, inFirst))
    memory.readBytesByCpu(second, bytes.subarray(inFirst, size))
    const view = new DataView(bytes.buffer)
    if (size === 8) this.high = view.getInt32(4, true)
    return view.getInt32(0, true)
  }

  #storeAcross(
    address: bigint,
    size: 1 | 2 | 4 | 8,
    value: number,
    valueHigh: number,
    origin: AccessOrigin,
  ): void {
    const { cpu, memory } = this
    const inFirst = 4096 - Number(address & 0xfffn)
    const first = cpu.translate(address, 'write', origin)
    const second = cpu.translate(BigInt.asUintN(64, address + BigInt(inFirst)), 'write', origin)
    const view = new DataView(new ArrayBuffer(8))
    view.setInt32(0, value, true)
    view.setInt32(4, valueHigh, true)
    const bytes = new Uint8Array(view.buffer, 0, size)
    memory.writeBytesByCpu(first, bytes.subarray(0, inFirst))
    memory.writeBytesByCpu(second, bytes.subarray(inFirst))
  }
}

/** Whether a page has a value already where it is to be stored; only said of aligned ones. */
function holdsAlready(
  { words, base }: Window,
  offset: number,
  size: 1 | 2 | 4 | 8,
  value: number,
  valueHigh: number,
): boolean {
  if (offset % size !== 0) return false
  const at = base + (offset >>> 2)
  if (size === 8) return words[at] === value && words[at + 1] === valueHigh
  if (size === 4) return words[at] === value
  const mask = (1 << (size << 3)) - 1
  return ((words[at]! >>> ((offset & 3) << 3)) & mask) === (value & mask)
}

/** Stores bytes that lie within a page. */
function storeInWindow(
  { words, base }: Window,
  offset: number,
  size: 1 | 2 | 4 | 8,
  value: number,
  valueHigh: number,
): void {
  const at = base + (offset >>> 2)
  const shift = (offset & 3) << 3
  if (size === 8) {
    storeWord(words, at, shift, value)
    storeWord(words, at + 1, shift, valueHigh)
  } else if (size === 4) {
    storeWord(words, at, shift, value)
  } else {
    storePart(words, at, shift, value, size << 3)
  }
}

/** Stores 32 bits `shift` bits into the word at an index, and what is left into the next. */
function storeWord(words: Int32Array, at: number, shift: number, value: number): void {
  if (shift === 0) {
    words[at] = value
    return
  }
  const mask = -1 << shift
  words[at] = (words[at]! & ~mask) | (value << shift)
  words[at + 1] = (words[at + 1]! & mask) | (value >>> (32 - shift))
}

/** Stores 8 or 16 bits. */
function storePart(
  words: Int32Array,
  at: number,
  shift: number,
  value: number,
  bits: number,
): void {
  const mask = (1 << bits) - 1
  words[at] = (words[at]! & ~(mask << shift)) | ((value & mask) << shift)
  if (shift + bits <= 32) return
  const rest = 32 - shift
  words[at + 1] = (words[at + 1]! & ~(mask >>> rest)) | ((value & mask) >>> rest)
}

function dropOther(reads: Window[], high: number, pageLow: number, frame: number): void {
  const window = reads[(pageLow >>> 12) & 255]!
  if (window.high === high && window.low === pageLow && window.frame !== frame) {
    window.high = NOWHERE
  }
}

function newWindowSet(): WindowSet {
  return { reads: newWindows(), writes: newWindows(), codePages: newWindows() }
}

function newWindows(): Window[] {
  return Array.from({ length: WINDOWS }, () => ({
    high: NOWHERE,
    low: 0,
    frame: -1,
    words: NO_WORDS,
    base: 0,
  }))
}
