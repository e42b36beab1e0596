import {
  type Cpu,
  Efer,
  GeneralProtection,
  isWithinLimit,
  Segment,
  type SegmentNumber,
  SegmentRights,
  StackFault,
} from '@trapdoor/core'
import { DataAccess } from './data-access.ts'
import type { CodeBits } from './decode/decoded-instruction.ts'
import type { MemoryOperand } from './decode/memory-operand.ts'
import { highHalf, join, lowHalf } from './halves.ts'

/** Limit of a segment that is all of the 32-bit address space. */
const NO_LIMIT = 0xffff_ffff
/** Rights by which a segment is data that can be written and does not expand down. */
const DATA_TYPE: number =
  SegmentRights.Present |
  SegmentRights.CodeOrData |
  SegmentRights.Code |
  SegmentRights.ConformingOrExpandDown |
  SegmentRights.ReadableOrWritable
const WRITABLE_DATA: number =
  SegmentRights.Present | SegmentRights.CodeOrData | SegmentRights.ReadableOrWritable

/** How operands become linear addresses: effective addresses, segments, and the stack. */
export abstract class Addressing extends DataAccess {
  /** The high half of the address that {@link address} has made. */
  addressHigh = 0
  #bits: CodeBits = 64
  /** Low half of CS.base, which is 0 in 64-bit mode. */
  protected codeBase = 0
  /** A bit for each segment register whose offsets are linear addresses, which are 32-bit ones outside of 64-bit mode. */
  #flatSegments = 0
  /** The same of pushes and pops with ESP. */
  #isStackFlat = false

  constructor(cpu: Cpu) {
    super(cpu)
    this.selectSegments()
  }

  /** The default size of addresses and operands. */
  get bits(): CodeBits {
    return this.#bits
  }

  /** Takes over what segment registers and EFER say. */
  protected selectSegments(): void {
    const { segments, efer } = this.cpu
    const { rights, base } = segments[Segment.CS]!
    const isLong = (efer & Efer.LMA) !== 0 && (rights & SegmentRights.Long) !== 0
    this.#bits = isLong ? 64 : (rights & SegmentRights.Default32) !== 0 ? 32 : 16
    this.codeBase = isLong ? 0 : lowHalf(base)
    this.#flatSegments = 0
    for (const [number, segment] of segments.entries()) {
      const isFlat = isLong
        ? number !== Segment.FS && number !== Segment.GS
        : segment.base === 0n &&
          segment.limit === NO_LIMIT &&
          (segment.rights & DATA_TYPE) === WRITABLE_DATA
      if (isFlat) this.#flatSegments |= 1 << number
    }
    this.#isStackFlat = !isLong && (this.#flatSegments & (1 << Segment.SS)) !== 0 && this.#isStack32
  }

  segmentLoaded(): void {
    // In 64-bit mode no segment decides about anything that is kept here.
    if (this.#bits !== 64) this.selectSegments()
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
    const linear = this.wrap(base + offset)
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
    if (this.#bits !== 64) this.#checkSegment(segment, Number(offset), 1, { writes: false })
    const linear = this.wrap(this.#segmentBase(segment) + offset)
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
    const low = this.#stackAddress(general, 0, size)
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

  /** In 64-bit mode all segments but FS and GS begin at 0 (SDM Vol. 3, 3.2.4). */
  #segmentBase(segment: SegmentNumber): bigint {
    const isFlat = this.#bits === 64 && segment !== Segment.FS && segment !== Segment.GS
    return isFlat ? 0n : this.cpu.segments[segment]!.base
  }

  get #isStack32(): boolean {
    return (this.cpu.segments[Segment.SS]!.rights & SegmentRights.Default32) !== 0
  }

  /** The linear address so many bytes from the top of the stack: the low half, and the high one in {@link addressHigh}. */
  #stackAddress(general: Int32Array, bytes: number, size = 1): number {
    if (this.#isStackFlat) {
      this.addressHigh = 0
      return (general[8]! + bytes) | 0
    }
    const pointer = join(general[9]!, general[8]!) + BigInt(bytes)
    let linear: bigint
    if (this.#bits === 64) {
      linear = pointer
    } else {
      const offset = BigInt.asUintN(this.#isStack32 ? 32 : 16, pointer)
      const writes = bytes < 0
      this.#checkSegment(Segment.SS, Number(offset), writes ? -bytes : size, { writes })
      linear = BigInt.asUintN(32, this.cpu.segments[Segment.SS]!.base + offset)
    }
    this.addressHigh = highHalf(linear)
    return lowHalf(linear)
  }

  #generalAddress(general: Int32Array, operand: MemoryOperand): number {
    if (operand.addressBits === 32 && (this.#flatSegments & (1 << operand.segment)) !== 0) {
      this.addressHigh = 0
      return (general[operand.base]! + (general[operand.index]! << operand.scale) + operand.low) | 0
    }
    const low = this.effectiveAddress(general, operand)
    if (this.#bits !== 64) {
      this.#checkSegment(operand.segment, low >>> 0, operand.bytes, operand)
    }
    return this.segmentAddress(this.addressHigh, low, 64, operand.segment)
  }

  /** What segments outside of 64-bit mode refuse: accesses beyond their limit, through a null selector, and of a kind that they are not for (SDM Vol. 3, 5.3 to 5.5). */
  #checkSegment(
    number: SegmentNumber,
    offset: number,
    bytes: number,
    { writes }: { readonly writes: boolean },
  ): void {
    const segment = this.cpu.segments[number]!
    const { rights } = segment
    const isCode = (rights & SegmentRights.Code) !== 0
    const isGranted = (rights & SegmentRights.ReadableOrWritable) !== 0
    const isUsable =
      (rights & SegmentRights.Present) !== 0 &&
      (writes ? !isCode && isGranted : !isCode || isGranted)
    if (isUsable && isWithinLimit(segment, offset, bytes)) return
    const Fault = number === Segment.SS ? StackFault : GeneralProtection
    throw this.cpu.raise(
      (site) => new Fault('an access that its segment does not allow', BigInt(offset), site),
    )
  }

  /** An address as RIP or a segment has it: 64 or 32 bits. */
  protected wrap(address: bigint): bigint {
    return BigInt.asUintN(this.#bits === 64 ? 64 : 32, address)
  }
}
