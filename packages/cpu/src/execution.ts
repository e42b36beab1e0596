import {
  type Cpu,
  type CpuExecution,
  DivideError,
  type GateFunction,
  GeneralProtection,
  InvalidOpcode,
  type RunEnd,
  type RunLimits,
} from '@trapdoor/core'
import { CodeFetch } from './code-fetch.ts'
import { NOWHERE } from './data-access.ts'
import type { Block } from './decode/block.ts'
import type { CodeCache } from './decode/code-cache.ts'
import { joinOperations } from './decode/join-operations.ts'
import { MissingInstruction } from './error.ts'
import { highHalf, join, lowHalf } from './halves.ts'
import type { InstructionTable } from './instructions/table.ts'

const PAGE = 4096
/** Instructions between two looks at how many are left. */
const QUOTA = 2 ** 30
const NOTHING = 0
const BLOCK = 1
const SINGLE = 2

/** One CPU as machine code sees it: registers, memory, and the block that it has come to. */
export class Execution extends CodeFetch implements CpuExecution {
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

  readonly #general: Int32Array
  /** Runs after which the operations of a block are joined. */
  readonly #hotAfter: number
  #attention = false
  #halted = false
  #tracer: ((cpu: Cpu) => void) | undefined
  /** Where the run stops, and whether that is in the current page: then blocks must not run over it. */
  #untilLow = 0
  #untilHigh = NOWHERE
  #isNearUntil = false
  /** Whether there is something to look at before the next block. */
  #isCareful = false
  /**
   * What is carried out: a block of {@link blocks}, or one of the single ones; or nothing, and then the block words are RIP itself. Which block it is they tell, too: to keep the block itself would be a
   * write barrier for each.
   */
  #running: number = NOTHING
  /** The last of the single ones. */
  #single: Block | undefined
  /** The operation of the block that is carried out, and the one before which it stops: 0 to leave the block after it. */
  at = 0
  end = 0
  /** Runs that have not ended: one, and those of code that gates have called. */
  #runs = 0
  /** Instructions until the next look, and those that were carried out when the quota was given. */
  #quota = 0
  #counted = 0

  constructor(cpu: Cpu, codes: CodeCache, table: InstructionTable, hotAfter: number) {
    super(cpu, codes, table)
    this.#hotAfter = hotAfter
    this.#general = cpu.general
    this.rip = cpu.rip
    this.statusFlags = cpu.statusFlags
    this.privilegeChanged()
  }

