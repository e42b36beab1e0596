import { PAGE_SIZE, PHYSICAL_ADDRESS_LIMIT } from '../address.ts'
import { CoreError } from '../error.ts'
import type { FrameObserver } from './frame-observer.ts'
import { FramePool } from './frame-pool.ts'
import type { MemoryDevice } from './memory-device.ts'
import type { Rewind } from '../rewind.ts'
import { highHalf, joinHalves, lowHalf } from '../halves.ts'
import { OwnerMap } from './owner-map.ts'
import { TableJournal } from './table-journal.ts'

const WORDS_PER_FRAME = PAGE_SIZE / 4
const FRAMES_PER_REGION = 512
/** Masks keep frames integers; a remainder would be a division of doubles. */
const FRAME_MASK = FRAMES_PER_REGION - 1
const REGION_SHIFT = 9
/** Regions below 64 GiB sit in an array, those above in a map: a fork copies the array up to the highest region that was touched. */
const NEAR_FRAMES = 2 ** 36 / PAGE_SIZE

/** 2 MiB of memory. `holder` tells which memory may write to it in place; the others copy it first. */
interface Region {
  readonly frames: (Int32Array | undefined)[]
  /** A bit for each frame: 1 where it belongs to this region alone, 0 where it is shared with a fork. Arrays of up to 64 bytes need no memory outside the heap. */
  readonly owned: Int32Array
  readonly holder: symbol
  /** A bit for each frame that is watched as a table, and as code; made when the first is. */
  watchedTables: Int32Array | undefined
  watchedCode: Int32Array | undefined
}

/** Why writes to a frame are watched: they are noted in the journal, or observers are told as it holds code. */
const Watch = { Table: 1, Code: 2 } as const

/** So many bytes are copied one by one: a view of memory would cost more. */
const FEW_BYTES = 64
const NO_WORDS: Int32Array = new Int32Array(0)
const NO_FRAMES: readonly undefined[] = Array.from({ length: FRAMES_PER_REGION }, () => undefined)

interface FillRange {
  readonly start: number
  readonly end: number
  readonly word: number
}

/** How memory is kept; what software sees is the same. */
export interface PhysicalMemoryOptions {
  /**
   * Bytes of memory from address 0 that are kept in one flat array, which the walker reads fastest. The engine commits
   * only what is touched. A fork turns the window into shared sparse frames. Default 0.
   */
  readonly flatWindow?: number
}

/**
 * Sparse physical memory over the architecture's 52 bits, little endian. Cost grows with the frames that were written,
 * never with the size of the machine. Addresses and lengths are in bytes; frame numbers are addresses divided by 4096.
 */
export class PhysicalMemory {
  /** Who each frame belongs to. */
  owners: OwnerMap = new OwnerMap()
  /** Who changed the page tables that processors use. A fork starts with an empty one. */
  readonly tables: TableJournal = new TableJournal()
  /** Who is told when words move; an executor's business. */
  readonly observers: FrameObserver[] = []
  /** Index in {@link locate}'s array at which the frame begins. Read it right after the call. */
  base = 0

  /** The words of the flat window, from address 0 on; empty where there is none. For reading only. */
  get flatWords(): Int32Array {
    return this.#flat
  }

  #holder: symbol = Symbol('memory')
  #near: (Region | undefined)[] = []
  /** The frames of {@link #near}, one step nearer for who only reads. */
  #nearFrames: (Region['frames'] | undefined)[] = []
  #far: Map<number, Region> = new Map()
  /** Numbers of the regions that hold frames. */
  #present: number[] = []
  #fills: FillRange[] = []
  #patterns: Map<number, Int32Array> = new Map()
  readonly #pool: FramePool
  #flat: Int32Array = NO_WORDS
  #flatFrames = 0
  #flatWatched: Uint8Array | undefined
  /** {@link Watch} of the frame of the last {@link locateForWrite}. */
  #watch = 0
  readonly #devices: MemoryDevice[] = []
  /** Frames of memory that are known to be no device's: from the first up to the second, exclusive. */
  #clearFrom = 0
  #clearTo = 0
  /** What was the flat window before the first fork: shared, never written again. */
  #frozen: Int32Array | undefined

