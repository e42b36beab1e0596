import type { MemoryDevice, MemoryDeviceHost } from '../memory/memory-device.ts'

/** How a flash is made. */
export interface ParallelFlashOptions {
  /** Physical address of its first byte, and of the first behind it; page aligned. */
  readonly start: number
  readonly end: number
  /** Bytes that an erase sets to ones. Default 4096, as QEMU's PCs have it (`FLASH_SECTOR_SIZE` of hw/i386/pc_sysfw.c). */
  readonly blockBytes?: number
  /** Whether it takes writes in system-management mode only (QEMU: `-global driver=cfi.pflash01,property=secure`): on a machine without SMM it takes none. */
  readonly secure?: boolean
}

/** First cycles of the Intel command set (Common Flash Interface, algorithm 0001; Intel 28F640J3 datasheet, "Command Bus-Cycle Definitions"). */
const Command = {
  Program: 0x10,
  BlockErase: 0x20,
  /** The other code of the same. */
  WordProgram: 0x40,
  ClearStatus: 0x50,
  BlockLock: 0x60,
  ReadStatus: 0x70,
  ReadIdentifier: 0x90,
  Query: 0x98,
  Confirm: 0xd0,
  WriteToBuffer: 0xe8,
  ReadArray: 0xff,
} as const
/** The second cycle that sets a block's lock; {@link Command.Confirm} clears it. */
const SET_LOCK = 0x01

/** The ready bit of the status, the only one that is ever set: nothing fails. */
const READY = 0x80

/** What reads give. */
type ReadMode = 'array' | 'status' | 'identifier' | 'query'

/** What the next write is, where it is no command. */
type Awaited =
  | { readonly cycle: 'data' | 'lock' | 'count' | 'leave query' }
  | { readonly cycle: 'erase'; readonly offset: number }
  | { readonly cycle: 'buffer'; readonly left: number }
  | { readonly cycle: 'confirm' }

interface Write {
  readonly offset: number
  readonly size: number
  readonly value: number
}

/** Offset of the first byte of the query table, and of the first behind it. */
const QUERY_TABLE = 0x10
const QUERY_TABLE_END = 0x36
const LARGEST_BUFFER_SHIFT = 8
const DEFAULT_BLOCK = 4096

/**
 * NOR flash with the Intel command set, a byte wide, as `pflash_cfi01` of QEMU 7.2 answers on a PC (hw/block/pflash_cfi01.c): in array mode it reads as memory, and every write is a command
 * or belongs to one. Where QEMU departs from a chip it is followed, as firmware was recorded there: programming stores a byte where a chip can only clear bits, what is
 * written to the buffer is in the array before it is confirmed, and clearing the status clears its ready bit. Locks and identifiers are answered and not kept.
 */
export class ParallelFlash implements MemoryDevice {
  readonly name = 'flash'
  readonly start: number
  readonly end: number
  readonly secure: boolean
  readonly #options: ParallelFlashOptions
  readonly #memory: MemoryDeviceHost
  #mode: ReadMode = 'array'
  #awaited: Awaited | undefined
  #status: number = READY

  /** A flash that holds what is in its place in `memory`; it has to be attached there, too. */
  constructor(memory: MemoryDeviceHost, options: ParallelFlashOptions) {
    this.start = options.start
    this.end = options.end
    this.secure = options.secure ?? false
    this.#options = options
    this.#memory = memory
  }

  get readsAsMemory(): boolean {
    return this.#mode === 'array'
  }

