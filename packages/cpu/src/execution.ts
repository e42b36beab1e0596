import {
  type Cpu,
  type CpuExecution,
  DivideError,
  type FrameObserver,
  type GateFunction,
  GeneralProtection,
  InvalidOpcode,
  type RunEnd,
  type RunLimits,
  Segment,
  type SegmentNumber,
  SegmentRights,
  Efer,
} from '@trapdoor/core'
import { DataAccess, NOWHERE } from './data-access.ts'
import type { Block } from './decode/block.ts'
import type { CodeCache, CodeFrame } from './decode/code-cache.ts'
import type { CodeBits } from './decode/decoded-instruction.ts'
import type { MemoryOperand } from './decode/memory-operand.ts'
import { translateBlock } from './decode/translate-block.ts'
import { MissingInstruction } from './error.ts'
import { highHalf, join, lowHalf } from './halves.ts'
import type { InstructionTable } from './instructions/table.ts'

const PAGE = 4096
const CODE_WINDOWS = 64
/** The longest instruction (SDM Vol. 2, 2.3.11). */
const LONGEST = 15
/** Instructions between two looks at how many are left. */
const QUOTA = 2 ** 30
const NOTHING = 0
const BLOCK = 1
const SINGLE = 2
const NO_BLOCKS: readonly undefined[] = []

/** A page that code is fetched from, until somebody says otherwise. */
interface CodeWindow {
  high: number
  low: number
  frame: number
  code: CodeFrame | undefined
}

/** One CPU as machine code sees it: registers, memory, and the block that it has come to. */
export class Execution extends DataAccess implements CpuExecution, FrameObserver {
  /** The high half of the address that {@link address} has made. */
  addressHigh = 0
  /** Set to have {@link attend} called before the next block. */
  attention = false
  /**
   * What is done when somebody has asked for attention, such as taking an interrupt. It may change RIP, and it resets {@link attention}. It returns whether the next instruction is to be carried out
   * alone.
   */
  attend: (() => boolean) | undefined
  /** Told of what an instruction has thrown; returns whether code can go on, at RIP. */
  onException: ((error: unknown) => boolean) | undefined
  /** A single-step trap is due when the instruction that is carried out is done. */
  singleStepDue = false
  /** What does not come between the last instruction and the next: nothing, or interrupts, as after STI and a load of SS. */
  shadow: 'none' | 'interrupts' = 'none'
  /** Non-maskable interrupts wait for an IRET (SDM Vol. 3, 6.7.1). */
  nmiBlocked = false
  /** Whether HLT has stopped the CPU. */
  halted = false
  /** Told before each instruction, while it is set; the address is RIP. */
  tracer: ((cpu: Cpu) => void) | undefined