  /** `pool` is that of the memory that this is a fork of. */
  constructor(options: PhysicalMemoryOptions = {}, pool: FramePool = new FramePool()) {
    this.#pool = pool
    const window = options.flatWindow ?? 0
    if (window % PAGE_SIZE !== 0 || window < 0 || window > 2 ** 32) {
      throw new CoreError('CORE_BAD_RANGE', {
        expected: 'a flat window of whole pages, 4 GiB at the most',
        found: `${window} bytes`,
      })
    }
    if (window > 0) {
      this.#flat = new Int32Array(new ArrayBuffer(window))
      this.#flatFrames = window / PAGE_SIZE
    }
  }

  /** A copy-on-write copy: what either side writes from now on does not show in the other. */
  fork(): PhysicalMemory {
    const child = new PhysicalMemory({}, this.#pool)
    this.#share()
    child.#adopt(this)
    return child
  }

  /**
   * Whether every byte is certain to be what it is in another memory of the same family: a fork, or what this is a fork of. It is not where devices are, which have more state than their bytes, and not where
   * {@link fill} was used in between.
   */
  isSameAs(other: PhysicalMemory): boolean {
    if (this === other) return true
    if (this.#devices.length > 0 || other.#devices.length > 0) return false
    if (this.#flatFrames > 0 || other.#flatFrames > 0 || this.#frozen !== other.#frozen)
      return false
    const fills = other.#fills
    if (this.#fills.length !== fills.length) return false
    if (this.#fills.some((fill, index) => fill !== fills[index])) return false
    for (const number of new Set([...this.#present, ...other.#present])) {
      if (!this.#isSameRegion(other, number)) return false
    }
    return true
  }

  #isSameRegion(other: PhysicalMemory, number: number): boolean {
    const [one, two] = [this.#regionOf(number), other.#regionOf(number)]
    if (one === two) return true
    for (let index = 0; index < FRAMES_PER_REGION; index++) {
      const [words, others] = [one?.frames[index], two?.frames[index]]
      if (words === others) continue
      const frame = number * FRAMES_PER_REGION + index
      if (!sameWords(words ?? this.#absent(frame), others ?? other.#absent(frame))) return false
    }
    return true
  }

  /** Remembers what every byte is at this moment, whom frames belong to, and who changed which tables. Costs what a {@link fork} does. */
  checkpoint(): Rewind {
    const saved = this.fork()
    const rewindTables = this.tables.checkpoint()
    return () => {
      this.#giveFrames()
      this.#adopt(saved)
      rewindTables()
      for (const observer of this.observers) {
        observer.framesMoved()
        observer.tablesChanged()
      }
    }
  }

  /** Forgets everything, so that what it took can be used by forks: the machine will not be used any more. */
  discard(): void {
    this.#giveFrames()
    this.#near = []
    this.#nearFrames = []
    this.#far = new Map()
    this.#present = []
    this.#holder = Symbol('memory')
  }

  /** Gives the frames back that nobody else can see. What an executor has decoded goes by the arrays of frames, so with one around they are left alone. */
  #giveFrames(): void {
    if (this.observers.length > 0) return
    for (const number of this.#present) {
      const region = this.#regionOf(number)
      if (region === undefined || region.holder !== this.#holder) continue
      for (let index = 0; index < FRAMES_PER_REGION; index++) {
        if (hasBit(region.owned, index)) this.#pool.give(region.frames[index]!)
      }
    }
  }

  /** Gives up the right to write to what there is in place. */
  #share(): void {
    if (this.#flatFrames > 0) {
      this.#frozen = this.#flat
      this.#flat = NO_WORDS
      this.#flatFrames = 0
      this.#flatWatched?.forEach((watched, frame) => {
        if (watched !== 0) this.#watchSparse(frame, watched)
      })
      this.#flatWatched = undefined
    }
    // Nobody is the holder of the shared regions any more.
    this.#holder = Symbol('memory')
    for (const observer of this.observers) observer.framesMoved()
  }

  /** Takes over what another memory, which has shared it, holds. */
  #adopt(from: PhysicalMemory): void {
    this.#frozen = from.#frozen
    this.#near = from.#near.slice()
    this.#nearFrames = from.#nearFrames.slice()
    this.#far = new Map(from.#far)
    this.#present = from.#present.slice()
    this.#fills = from.#fills.slice()
    this.#patterns = from.#patterns
    this.owners = from.owners.fork()
    this.#devices.splice(0, Infinity, ...from.#devices.map((device) => device.fork(this)))
    this.#clearFrom = 0
    this.#clearTo = 0
    this.#holder = Symbol('memory')
  }

  /**
   * The words that hold a frame, for reading; the frame begins at {@link base}. Never write to what this returns.
   * A frame that was never written reads as the last {@link fill} that covers it, else as zeros.
   */
  locate(frame: number): Int32Array {
    if (frame < this.#flatFrames) {
      this.base = frame * WORDS_PER_FRAME
      return this.#flat
    }
    this.base = 0
    if (frame < NEAR_FRAMES) {
      const words = this.#nearFrames[frame >>> REGION_SHIFT]?.[frame & FRAME_MASK]
      if (words !== undefined) return words
    }
    return this.#region(frame)?.frames[frame & FRAME_MASK] ?? this.#absent(frame)
  }

  /**
   * The words that hold a frame, for reading and writing; the frame begins at {@link base}. Who changes page tables through it says
   * so by {@link noteTableWrite}. Of code any byte counts as written.
   */
  locateForWrite(frame: number): Int32Array {
    const words = this.#locateForWrite(frame)
    if ((this.#watch & Watch.Code) !== 0) {
      const { base } = this
      this.#noteCode(frame, 0, PAGE_SIZE)
      this.base = base
    }
    return words
  }

  /** {@link locateForWrite} for who says afterwards what was written. */
  #locateForWrite(frame: number): Int32Array {
    if (frame < this.#flatFrames) {
      this.base = frame * WORDS_PER_FRAME
      this.#watch = this.#flatWatched === undefined ? 0 : this.#flatWatched[frame]!
      return this.#flat
    }
    this.base = 0
    const region = this.#ownRegion(Math.floor(frame / FRAMES_PER_REGION))
    const index = frame & FRAME_MASK
    this.#watch = watchIn(region, index)
    const present = region.frames[index]
    if (present !== undefined && hasBit(region.owned, index)) return present
    const copy = this.#pool.take()
    copy.set(present ?? this.#absent(frame))
    region.frames[index] = copy
    setBit(region.owned, index)
    this.#tellMoved(frame)
    this.base = 0
    return copy
  }

  /**
   * The words of a frame, to be written in place from now on; undefined for page tables that are watched. For executors, which keep them until an observer is told that they
   * moved, and which see to {@link holdsCode} themselves.
   */
  wordsForStores(frame: number): Int32Array | undefined {
    const words = this.#locateForWrite(frame)
    return (this.#watch & Watch.Table) === 0 ? words : undefined
  }

  /** Whether the frame of the last {@link wordsForStores} was given to {@link watchCode}: then a store to its words has to be told by {@link noteCodeWrite}. */
  get holdsCode(): boolean {
    return (this.#watch & Watch.Code) !== 0
  }

  /** Tells that the bytes `start` up to `end` (exclusive) of a frame with code were written in place. */
  noteCodeWrite(frame: number, start: number, end: number): void {
    this.#noteCode(frame, start, end)
  }

  /** Has changes of a frame noted in {@link tables} from now on: a processor has translated through it. */
  watchTable(frame: number): void {
    this.#watchFrame(frame, Watch.Table)
  }

  /** Has observers told of writes to a frame from now on: its bytes were decoded. */
  watchCode(frame: number): void {
    this.#watchFrame(frame, Watch.Code)
  }

  /** Tells that the 32-bit words `start` up to `end` (exclusive) of the frame of the last {@link locateForWrite} were changed. */
  noteTableWrite(frame: number, start: number, end: number): void {
    this.tables.writes++
    if ((this.#watch & Watch.Table) !== 0) this.#noteTable(frame, start, end)
  }

  /** Puts a device into the address space. Pages that have one already are CORE_DEVICE_OVERLAP, a range of other than whole pages is CORE_MISALIGNED. */
  attachDevice(device: MemoryDevice): void {
    const { name, start, end } = device
    checkAddress(start, end - start)
    if (start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0) {
      throw new CoreError('CORE_MISALIGNED', {
        expected: `whole pages for ${name}`,
        found: `0x${start.toString(16)} to 0x${end.toString(16)}`,
      })
    }
    const other = this.#devices.find((each) => each.start < end && start < each.end)
    if (other !== undefined) {
      throw new CoreError('CORE_DEVICE_OVERLAP', {
        expected: `pages for ${name} that no device has`,
        found: `0x${start.toString(16)} to 0x${end.toString(16)} in ${other.name}`,
      })
    }
    this.#devices.push(device)
    this.#clearFrom = 0
    this.#clearTo = 0
    for (const observer of this.observers) observer.framesMoved()
  }

  /** Whether any device is attached: who reads memory for a processor asks {@link deviceAt} then. */
  get hasDevices(): boolean {
    return this.#devices.length !== 0
  }

  /** The device that has a frame. */
  deviceAt(frame: number): MemoryDevice | undefined {
    if (frame >= this.#clearFrom && frame < this.#clearTo) return undefined
    const address = frame * PAGE_SIZE
    const device = this.#devices.find(({ start, end }) => start <= address && address < end)
    if (device === undefined) this.#noteClear(address)
    return device
  }

  /** Notes the frames around an address that no device has: most accesses go to memory, and to the same stretch of it. */
  #noteClear(address: number): void {
    let from = 0
    let to = Infinity
    for (const { start, end } of this.#devices) {
      if (end <= address) from = Math.max(from, end)
      else to = Math.min(to, start)
    }
    this.#clearFrom = from / PAGE_SIZE
    this.#clearTo = to / PAGE_SIZE
  }

  /** A processor's read of up to 4 bytes that lie within a page, by the device where one has it: an unsigned number. */
  readByCpu(address: number, size: 1 | 2 | 4): number {
    const device = this.#devices.length === 0 ? undefined : this.deviceAt(frameOf(address))
    if (device === undefined || device.readsAsMemory === true) {
      if (size === 4) return this.read32(address)
      return size === 1 ? this.read8(address) : this.read16(address)
    }
    const value = device.read(address - device.start, size)
    this.#tellDeviceUsed(device, false)
    return value
  }

  /** A processor's read of bytes that lie within a page, by the device where one has it: then in aligned pieces of 4 bytes at the most. */
  readBytesByCpu(address: number, bytes: Uint8Array): void {
    const { length } = bytes
    const device = this.#devices.length === 0 ? undefined : this.deviceAt(frameOf(address))
    if (device === undefined || device.readsAsMemory === true) {
      this.readInto(address, bytes)
      return
    }
    forEachPiece(address, length, (at, size) => {
      const value = this.readByCpu(at, size)
      for (let index = 0; index < size; index++) bytes[at - address + index] = value >>> (index * 8)
    })
  }

  /** A processor's write of bytes that lie within a page, as {@link readBytesByCpu}. */
  writeBytesByCpu(address: number, bytes: Uint8Array): void {
    if (this.#devices.length === 0 || this.deviceAt(frameOf(address)) === undefined) {
      this.write(address, bytes)
      return
    }
    forEachPiece(address, bytes.length, (at, size) => {
      let value = 0
      for (let index = size - 1; index >= 0; index--)
        value = value * 256 + bytes[at - address + index]!
      this.writeByCpu(at, size, value)
    })
  }

  /** A processor's write of up to 4 bytes that lie within a page, to the device where one has it. */
  writeByCpu(address: number, size: 1 | 2 | 4, value: number): void {
    const device = this.#devices.length === 0 ? undefined : this.deviceAt(frameOf(address))
    if (device === undefined) {
      if (size === 4) this.write32(address, value)
      else if (size === 1) this.write8(address, value)
      else this.write16(address, value)
      return
    }
    const readAsMemory = device.readsAsMemory === true
    device.write(
      address - device.start,
      size,
      size === 4 ? value >>> 0 : value & (2 ** (size * 8) - 1),
    )
    this.#tellDeviceUsed(device, readAsMemory)
  }

  /** Sets a whole frame to zeros, as a page-table allocator does. */
  clearFrame(frame: number): void {
    this.#watch = this.#watchOf(frame)
    if (this.#watch !== 0) this.#note(frame, 0, PAGE_SIZE)
    if (frame < this.#flatFrames) {
      this.#flat.fill(0, frame * WORDS_PER_FRAME, (frame + 1) * WORDS_PER_FRAME)
      return
    }
    const region = this.#ownRegion(Math.floor(frame / FRAMES_PER_REGION))
    const index = frame & FRAME_MASK
    const own = hasBit(region.owned, index) ? region.frames[index] : undefined
    if (own === undefined) {
      region.frames[index] = this.#pool.takeZero()
      setBit(region.owned, index)
    } else {
      own.fill(0)
    }
    this.#tellMoved(frame)
  }

  /**
   * Makes `count` frames from `to` on what those from `first` on are in `from`, another memory or this one. What is written there is shared until one of them writes, so that
   * this costs little more than the number of frames that differ.
   */
  copyFrames(from: PhysicalMemory, first: number, count: number, to: number): void {
    let piece: number
    for (let offset = 0; offset < count; offset += piece) {
      const [source, target] = [first + offset, to + offset]
      piece = Math.min(count - offset, leftInRegion(source), leftInRegion(target))
      const word = from.#background(source, piece)
      if (word !== undefined && word === this.#background(target, piece)) continue
      for (let frame = 0; frame < piece; frame++) {
        const isFlat = source + frame < from.#flatFrames || target + frame < this.#flatFrames
        if (isFlat) this.#copyFrame(from, source + frame, target + frame)
        else this.#shareFrame(from, source + frame, target + frame)
      }
    }
  }

  /** Makes `length` bytes from `to` on what those from `from` on are; the two do not overlap. Whole pages are shared as {@link copyFrames} does. */
  copy(from: number, to: number, length: number): void {
    checkAddress(from, length)
    checkAddress(to, length)
    const isAligned = from % PAGE_SIZE === 0 && to % PAGE_SIZE === 0
    const pages = isAligned ? Math.floor(length / PAGE_SIZE) : 0
    this.copyFrames(this, from / PAGE_SIZE, pages, to / PAGE_SIZE)
    const shared = pages * PAGE_SIZE
    this.write(to + shared, this.read(from + shared, length - shared))
  }

  #copyFrame(from: PhysicalMemory, first: number, to: number): void {
    const words = from.locate(first)
    const { base } = from
    const target = this.#locateForWrite(to)
    target.set(words.subarray(base, base + WORDS_PER_FRAME), this.base)
    if (this.#watch !== 0) this.#note(to, 0, PAGE_SIZE)
  }

  /** Puts the words of a frame of another memory here, to be copied by the first that writes. */
  #shareFrame(from: PhysicalMemory, first: number, to: number): void {
    const index = to & FRAME_MASK
    const present = this.#region(to)?.frames[index]
    const written = from.#region(first)?.frames[first & FRAME_MASK]
    if (written === undefined) {
      const word = from.#fillWord(first)
      if (word !== undefined && present === undefined && this.#fillWord(to) === word) return
    } else {
      if (present === written) return
      clearBit(from.#ownRegion(Math.floor(first / FRAMES_PER_REGION)).owned, first & FRAME_MASK)
      from.#tellMoved(first)
    }
    const region = this.#ownRegion(Math.floor(to / FRAMES_PER_REGION))
    region.frames[index] = written ?? from.#absent(first)
    clearBit(region.owned, index)
    this.#watch = this.#watchOf(to)
    if (this.#watch !== 0) this.#note(to, 0, PAGE_SIZE)
    this.#tellMoved(to)
  }

  /** Whether a frame holds bytes of its own, rather than the background that {@link fill} gave it. */
  isWritten(frame: number): boolean {
    if (frame < this.#flatFrames) return true
    if (this.#region(frame)?.frames[frame & FRAME_MASK] !== undefined) return true
    return this.#isFrozen(frame) && !this.#fills.some((fill) => isWithin(frame, fill))
  }

  /** Sets every 32-bit word from byte `start` up to `end` (exclusive, both page aligned) to `word`, at a cost that does not grow with the range. */
  fill(start: number, end: number, word: number): void {
    checkAddress(start, end - start)
    if (start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0) {
      throw new CoreError('CORE_MISALIGNED', {
        expected: 'a range of whole pages',
        found: `0x${start.toString(16)} to 0x${end.toString(16)}`,
      })
    }
    const first = start / PAGE_SIZE
    const last = end / PAGE_SIZE
    if (first < this.#flatFrames) {
      const windowEnd = Math.min(last, this.#flatFrames)
      this.#flat.fill(word, first * WORDS_PER_FRAME, windowEnd * WORDS_PER_FRAME)
      this.#flatWatched?.subarray(first, windowEnd).forEach((watched, offset) => {
        this.#watch = watched
        if (watched !== 0) this.#note(first + offset, 0, PAGE_SIZE)
      })
    }
    const range = { start: Math.max(first, this.#flatFrames), end: last, word: word | 0 }
    if (range.end <= range.start) return
    this.#fills.push(range)
    const firstRegion = Math.floor(range.start / FRAMES_PER_REGION)
    const lastRegion = Math.floor((range.end - 1) / FRAMES_PER_REGION)
    if (lastRegion - firstRegion < this.#present.length) {
      for (let number = firstRegion; number <= lastRegion; number++) {
        if (this.#regionOf(number) !== undefined) this.#dropFrames(number, range)
      }
    } else {
      for (const number of this.#present) this.#dropFrames(number, range)
    }
    for (const observer of this.observers) observer.framesMoved()
  }

  read8(address: number): number {
    return (this.#word(address) >>> ((address & 3) * 8)) & 0xff
  }

  read16(address: number): number {
    return this.read8(address) | (this.read8(address + 1) << 8)
  }

  /** An unsigned 32-bit value. */
  read32(address: number): number {
    if (address % 4 === 0) return this.#word(address) >>> 0
    return (this.read16(address) | (this.read16(address + 2) << 16)) >>> 0
  }

  read64(address: number): bigint {
    if (address % 8 !== 0) return joinHalves(this.read32(address + 4), this.read32(address))
    checkAddress(address, 8)
    const words = this.locate(Math.floor(address / PAGE_SIZE))
    const at = this.base + ((address % PAGE_SIZE) >>> 2)
    return joinHalves(words[at + 1]!, words[at]!)
  }

  write8(address: number, value: number): void {
    checkAddress(address, 1)
    const words = this.#locateForWrite(Math.floor(address / PAGE_SIZE))
    const index = this.base + ((address % PAGE_SIZE) >>> 2)
    const shift = (address & 3) * 8
    words[index] = (words[index]! & ~(0xff << shift)) | ((value & 0xff) << shift)
    if (this.#watch !== 0) this.#noteBytes(address, 1)
  }

  write16(address: number, value: number): void {
    this.write8(address, value)
    this.write8(address + 1, value >>> 8)
  }

  write32(address: number, value: number): void {
    if (address % 4 !== 0) {
      this.write16(address, value)
      this.write16(address + 2, value >>> 16)
      return
    }
    checkAddress(address, 4)
    const words = this.#locateForWrite(Math.floor(address / PAGE_SIZE))
    words[this.base + ((address % PAGE_SIZE) >>> 2)] = value
    if (this.#watch !== 0) this.#noteBytes(address, 4)
  }

  write64(address: number, value: bigint): void {
    this.write32(address, lowHalf(value))
    this.write32(address + 4, highHalf(value))
  }

  /** A copy of `length` bytes from `address`. */
  read(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    this.readInto(address, bytes)
    return bytes
  }

  /** Copies the bytes from `address` on into `bytes`, as many as it has. */
  readInto(address: number, bytes: Uint8Array): void {
    const { length } = bytes
    checkAddress(address, length)
    for (let done = 0; done < length;) {
      const at = address + done
      const offset = at % PAGE_SIZE
      const count = Math.min(length - done, PAGE_SIZE - offset)
      const words = this.locate(Math.floor(at / PAGE_SIZE))
      const start = this.base * 4 + offset
      if (count <= FEW_BYTES) {
        for (let byte = 0; byte < count; byte++) {
          const from = start + byte
          bytes[done + byte] = words[from >>> 2]! >>> ((from & 3) << 3)
        }
      } else {
        bytes.set(new Uint8Array(words.buffer, words.byteOffset + start, count), done)
      }
      done += count
    }
  }

  /** Writes all of `bytes` at `address`. */
  write(address: number, bytes: Uint8Array): void {
    checkAddress(address, bytes.length)
    for (let done = 0; done < bytes.length;) {
      const at = address + done
      const offset = at % PAGE_SIZE
      const count = Math.min(bytes.length - done, PAGE_SIZE - offset)
      const words = this.#locateForWrite(Math.floor(at / PAGE_SIZE))
      const start = this.base * 4 + offset
      if (count <= FEW_BYTES) {
        for (let byte = 0; byte < count; byte++) {
          const to = start + byte
          const shift = (to & 3) << 3
          words[to >>> 2] = (words[to >>> 2]! & ~(0xff << shift)) | (bytes[done + byte]! << shift)
        }
      } else {
        new Uint8Array(words.buffer, words.byteOffset + start, count).set(
          bytes.subarray(done, done + count),
        )
      }
      if (this.#watch !== 0) this.#noteBytes(at, count)
      done += count
    }
  }

  /** Notes that bytes within a frame that is watched, the one of the last {@link #locateForWrite}, were written. */
  #noteBytes(address: number, count: number): void {
    const offset = address % PAGE_SIZE
    this.#note(frameOf(address), offset, offset + count)
  }

  #note(frame: number, start: number, end: number): void {
    if ((this.#watch & Watch.Code) !== 0) this.#noteCode(frame, start, end)
    if ((this.#watch & Watch.Table) !== 0) this.#noteTable(frame, start >>> 2, (end + 3) >>> 2)
  }

  #noteTable(frame: number, start: number, end: number): void {
    this.tables.note(frame, start, end)
    for (const observer of this.observers) observer.tablesChanged()
  }

  #noteCode(frame: number, start: number, end: number): void {
    for (const observer of this.observers) observer.codeWritten(frame, start, end)
  }

  #tellMoved(frame: number): void {
    for (let index = 0; index < this.observers.length; index++) {
      this.observers[index]!.frameMoved(frame)
    }
  }

  #tellDeviceUsed(device: MemoryDevice, readAsMemory: boolean): void {
    if ((device.readsAsMemory === true) === readAsMemory) return
    for (const observer of this.observers) observer.framesMoved()
  }

  #watchOf(frame: number): number {
    if (frame < this.#flatFrames) return this.#flatWatched?.[frame] ?? 0
    const region = this.#region(frame)
    return region === undefined ? 0 : watchIn(region, frame & FRAME_MASK)
  }

  #watchFrame(frame: number, reason: number): void {
    if ((this.#watchOf(frame) & reason) !== 0) return
    if (frame < this.#flatFrames) {
      this.#flatWatched ??= new Uint8Array(this.#flatFrames)
      this.#flatWatched[frame]! |= reason
    } else {
      this.#watchSparse(frame, reason)
    }
    this.#tellMoved(frame)
  }

  #watchSparse(frame: number, reasons: number): void {
    const region = this.#ownRegion(Math.floor(frame / FRAMES_PER_REGION))
    const index = frame & FRAME_MASK
    if ((reasons & Watch.Table) !== 0) setBit((region.watchedTables ??= noBits()), index)
    if ((reasons & Watch.Code) !== 0) setBit((region.watchedCode ??= noBits()), index)
  }

  #word(address: number): number {
    checkAddress(address, 1)
    const words = this.locate(Math.floor(address / PAGE_SIZE))
    return words[this.base + ((address % PAGE_SIZE) >>> 2)]!
  }

  /** What a frame without bytes of its own reads as. */
  #absent(frame: number): Int32Array {
    const word = this.#fillWord(frame)
    return word === undefined
      ? this.#frozen!.subarray(frame * WORDS_PER_FRAME, (frame + 1) * WORDS_PER_FRAME)
      : this.#pattern(word)
  }

  /** The word that a frame without bytes of its own consists of; undefined where it is what was the flat window. */
  #fillWord(frame: number): number | undefined {
    for (let index = this.#fills.length - 1; index >= 0; index--) {
      const range = this.#fills[index]!
      if (isWithin(frame, range)) return range.word
    }
    return this.#isFrozen(frame) ? undefined : 0
  }

  /** The word that all of `count` frames of one region consist of, none of which was ever written; undefined where it is not as simple. */
  #background(first: number, count: number): number | undefined {
    if (first < this.#flatFrames || this.#region(first) !== undefined) return undefined
    const end = first + count
    const last = this.#fills.findLast((fill) => first < fill.end && fill.start < end)
    if (last === undefined) return this.#isFrozen(first) ? undefined : 0
    return last.start <= first && end <= last.end ? last.word : undefined
  }

  #region(frame: number): Region | undefined {
    return frame < NEAR_FRAMES
      ? this.#near[frame >>> REGION_SHIFT]
      : this.#far.get(Math.floor(frame / FRAMES_PER_REGION))
  }

  #regionOf(number: number): Region | undefined {
    return number < NEAR_FRAMES / FRAMES_PER_REGION ? this.#near[number] : this.#far.get(number)
  }

  #isFrozen(frame: number): boolean {
    return this.#frozen !== undefined && frame * WORDS_PER_FRAME < this.#frozen.length
  }

  #pattern(word: number): Int32Array {
    let words = this.#patterns.get(word)
    if (words === undefined) {
      words = new Int32Array(WORDS_PER_FRAME).fill(word)
      this.#patterns.set(word, words)
    }
    return words
  }

  /** The region with this number, made this memory's own. */
  #ownRegion(number: number): Region {
    const near = number < NEAR_FRAMES / FRAMES_PER_REGION
    const present = this.#regionOf(number)
    if (present !== undefined && present.holder === this.#holder) return present
    const region: Region = {
      frames: (present?.frames ?? NO_FRAMES).slice(),
      owned: noBits(),
      holder: this.#holder,
      watchedTables: present?.watchedTables?.slice(),
      watchedCode: present?.watchedCode?.slice(),
    }
    if (present === undefined) this.#present.push(number)
    if (near) {
      // Filling the gap keeps the array packed, which is what makes reading it fast.
      while (this.#near.length < number) {
        this.#near.push(undefined)
        this.#nearFrames.push(undefined)
      }
      this.#near[number] = region
      this.#nearFrames[number] = region.frames
    } else {
      this.#far.set(number, region)
    }
    return region
  }

  #dropFrames(regionNumber: number, range: FillRange): void {
    const first = regionNumber * FRAMES_PER_REGION
    const start = Math.max(range.start, first)
    const end = Math.min(range.end, first + FRAMES_PER_REGION)
    if (end <= start) return
    const region = this.#ownRegion(regionNumber)
    const keeps = this.observers.length > 0
    for (let frame = start; frame < end; frame++) {
      const index = frame - first
      if (hasBit(region.owned, index) && !keeps) this.#pool.give(region.frames[index]!)
      region.frames[index] = undefined
      clearBit(region.owned, index)
      this.#watch = watchIn(region, index)
      if (this.#watch !== 0) this.#note(frame, 0, PAGE_SIZE)
    }
  }
}

/** A bit for each frame of a region. */
function noBits(): Int32Array {
  return new Int32Array(FRAMES_PER_REGION / 32)
}

function hasBit(bits: Int32Array, index: number): boolean {
  return ((bits[index >>> 5]! >>> (index & 31)) & 1) !== 0
}

function setBit(bits: Int32Array, index: number): void {
  bits[index >>> 5]! |= 1 << (index & 31)
}

function clearBit(bits: Int32Array, index: number): void {
  bits[index >>> 5]! &= ~(1 << (index & 31))
}

/** {@link Watch} of a frame. */
function watchIn({ watchedTables, watchedCode }: Region, index: number): number {
  const table = watchedTables !== undefined && hasBit(watchedTables, index) ? Watch.Table : 0
  const code = watchedCode !== undefined && hasBit(watchedCode, index) ? Watch.Code : 0
  return table | code
}

function sameWords(one: Int32Array, other: Int32Array): boolean {
  for (let index = 0; index < WORDS_PER_FRAME; index++) {
    if (one[index] !== other[index]) return false
  }
  return true
}

/** Frames from this one to the end of its region. */
function leftInRegion(frame: number): number {
  return FRAMES_PER_REGION - (frame % FRAMES_PER_REGION)
}

function frameOf(address: number): number {
  return Math.floor(address / PAGE_SIZE)
}

/** Cuts a range into the largest aligned pieces of 4, 2 and 1 bytes. */
function forEachPiece(
  address: number,
  length: number,
  visit: (at: number, size: 1 | 2 | 4) => void,
): void {
  for (let at = address; at < address + length;) {
    const left = address + length - at
    const size = at % 4 === 0 && left >= 4 ? 4 : at % 2 === 0 && left >= 2 ? 2 : 1
    visit(at, size)
    at += size
  }
}

function isWithin(frame: number, range: FillRange): boolean {
  return frame >= range.start && frame < range.end
}

function checkAddress(address: number, length: number): void {
  if (address >= 0 && length >= 0 && address + length <= PHYSICAL_ADDRESS_LIMIT) return
  throw new CoreError('CORE_BAD_PHYSICAL_ADDRESS', {
    expected: 'physical addresses from 0 up to 2^52',
    found: `${length} bytes at 0x${address.toString(16)}`,
  })
}