  /** What a read of `size` bytes (1, 2 or 4) at a byte offset gives, as an unsigned little-endian number. */
  read(offset: number, size: number): number {
    if (this.#mode === 'array') return this.#load(offset, size)
    if (this.#mode === 'query') return this.#query(offset & 0xff)
    // On a PC of QEMU neither the manufacturer nor the device has a code.
    if (this.#mode === 'identifier') return 0
    // Four bytes are two devices of two, as nobody says how wide one is.
    return size === 4 ? this.#status * 0x1_0001 : this.#status
  }

  /** A write of `size` bytes (1, 2 or 4) at a byte offset. */
  write(offset: number, size: number, value: number): void {
    if (this.secure) return
    const awaited = this.#awaited
    this.#awaited = undefined
    if (awaited === undefined) this.#command(value & 0xff, offset)
    else this.#carryOn(awaited, { offset, size, value })
  }

  /** RESET: array mode, and no command under way. What is stored stays. */
  reset(): void {
    this.#mode = 'array'
    this.#awaited = undefined
    this.#status = READY
  }

  fork(memory: MemoryDeviceHost): ParallelFlash {
    const copy = new ParallelFlash(memory, this.#options)
    copy.#mode = this.#mode
    copy.#awaited = this.#awaited
    copy.#status = this.#status
    return copy
  }

  #command(command: number, offset: number): void {
    switch (command) {
      case Command.Program:
      case Command.WordProgram:
        return this.#expect('status', { cycle: 'data' })
      case Command.BlockErase:
        return this.#expect('status', { cycle: 'erase', offset })
      case Command.BlockLock:
        return this.#expect('status', { cycle: 'lock' })
      case Command.WriteToBuffer:
        this.#status |= READY
        return this.#expect('status', { cycle: 'count' })
      case Command.ReadStatus:
        return this.#expect('status')
      case Command.ReadIdentifier:
        return this.#expect('identifier')
      case Command.Query:
        return this.#expect('query', { cycle: 'leave query' })
      case Command.ClearStatus:
        this.#status = 0
        return this.#expect('array')
      default:
        return this.#expect('array')
    }
  }

  #carryOn(awaited: Awaited, write: Write): void {
    const command = write.value & 0xff
    switch (awaited.cycle) {
      case 'data':
        this.#store(write)
        this.#status |= READY
        return
      case 'erase':
        if (command !== Command.Confirm) return this.#expect('array')
        this.#erase(awaited.offset)
        this.#status |= READY
        return
      case 'lock':
        if (command !== Command.Confirm && command !== SET_LOCK) return this.#expect('array')
        this.#status |= READY
        return
      case 'leave query':
        if (command === Command.ReadArray) return this.#expect('array')
        return this.#expect('query', awaited)
      case 'count':
        return this.#expect('status', { cycle: 'buffer', left: command })
      case 'buffer':
        this.#store(write)
        this.#status |= READY
        return this.#expect(
          'status',
          awaited.left === 0 ? { cycle: 'confirm' } : { cycle: 'buffer', left: awaited.left - 1 },
        )
      case 'confirm':
        if (command !== Command.Confirm) return this.#expect('array')
        this.#status |= READY
    }
  }

  #expect(mode: ReadMode, awaited?: Awaited): void {
    this.#mode = mode
    this.#awaited = awaited
  }

  #load(offset: number, size: number): number {
    let value = 0
    for (let byte = 0; byte < size; byte++) {
      value += this.#memory.read8(this.start + offset + byte) * 256 ** byte
    }
    return value
  }

  #store({ offset, size, value }: Write): void {
    for (let byte = 0; byte < size; byte++) {
      this.#memory.write8(this.start + offset + byte, (value >>> (8 * byte)) & 0xff)
    }
  }

  #erase(offset: number): void {
    const size = this.#options.blockBytes ?? DEFAULT_BLOCK
    const first = this.start + offset - (offset % size)
    this.#memory.write(first, new Uint8Array(Math.min(size, this.end - first)).fill(0xff))
  }

  /** The query table of the Common Flash Interface, as QEMU fills it in. */
  #query(at: number): number {
    if (at < QUERY_TABLE || at >= QUERY_TABLE_END) return 0
    const bytes = this.end - this.start
    const block = this.#options.blockBytes ?? DEFAULT_BLOCK
    return queryTable(bytes, block)[at - QUERY_TABLE] ?? 0
  }
}

/** The query table from {@link QUERY_TABLE} on, for a flash of so many bytes in blocks of `block` bytes. */
function queryTable(bytes: number, block: number): Uint8Array {
  const table = new Uint8Array(QUERY_TABLE_END - QUERY_TABLE)
  const put = (at: number, ...values: number[]): void => {
    table.set(values, at - QUERY_TABLE)
  }
  // "QRY", command set 0001, its table at 0x31, no other command set.
  put(0x10, 0x51, 0x52, 0x59, 0x01, 0x00, 0x31)
  // Volts from and to, no programming voltage; times as powers of two.
  put(0x1b, 0x45, 0x55, 0x00, 0x00, 0x07, 0x07, 0x0a, 0x00, 0x04, 0x04, 0x04)
  // Size as a power of two, 8 and 16 bits wide, largest buffer, one region of equal blocks.
  put(0x27, 31 - Math.clz32(bytes & -bytes), 0x02, 0x00, LARGEST_BUFFER_SHIFT, 0x00, 0x01)
  // Blocks less one, bytes of a block in units of 256.
  const last = bytes / block - 1
  put(0x2d, last, last >>> 8, block >>> 8, block >>> 16)
  // "PRI", version 1.0.
  put(0x31, 0x50, 0x52, 0x49, 0x31, 0x30)
  return table
}
