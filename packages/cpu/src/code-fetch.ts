import type { Cpu, FrameObserver } from '@trapdoor/core'
import { Addressing } from './addressing.ts'
import { NOWHERE } from './data-access.ts'
import type { Block } from './decode/block.ts'
import type { CodeCache, CodeFrame } from './decode/code-cache.ts'
import { translateBlock } from './decode/translate-block.ts'
import { join } from './halves.ts'
import type { InstructionTable } from './instructions/table.ts'

const PAGE = 4096
const CODE_WINDOWS = 64
/** No page is larger. */
const GIB_SHIFT = 30
/** The longest instruction (SDM Vol. 2, 2.3.11). */
const LONGEST = 15
const NO_BLOCKS: readonly undefined[] = []

/** A page that code is fetched from, until somebody says otherwise. */
interface CodeWindow {
  high: number
  low: number
  frame: number
  code: CodeFrame | undefined
  /** What {@link CodeFrame.blocks} has of `code`, for instructions of so many bits. */
  blocks: readonly (Block | undefined)[]
  bits: number
}

/** Where the next block comes from: fetches through the MMU, and what was decoded of the frames that they reach. */
export abstract class CodeFetch extends Addressing implements FrameObserver {
  /** The linear page that the current block lies in, and its blocks by their offset in it. */
  protected codeHigh: number = NOWHERE
  protected codeLow = 0
  protected blocks: readonly (Block | undefined)[] = NO_BLOCKS
  protected code: CodeFrame | undefined
  /** The last block that {@link findBlock} found in two pages. */
  protected across: Block | undefined
  readonly #codes: CodeCache
  readonly #table: InstructionTable
  #windows: CodeWindow[] = newWindows()
  readonly #supervisors: CodeWindow[] = this.#windows
  /** Those of privilege level 3, once there is code of it. */
  #users: CodeWindow[] | undefined
  #isUser = false

  constructor(cpu: Cpu, codes: CodeCache, table: InstructionTable) {
    super(cpu)
    this.#codes = codes
    this.#table = table
  }

  /** Leaves the block after the instruction that is carried out. */
  abstract stop(): void

  translationsChanged(): void {
    this.dropWindows()
    this.#dropCode()
  }

  pageDropped(high: number, low: number): void {
    this.dropAround(high, low)
    for (const windows of this.#allWindows()) {
      for (const window of windows) {
        if (window.high === high && (window.low ^ low) >>> GIB_SHIFT === 0) window.high = NOWHERE
      }
    }
    if (this.codeHigh !== high || (this.codeLow ^ low) >>> GIB_SHIFT !== 0) return
    this.codeHigh = NOWHERE
    this.stop()
  }

  privilegeChanged(): void {
    const isUser = this.cpu.cpl === 3
    if (isUser === this.#isUser) return
    this.#isUser = isUser
    this.selectWindows({ isUser })
    this.#windows = isUser ? (this.#users ??= newWindows()) : this.#supervisors
    this.codeHigh = NOWHERE
    this.stop()
  }

  tablesChanged(): void {
    this.translationsChanged()
  }

  framesMoved(): void {
    this.translationsChanged()
  }

  frameMoved(frame: number): void {
    this.dropFrame(frame)
    const isFetched = this.#allWindows().some((windows) =>
      windows.some((window) => window.frame === frame),
    )
    if (isFetched) this.#dropCode()
  }

  codeWritten(frame: number, start: number, end: number): void {
    this.#codes.written(this.memory, frame, start, end)
    // Another CPU's execution may have been told before.
    if (this.code?.isCurrent === false) this.#dropCode()
  }

  protected isDecoded(frame: number, start: number, end: number): boolean {
    return this.#codes.isDecoded(this.memory, frame, start, end)
  }

  /** Makes the page of a linear address the current one: a fetch, with all that it may raise. */
  protected enterPage(high: number, low: number): void {
    const window = this.#windows[(low >>> 12) & (CODE_WINDOWS - 1)]!
    const { code: known } = window
    const isKnown =
      window.high === high && window.low === (low & -PAGE) && window.bits === this.bits
    if (isKnown && known!.isCurrent) {
      // Nothing is recorded while there are windows.
      this.code = known
      this.blocks = window.blocks
      this.codeHigh = high
      this.codeLow = low & -PAGE
      return
    }
    const code = this.#fetch(high, low)
    this.code = code
    this.blocks = code.blocks(this.bits)
    // While every access is recorded, every block is a fetch.
    this.codeHigh = this.cpu.recordsEveryAccess ? NOWHERE : high
    this.codeLow = low & -PAGE
  }