  readonly #general: Int32Array
  readonly #codes: CodeCache
  readonly #table: InstructionTable
  readonly #windows: CodeWindow[] = Array.from({ length: CODE_WINDOWS }, () => ({
    high: NOWHERE,
    low: 0,
    frame: -1,
    code: undefined,
  }))
  /** The page that the current block lies in, and its blocks. */
  #codeHigh = NOWHERE
  #codeLow = 0
  #code: CodeFrame | undefined
  #blocks: readonly (Block | undefined)[] = NO_BLOCKS
  #bits: CodeBits = 64
  /** Low half of CS.base, which is 0 in 64-bit mode. */
  #codeBase = 0
  /**
   * What is carried out: a block of {@link #blocks}, or one of the single ones; or nothing, and then the block words are RIP itself. Which block it is they tell, too: to keep the block itself would be a
   * write barrier for each.
   */
  #running: typeof NOTHING | typeof BLOCK | typeof SINGLE = NOTHING
  /** The instruction of the block that is carried out, and before which it stops. */
  #at = 0
  #end = 0
  /** Instructions until the next look, and those that were carried out when the quota was given. */
  #quota = 0
  #counted = 0

  constructor(cpu: Cpu, codes: CodeCache, table: InstructionTable) {
    super(cpu)
    this.#general = cpu.general
    this.#codes = codes
    this.#table = table
    this.rip = cpu.rip
    this.statusFlags = cpu.statusFlags
    this.#selectBits()
  }

  get rip(): bigint {
    const address = join(this.#general[33]!, this.#general[32]!)
    const block = this.#current
    return block === undefined ? address : this.#wrap(address + BigInt(block.offsets[this.#at]!))
  }

  set rip(value: bigint) {
    this.#general[32] = lowHalf(value)
    this.#general[33] = highHalf(value)
    this.#running = NOTHING
  }

  get instructions(): number {
    return this.#counted - this.#quota + (this.#running === NOTHING ? 0 : this.#at)
  }

  /** The default size of addresses and operands. */
  get bits(): CodeBits {
    return this.#bits
  }

  protected get usesStackSegment(): boolean {
    return this.#current?.stackOperands[this.#at] ?? false
  }

  protected isDecoded(frame: number, start: number, end: number): boolean {
    return this.#codes.isDecoded(this.memory, frame, start, end)
  }

  translationsChanged(): void {
    this.dropWindows()
    this.#dropCode()
  }

  tablesChanged(): void {
    this.dropWindows()
    this.#dropCode()
  }

  framesMoved(): void {
    this.dropWindows()
    this.#dropCode()
  }

  frameMoved(frame: number): void {
    this.dropFrame(frame)
    if (this.#windows.some((window) => window.frame === frame)) this.#dropCode()
  }

  codeWritten(frame: number, start: number, end: number): void {
    this.#codes.written(this.memory, frame, start, end)
    // Another CPU's execution may have been told before.
    if (this.#code?.isCurrent === false) this.#dropCode()
  }

  /** Leaves the block after the instruction that is carried out. */
  stop(): void {
    this.#end = 0
  }

  /** Has {@link attend} called when the instruction that is carried out is done. */
  callAttention(): void {
    this.attention = true
    this.stop()
  }

  /** Keeps interrupts away until the next instruction is done, and with `traps` the single-step trap of this one. */
  shadowNext({ traps }: { readonly traps: boolean }): void {
    this.shadow = 'interrupts'
    if (traps) this.singleStepDue = false
    this.callAttention()
  }

  /** Counts iterations of a repeated string instruction beyond the one that every instruction counts as. */
  countIterations(count: number): void {
    this.#quota -= count
  }

  /** Instructions until the run looks how many are left. */
  get quota(): number {
    return this.#quota
  }

  /** Sets RIP so many bytes from the beginning of the block, from an operation that ends it. */
  branch(general: Int32Array, bytes: number): void {
    const low = general[32]!
    const next = (low + bytes) | 0
    general[32] = next
    if (next >>> 0 < low >>> 0) general[33] = this.#bits === 64 ? (general[33]! + 1) | 0 : 0
  }

  /** Runs a gate's function, from an operation that ends its block. */
  leaveForGate(gate: GateFunction): void {
    this.cpu.runGate(gate)
    this.#end = 0
  }

  /** Makes the linear address of an operand: returns the low half, leaves the high one in {@link addressHigh}. */
  address(general: Int32Array, operand: MemoryOperand): number {
    const base = general[operand.base]!
    let low = (base + operand.low) | 0
    let high = (general[operand.base + 1]! + operand.high + (low >>> 0 < base >>> 0 ? 1 : 0)) | 0
    if (operand.kind !== 0) {
      if (operand.kind === 2) return this.#generalAddress(general, operand)
      const { scale } = operand
      const index = general[operand.index]!
      const scaled = index << scale
      // Shifted in two steps, as a shift by 32 is one by 0.
      const scaledHigh = (general[operand.index + 1]! << scale) | ((index >>> 1) >>> (31 - scale))
      low = (low + scaled) | 0
      high = (high + scaledHigh + (low >>> 0 < scaled >>> 0 ? 1 : 0)) | 0
    }
    this.addressHigh = high
    return low
  }

  /** The linear address so many bytes from one that {@link address} has just made for an operand. */
  addressBeyond(low: number, bytes: bigint, { addressBits, segment }: MemoryOperand): number {
    if (bytes === 0n) return low
    const base = this.#segmentBase(segment)
    const offset = BigInt.asUintN(addressBits, join(this.addressHigh, low) - base + bytes)
    const linear = this.#wrap(base + offset)
    this.addressHigh = highHalf(linear)
    return lowHalf(linear)
  }

  /** The offset of an operand in its segment, which is what LEA gives: as {@link address}. */
  effectiveAddress(general: Int32Array, operand: MemoryOperand): number {
    const base = join(general[operand.base + 1]!, general[operand.base]!)
    const index = join(general[operand.index + 1]!, general[operand.index]!)
    const sum = base + (index << BigInt(operand.scale)) + join(operand.high, operand.low)
    const offset = BigInt.asUintN(operand.addressBits, sum)
    this.addressHigh = highHalf(offset)
    return lowHalf(offset)
  }

  /** The linear address of an offset in a segment, of which `bits` bits count: as {@link address}. */
  segmentAddress(high: number, low: number, bits: 16 | 32 | 64, segment: SegmentNumber): number {
    const offset = BigInt.asUintN(bits, join(high, low))
    const linear = this.#wrap(this.#segmentBase(segment) + offset)
    this.addressHigh = highHalf(linear)
    return lowHalf(linear)
  }

  /** Pushes 64 bits, in 64-bit mode. */
  push64(general: Int32Array, low: number, high: number): void {
    const top = general[8]!
    const newTop = (top - 8) | 0
    const newHigh = top >>> 0 < 8 ? (general[9]! - 1) | 0 : general[9]!
    this.storeStack64(newHigh, newTop, low, high)
    general[8] = newTop
    general[9] = newHigh
  }

  /** Pushes 16 or 32 bits, in any mode. */
  push(general: Int32Array, size: 2 | 4, value: number): void {
    const low = this.#stackAddress(general, -size)
    this.storeStack(this.addressHigh, low, size, value)
    this.addToStackPointer(general, -size)
  }

  /** Pops 16 or 32 bits, in any mode. */
  pop(general: Int32Array, size: 2 | 4): number {
    const value = this.top(general, size)
    this.addToStackPointer(general, size)
    return value
  }

  /** The 16 or 32 bits on top of the stack. */
  top(general: Int32Array, size: 2 | 4): number {
    const low = this.#stackAddress(general, 0)
    return this.loadStack(this.addressHigh, low, size)
  }

  /** Raises what a store to the top of the stack would raise; nothing is written. */
  checkStackWrite(general: Int32Array): void {
    const low = this.#stackAddress(general, 0)
    this.cpu.translate(join(this.addressHigh, low), 'write', { stack: true })
  }

  /** LEAVE with 16 or 32 bits, in any mode: RSP becomes RBP, and what is popped is returned. */
  leaveFrame(general: Int32Array, size: 2 | 4): number {
    const low = general[8]!
    const high = general[9]!
    general[8] = general[10]!
    general[9] = general[11]!
    try {
      return this.pop(general, size)
    } catch (error) {
      general[8] = low
      general[9] = high
      throw error
    }
  }

  /** Moves RSP, ESP or SP, as the stack segment has it. */
  addToStackPointer(general: Int32Array, bytes: number): void {
    const low = general[8]!
    const moved = low + bytes
    if (this.#bits === 64) {
      general[8] = moved
      const sum = (low >>> 0) + bytes
      if (sum > 0xffff_ffff) general[9] = general[9]! + 1
      else if (sum < 0) general[9] = general[9]! - 1
    } else if (this.#isStack32) {
      general[8] = moved
    } else {
      general[8] = (low & ~0xffff) | (moved & 0xffff)
    }
  }

  /** #GP(0) for an address that RIP cannot be. */
  checkCanonical(high: number, low: number): void {
    const top = high >> (this.cpu.mode.linearBits === 57 ? 24 : 15)
    if (top !== 0 && top !== -1) {
      throw this.generalProtection(
        'a branch leads to an address that is not canonical',
        join(high, low),
      )
    }
  }

  /** See {@link InstructionExecutor}. */
  run({ until, maxInstructions = Infinity }: RunLimits): RunEnd {
    const untilLow = until === undefined ? 0 : lowHalf(until.rip)
    const untilHigh = until === undefined ? NOWHERE : highHalf(until.rip)
    const target = this.instructions + maxInstructions
    this.halted = false
    for (;;) {
      if (
        this.#general[32] === untilLow &&
        this.#general[33] === untilHigh &&
        this.cpu.rsp === until?.rsp
      ) {
        return 'returned'
      }
      const left = target - this.instructions
      if (left <= 0) return 'instruction-limit'
      const before = this.instructions
      this.#quota = Math.min(left, QUOTA)
      this.#counted = before + this.#quota
      try {
        this.#loop(untilLow, untilHigh)
      } catch (error) {
        this.#settle()
        if (this.onException?.(error) !== true) throw error
      }
      if (this.halted) return 'halted'
    }
  }

  /** Carries out blocks until the quota is used up, something asks for a stop, or RIP is where the caller wants to look. */
  #loop(untilLow: number, untilHigh: number): void {
    const general = this.#general
    for (;;) {
      this.#running = NOTHING
      const isAlone = this.attention && this.#callAttend()
      const low = (general[32]! + this.#codeBase) | 0
      const high = general[33]!
      if (high !== this.#codeHigh || (low & -4096) !== this.#codeLow) this.#enterPage(high, low)
      let block = this.#blocks[low & 4095]
      if (block === undefined || block.second !== undefined) block = this.#find(high, low)
      const { operations } = block
      const { length } = operations
      if (isAlone || block.instructions > this.#quota || this.tracer !== undefined) {
        if (this.#quota <= 0) return
        this.tracer?.(this.cpu)
        this.#runOne()
      } else {
        this.#running = BLOCK
        this.#end = length
        let at = 0
        do {
          this.#at = at
          // A call through the array would pass it as the receiver.
          const operation = operations[at]!
          operation(general, this)
          at++
        } while (at < this.#end)
        this.#quota -= at === length ? block.instructions : at
        if (at < length || !block.setsNext) this.branch(general, block.offsets[at]!)
      }
      if (general[32] === untilLow && general[33] === untilHigh) break
      if (this.halted) break
    }
    this.#running = NOTHING
  }

  /** The block that is carried out, until its last operation has set the block words. */
  get #current(): Block | undefined {
    if (this.#running === NOTHING) return undefined
    const blocks = this.#running === BLOCK ? this.#blocks : this.#code!.singles(this.#bits)
    return blocks[(this.#general[32]! + this.#codeBase) & 4095]
  }

  #callAttend(): boolean {
    if (this.attend !== undefined) return this.attend()
    this.attention = false
    return false
  }

  /** Carries out the next instruction alone. */
  #runOne(): void {
    const general = this.#general
    const low = (general[32]! + this.#codeBase) | 0
    const high = general[33]!
    this.#running = NOTHING
    if (high !== this.#codeHigh || (low & -4096) !== this.#codeLow) this.#enterPage(high, low)
    const singles = this.#code!.singles(this.#bits)
    let block = singles[low & 4095]
    if (
      block === undefined ||
      (block.second !== undefined && block.second !== this.#fetchSecond(high, low))
    ) {
      block = this.#translate(high, low, 1)
      singles[low & 4095] = block
    }
    this.#running = SINGLE
    this.#at = 0
    this.#end = 1
    block.operations[0]!(general, this)
    this.#quota--
    if (!block.setsNext) this.branch(general, block.offsets[1]!)
    this.#running = NOTHING
  }

  /** Notes where the instruction stands that raised an exception: what was carried out of its block is, the rest was not. */
  #settle(): void {
    if (this.#running === NOTHING) return
    this.#quota -= this.#at
    const { rip } = this
    this.rip = rip
  }

  /** Makes the page of an address the current one: a fetch, with all that it may raise. */
  #enterPage(high: number, low: number): void {
    const code = this.#fetchCode(high, low)
    this.#code = code
    this.#blocks = code.blocks(this.#bits)
    // While touches are recorded, every block is a fetch.
    if (this.cpu.touchRecorder === undefined) {
      this.#codeHigh = high
      this.#codeLow = low & -4096
    }
  }

  #fetchCode(high: number, low: number): CodeFrame {
    const { cpu } = this
    const window = this.#windows[(low >>> 12) & (CODE_WINDOWS - 1)]!
    const pageLow = low & -4096
    if (window.high === high && window.low === pageLow && window.code?.isCurrent === true) {
      return window.code
    }
    const physical = cpu.translate(join(high, low), 'execute')
    const frame = Math.floor(physical / PAGE)
    const code = this.#codes.frame(this.memory, frame)
    if (cpu.touchRecorder === undefined) {
      window.high = high
      window.low = pageLow
      window.frame = frame
      window.code = code
    }
    return code
  }

  /** The block at an address of the current page that has not been decoded, or that ends in another page. */
  #find(high: number, low: number): Block {
    const known = this.#blocks[low & 4095]
    if (known?.second !== undefined && this.#fetchSecond(high, low) === known.second) return known
    const block = this.#translate(high, low)
    const code = this.#code!
    code.blocks(this.#bits)[low & 4095] = block
    return block
  }

  #fetchSecond(high: number, low: number): CodeFrame {
    const nextLow = ((low & -4096) + PAGE) | 0
    return this.#fetchCode(nextLow === 0 ? (high + 1) | 0 : high, nextLow)
  }

  #translate(high: number, low: number, limit?: number): Block {
    const offset = low & 4095
    const code = this.#code!
    const physical = this.#physicalCode(high, low)
    const source = {
      bits: this.#bits,
      table: this.#table,
      ...(limit === undefined ? {} : { limit }),
    }
    const bytes = this.memory.read(physical, PAGE - offset)
    const whole = translateBlock({ ...source, bytes })
    if (whole !== undefined) {
      code.markDecoded(offset, offset + whole.offsets.at(-1)!)
      return whole
    }
    const second = this.#fetchSecond(high, low)
    const nextLow = ((low & -4096) + PAGE) | 0
    const nextPhysical = this.#physicalCode(nextLow === 0 ? (high + 1) | 0 : high, nextLow)
    const across = new Uint8Array(bytes.length + LONGEST)
    across.set(bytes)
    across.set(this.memory.read(nextPhysical, LONGEST), bytes.length)
    const block = translateBlock({ ...source, bytes: across, limit: 1 })
    if (block === undefined) throw this.invalidOpcode(across.slice(0, 8))
    code.markDecoded(offset, PAGE)
    second.markDecoded(0, offset + block.offsets.at(-1)! - PAGE)
    return { ...block, second }
  }

  /** Where code lies that was just fetched. */
  #physicalCode(high: number, low: number): number {
    return this.cpu.peekPhysical(join(high, low))!
  }

  #dropCode(): void {
    for (const window of this.#windows) window.high = NOWHERE
    this.#codeHigh = NOWHERE
    this.#end = 0
    this.#selectBits()
  }

  #selectBits(): void {
    const { rights, base } = this.cpu.segments[Segment.CS]!
    const isLong = (this.cpu.efer & Efer.LMA) !== 0 && (rights & SegmentRights.Long) !== 0
    this.#bits = isLong ? 64 : (rights & SegmentRights.Default32) !== 0 ? 32 : 16
    this.#codeBase = isLong ? 0 : lowHalf(base)
  }

  /** In 64-bit mode all segments but FS and GS begin at 0 (SDM Vol. 3, 3.2.4). */
  #segmentBase(segment: SegmentNumber): bigint {
    const isFlat = this.#bits === 64 && segment !== Segment.FS && segment !== Segment.GS
    return isFlat ? 0n : this.cpu.segments[segment]!.base
  }

  get #isStack32(): boolean {
    return (this.cpu.segments[Segment.SS]!.rights & SegmentRights.Default32) !== 0
  }

  /** The linear address so many bytes from the top of the stack: the low half, and the high one in {@link addressHigh}. */
  #stackAddress(general: Int32Array, bytes: number): number {
    const pointer = join(general[9]!, general[8]!) + BigInt(bytes)
    let linear: bigint
    if (this.#bits === 64) {
      linear = pointer
    } else {
      const offset = BigInt.asUintN(this.#isStack32 ? 32 : 16, pointer)
      linear = BigInt.asUintN(32, this.cpu.segments[Segment.SS]!.base + offset)
    }
    this.addressHigh = highHalf(linear)
    return lowHalf(linear)
  }

  #generalAddress(general: Int32Array, operand: MemoryOperand): number {
    const low = this.effectiveAddress(general, operand)
    return this.segmentAddress(this.addressHigh, low, 64, operand.segment)
  }

  #wrap(address: bigint): bigint {
    return BigInt.asUintN(this.#bits === 64 ? 64 : 32, address)
  }

  /** #UD for bytes that are no instruction. */
  invalidOpcode(bytes: Uint8Array): InvalidOpcode {
    const { rip } = this
    const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const message = `no instruction at 0x${rip.toString(16).padStart(16, '0')}: ${text}`
    return this.cpu.raise((site) => new InvalidOpcode(message, rip, bytes, site))
  }

  missingInstruction(text: string, bytes: Uint8Array): MissingInstruction {
    const { rip, cpu } = this
    const physical = cpu.peekPhysical(rip) ?? 0
    const owner = this.memory.owners.get(Math.floor(physical / PAGE))
    return new MissingInstruction(rip, bytes, text, owner?.name ?? 'unknown code')
  }

  divideError(): DivideError {
    return this.cpu.raise((site) => new DivideError(site))
  }

  generalProtection(reason: string, value = 0n): GeneralProtection {
    return this.cpu.raise((site) => new GeneralProtection(reason, value, site))
  }
}