  get rip(): bigint {
    const address = join(this.#general[33]!, this.#general[32]!)
    const block = this.#current
    return block === undefined ? address : this.wrap(address + BigInt(block.offsets[this.at]!))
  }

  set rip(value: bigint) {
    this.#general[32] = lowHalf(value)
    this.#general[33] = highHalf(value)
    this.#running = NOTHING
  }

  get isRunning(): boolean {
    return this.#runs !== 0
  }

  get instructions(): number {
    return this.#counted - this.#quota + (this.#current?.counts[this.at] ?? 0)
  }

  /** Set to have {@link attend} called before the next block. */
  get attention(): boolean {
    return this.#attention
  }

  set attention(value: boolean) {
    this.#attention = value
    this.#takeCare()
  }

  /** Whether HLT has stopped the CPU. */
  get halted(): boolean {
    return this.#halted
  }

  set halted(value: boolean) {
    this.#halted = value
    this.#takeCare()
  }

  /** Told before each instruction, while it is set; the address is RIP. */
  get tracer(): ((cpu: Cpu) => void) | undefined {
    return this.#tracer
  }

  set tracer(value: ((cpu: Cpu) => void) | undefined) {
    this.#tracer = value
    this.#takeCare()
  }

  protected get usesStackSegment(): boolean {
    return this.#current?.stackOperands[this.at] ?? false
  }

  override stop(): void {
    this.end = 0
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
    const carry = (bytes >> 31) + (next >>> 0 < low >>> 0 ? 1 : 0)
    if (carry !== 0) general[33] = this.bits === 64 ? (general[33]! + carry) | 0 : 0
  }

  /** Leaves the block in 64-bit mode, for where a jump leads that is taken: so many bytes from its beginning. */
  leave(general: Int32Array, distance: number, distanceHigh: number): void {
    const low = general[32]!
    const next = (low + distance) | 0
    general[33] = general[33]! + distanceHigh + (next >>> 0 < low >>> 0 ? 1 : 0)
    general[32] = next
    this.#running = NOTHING
    this.end = 0
  }

  /** Leaves the block, for the address that the block words have. */
  leaveBlock(): void {
    this.#running = NOTHING
    this.end = 0
  }

  /** Runs a gate's function, from an operation that ends its block. */
  leaveForGate(gate: GateFunction): void {
    this.cpu.runGate(gate)
    this.end = 0
  }

  /** See {@link InstructionExecutor}. */
  run({ until, maxInstructions = Infinity }: RunLimits): RunEnd {
    // A gate that code has called may have called code: that run goes on afterwards.
    const outer = { low: this.#untilLow, high: this.#untilHigh, quota: this.#quota }
    const before = this.instructions
    this.#untilLow = until === undefined ? 0 : lowHalf(until.rip)
    this.#untilHigh = until === undefined ? NOWHERE : highHalf(until.rip)
    this.codeHigh = NOWHERE
    this.halted = false
    this.#runs++
    try {
      return this.#runUntil(until?.rsp, before + maxInstructions)
    } finally {
      this.#runs--
      const now = this.instructions
      this.#untilLow = outer.low
      this.#untilHigh = outer.high
      this.#quota = outer.quota - (now - before)
      this.#counted = now + this.#quota
      this.codeHigh = NOWHERE
    }
  }

  #runUntil(rsp: bigint | undefined, target: number): RunEnd {
    const general = this.#general
    for (;;) {
      const isThere = general[32] === this.#untilLow && general[33] === this.#untilHigh
      if (isThere && this.cpu.rsp === rsp) return 'returned'
      const left = target - this.instructions
      if (left <= 0) return 'instruction-limit'
      const before = this.instructions
      this.#quota = Math.min(left, QUOTA)
      this.#counted = before + this.#quota
      try {
        this.#loop()
      } catch (error) {
        this.#settle()
        if (this.onException?.(error) !== true) throw error
      }
      if (this.#halted) return 'halted'
    }
  }

  /** Carries out blocks until the quota is used up, something asks for a stop, or RIP is where the caller wants to look. */
  #loop(): void {
    const general = this.#general
    const untilLow = this.#untilLow
    const untilHigh = this.#untilHigh
    do {
      if (this.#isCareful) {
        if (!this.#carefully()) return
      } else {
        if (this.#quota <= 0) return
        const low = (general[32]! + this.codeBase) | 0
        const high = general[33]!
        if (high !== this.codeHigh || (low & -4096) !== this.codeLow) {
          this.#turnTo(high, low)
          if (this.#isNearUntil) continue
        }
        const block = this.blocks[low & 4095] ?? this.findBlock(high, low)
        if (block.instructions <= this.#quota) this.#carryOut(general, block)
        else this.#carryOutOne(general, this.findSingle(high, low))
      }
    } while (general[32] !== untilLow || general[33] !== untilHigh)
  }

  #carryOut(general: Int32Array, block: Block): void {
    this.#running = BLOCK
    const { whole } = block
    const at = whole === undefined ? this.#carryOutEach(general, block) : whole(general, this)
    if (this.#running === NOTHING) {
      this.#quota -= block.ends[at - 1]!
      return
    }
    this.#quota -= block.counts[at]!
    this.#running = NOTHING
    const further = block.offsets[at]!
    if (further !== 0) this.branch(general, further)
  }

  /** Carries out the operations of a block one by one until it is hot, and returns how many they were. */
  #carryOutEach(general: Int32Array, block: Block): number {
    if (block.runs >= this.#hotAfter) {
      const whole = joinOperations(block)
      block.whole = whole
      return whole(general, this)
    }
    block.runs++
    const { operations } = block
    this.end = operations.length
    let at = 0
    do {
      this.at = at
      // A call through the array would pass it as the receiver.
      const operation = operations[at]!
      operation(general, this)
      at++
    } while (at < this.end)
    return at
  }

  /** Looks at what there is to look at, and then carries out as much as that allows; false for an end of the run. */
  #carefully(): boolean {
    // What waits for the next instruction waits until there is one.
    if (this.#halted || this.#quota <= 0) return false
    const isAlone = this.#attention && this.#callAttend()
    const general = this.#general
    const low = (general[32]! + this.codeBase) | 0
    const high = general[33]!
    if (high !== this.codeHigh || (low & -4096) !== this.codeLow) this.#turnTo(high, low)
    const block = this.blocks[low & 4095] ?? this.findBlock(high, low)
    if (
      isAlone ||
      this.#tracer !== undefined ||
      block.instructions > this.#quota ||
      this.#runsOver(block)
    ) {
      this.#tracer?.(this.cpu)
      this.#carryOutOne(general, this.findSingle(high, low))
    } else {
      this.#carryOut(general, block)
    }
    return true
  }

  /** Whether an instruction of a block, the first apart, is where the run stops. */
  #runsOver({ starts }: Block): boolean {
    if (!this.#isNearUntil) return false
    const distance = (this.#untilLow - this.#general[32]!) | 0
    return distance !== 0 && starts.includes(distance)
  }

  /** Carries out an instruction alone. */
  #carryOutOne(general: Int32Array, block: Block): void {
    this.#single = block
    this.#running = SINGLE
    this.at = 0
    this.end = 1
    const operation = block.operations[0]!
    operation(general, this)
    this.#quota--
    if (this.#running !== NOTHING) {
      this.#running = NOTHING
      const further = block.offsets[1]!
      if (further !== 0) this.branch(general, further)
    }
  }

  /** Goes on in another page. */
  #turnTo(high: number, low: number): void {
    this.enterPage(high, low)
    const isNear =
      high === this.#untilHigh && ((low ^ (this.#untilLow + this.codeBase)) & -PAGE) === 0
    if (isNear === this.#isNearUntil) return
    this.#isNearUntil = isNear
    this.#takeCare()
  }

  #takeCare(): void {
    this.#isCareful =
      this.#attention || this.#halted || this.#tracer !== undefined || this.#isNearUntil
  }

  /** The block that is carried out, until its last operation has set the block words. */
  get #current(): Block | undefined {
    if (this.#running === NOTHING) return undefined
    if (this.#running === SINGLE) return this.#single
    return this.blocks[(this.#general[32]! + this.codeBase) & 4095] ?? this.across
  }

  #callAttend(): boolean {
    if (this.attend !== undefined) return this.attend()
    this.attention = false
    return false
  }

  /** Notes where the instruction stands that raised an exception: what was carried out of its block is, the rest was not. */
  #settle(): void {
    const block = this.#current
    if (block === undefined) return
    const { rip } = this
    this.#quota -= block.counts[this.at]!
    this.rip = rip
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