  /** The block at an address of the current page that is not among {@link blocks}: one that was not decoded, or one that lies in two pages. */
  protected findBlock(high: number, low: number): Block {
    const code = this.code!
    const offset = low & (PAGE - 1)
    const across = code.across(this.bits).get(offset)
    if (across !== undefined && across.second === this.#fetchNext(high, low)) {
      this.across = across
      return across
    }
    const block = this.#translate(high, low)
    if (block.second === undefined) {
      code.blocks(this.bits)[offset] = block
    } else {
      code.across(this.bits).set(offset, block)
      this.across = block
    }
    return block
  }

  /** The instruction at an address of the current page, alone. */
  protected findSingle(high: number, low: number): Block {
    const singles = this.code!.singles(this.bits)
    const offset = low & (PAGE - 1)
    const known = singles[offset]
    if (known !== undefined) {
      if (known.second === undefined || known.second === this.#fetchNext(high, low)) return known
    }
    const block = this.#translate(high, low, 1)
    singles[offset] = block
    return block
  }

  #fetch(high: number, low: number): CodeFrame {
    const { cpu } = this
    const window = this.#windows[(low >>> 12) & (CODE_WINDOWS - 1)]!
    const pageLow = low & -PAGE
    if (window.high === high && window.low === pageLow && window.code?.isCurrent === true) {
      return window.code
    }
    const physical = cpu.translate(join(high, low), 'execute')
    const frame = Math.floor(physical / PAGE)
    const code = this.#codes.frame(this.memory, frame)
    if (!cpu.recordsEveryAccess) {
      window.high = high
      window.low = pageLow
      window.frame = frame
      window.code = code
      window.blocks = code.blocks(this.bits)
      window.bits = this.bits
    }
    return code
  }

  /** Fetches the page behind that of an address. */
  #fetchNext(high: number, low: number): CodeFrame {
    const nextLow = ((low & -PAGE) + PAGE) | 0
    return this.#fetch(nextLow === 0 ? (high + 1) | 0 : high, nextLow)
  }

  #translate(high: number, low: number, limit?: number): Block {
    const start = low & (PAGE - 1)
    const code = this.code!
    const source = {
      bits: this.bits,
      table: this.#table,
      ...(limit === undefined ? {} : { limit }),
    }
    const bytes = this.#pageBytes(high, low)
    const block = translateBlock({
      ...source,
      bytes,
      start,
      mark: (from, to) => {
        code.markDecoded(from, to)
      },
    })
    if (block !== undefined) return block
    const second = this.#fetchNext(high, low)
    const nextLow = ((low & -PAGE) + PAGE) | 0
    const following = this.#pageBytes(nextLow === 0 ? (high + 1) | 0 : high, nextLow)
    const both = new Uint8Array(PAGE - start + LONGEST)
    both.set(bytes.subarray(start))
    both.set(following.subarray(0, LONGEST), PAGE - start)
    const across = translateBlock({
      ...source,
      bytes: both,
      start: 0,
      limit: 1,
      mark: (from, to) => {
        code.markDecoded(start + from, PAGE)
        second.markDecoded(0, start + to - PAGE)
      },
    })
    return { ...across!, second }
  }

  /** The bytes of a page that was just fetched. */
  #pageBytes(high: number, low: number): Uint8Array {
    const physical = this.cpu.peekPhysical(join(high, low))!
    return this.memory.read(physical - (physical % PAGE), PAGE)
  }

  #allWindows(): CodeWindow[][] {
    return this.#users === undefined ? [this.#supervisors] : [this.#supervisors, this.#users]
  }

  #dropCode(): void {
    for (const windows of this.#allWindows()) {
      for (const window of windows) window.high = NOWHERE
    }
    this.codeHigh = NOWHERE
    this.stop()
    this.selectSegments()
  }
}

function newWindows(): CodeWindow[] {
  return Array.from({ length: CODE_WINDOWS }, () => ({
    high: NOWHERE,
    low: 0,
    frame: -1,
    code: undefined,
    blocks: NO_BLOCKS,
    bits: 0,
  }))
}
