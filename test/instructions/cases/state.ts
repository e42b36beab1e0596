import { FlowControl } from 'iced-x86'

import type { Random } from '../../emulators/cases/random.ts'
import {
  CaseFlag,
  DATA_REGION_BYTES,
  DATA_REGIONS,
  FXSAVE_BYTES,
  RecordOffset,
  type RecordShape,
  recordBytes,
  RUN_BYTES,
  WRITABLE_BYTES,
} from '../native/layout.ts'
import type { Encoding } from './encoding.ts'
import { randomFpuState, randomVector } from './fpu-state.ts'
import { prepare } from './preparation.ts'
import { interestingValue } from './values.ts'

const MASK_64 = 0xffff_ffff_ffff_ffffn
/** CF, PF, AF, ZF, SF, DF, OF. */
const STATUS_AND_DF = [0x1, 0x4, 0x10, 0x40, 0x80, 0x400, 0x800]
const RFLAGS_USER = 0x202
const ID = 0x20_0000
const NT = 0x4000

/** What a case is put together in: registers, flags and memory of one record. */
export class CaseState {
  readonly encoding: Encoding
  readonly random: Random
  /** General registers, by their number. */
  readonly registers: BigUint64Array = new BigUint64Array(16)
  rflags = RFLAGS_USER
  /** Address of the memory operand, undefined for a form without one. */
  target: bigint | undefined
  fsBase = 0n
  gsBase = 0n
  /** Where the window lies, and what it holds. */
  windowAddress = 0n
  readonly window: Buffer
  readonly fpu: Buffer | undefined

  constructor(encoding: Encoding, random: Random, shape: RecordShape) {
    this.encoding = encoding
    this.random = random
    this.window = Buffer.alloc(shape.windowBytes)
    this.fpu = shape.fpu ? Buffer.alloc(FXSAVE_BYTES) : undefined
    this.#randomise()
    prepare(this)
  }

  /** Chooses an address that data lies at, often near the edge of a page, as a multiple of `alignment` (bytes). The window is laid around it. */
  chooseAddress(alignment = 1, onlyLow = false): bigint {
    const { random } = this
    const region = DATA_REGIONS[onlyLow || random.percent(50) ? 0 : 1]!
    const offset = random.percent(25)
      ? random.below(4) * 4096 - random.below(32) + random.below(8)
      : random.below(random.percent(85) ? WRITABLE_BYTES : DATA_REGION_BYTES)
    const address = region + BigInt(Math.floor(offset / alignment) * alignment)
    this.layWindow(address, region)
    return address
  }

  /** Lays the window around an address, a quarter of it at least on each side where the region allows that. */
  layWindow(address: bigint, region: bigint = regionOf(address)): void {
    const quarter = this.window.length / 4
    const before = BigInt(quarter + this.random.below(2 * quarter))
    const last = region + BigInt(DATA_REGION_BYTES) - BigInt(this.window.length)
    const wanted = address - before
    this.windowAddress = wanted < region ? region : wanted > last ? last : wanted
  }

  /** Puts a number of `bytes` bytes at an address, as far as that is in the window. */
  put(address: bigint, value: bigint, bytes: number): void {
    const at = Number(BigInt.asIntN(64, address - this.windowAddress))
    for (let index = 0; index < bytes; index++) {
      if (at + index < 0 || at + index >= this.window.length) continue
      this.window[at + index] = Number((value >> BigInt(index * 8)) & 0xffn)
    }
  }

  /** A number that is interesting, of `bits` bits. */
  value(bits = 64): bigint {
    const { low, high } = interestingValue(this.random)
    return BigInt.asUintN(bits, (BigInt(high) << 32n) | BigInt(low))
  }

  /** Sets the low bits of a register, whose other bits remain as they are. */
  setLow(register: number, value: bigint, bits: number): void {
    const kept = bits === 64 ? 0n : (this.registers[register]! >> BigInt(bits)) << BigInt(bits)
    this.registers[register] = kept | BigInt.asUintN(bits, value)
  }

  /** Gives base and index such values that the memory operand lies at an address. Returns where it really lies, as not every address can be had. */
  aim(address: bigint): bigint {
    const { memory } = this.encoding
    if (memory === undefined) return address
    const { base, index, scale, displacement, bits, segment } = memory
    const wrap = (value: bigint): bigint => BigInt.asUintN(bits, value)
    const factor = BigInt(scale)
    if (base === undefined && index === undefined) {
      if (segment === undefined) return displacement
      this.#setSegmentBase(address - displacement)
      return address
    }
    if (segment !== undefined) this.#setSegmentBase(BigInt(this.random.below(2 ** 16)))
    const within = address - this.#segmentBase(segment)
    if (base !== undefined && index === base) {
      this.#setAddressRegister(base, (within - displacement) / (factor + 1n))
    } else if (base === undefined) {
      this.#setAddressRegister(index!, (within - displacement) / factor)
    } else if (index === undefined) this.#setAddressRegister(base, within - displacement)
    else {
      const offset = BigInt(this.random.below(64) - 32)
      const count = this.random.percent(80) ? offset : this.value(bits)
      this.#setAddressRegister(index, count)
      this.#setAddressRegister(base, within - displacement - count * factor)
    }
    const get = (register: number | undefined): bigint =>
      register === undefined ? 0n : wrap(this.registers[register]!)
    const effective = wrap(get(base) + get(index) * factor + displacement)
    return BigInt.asUintN(64, effective + this.#segmentBase(segment))
  }

  /** Writes the record of this case. */
  write(run: Buffer, index: number, shape: RecordShape): void {
    const start = RUN_BYTES + index * recordBytes(shape)
    const { encoding } = this
    for (let register = 0; register < 16; register++) {
      run.writeBigUint64LE(this.registers[register]!, start + RecordOffset.Registers + register * 8)
    }
    run.writeBigUint64LE(encoding.rip, start + RecordOffset.Rip)
    run.writeBigUint64LE(BigInt(this.rflags), start + RecordOffset.Rflags)
    run.writeBigUint64LE(this.windowAddress, start + RecordOffset.Window)
    run.set(encoding.bytes, start + RecordOffset.Code)
    run[start + RecordOffset.Length] = encoding.bytes.length
    const { bits, prefix } = encoding.form
    run[start + RecordOffset.Flags] =
      (isStepped(encoding) ? CaseFlag.Step : 0) |
      (bits === 32 ? CaseFlag.Bits32 : 0) |
      (prefix === 'rep' || prefix === 'repne' ? CaseFlag.Repeated : 0)
    run.writeBigUint64LE(this.fsBase, start + RecordOffset.FsBase)
    run.writeBigUint64LE(this.gsBase, start + RecordOffset.GsBase)
    run.set(this.window, start + RecordOffset.WindowBytes)
    if (this.fpu !== undefined) {
      run.set(this.fpu, start + RecordOffset.WindowBytes + this.window.length)
    }
  }

  #randomise(): void {
    const { random, encoding } = this
    const mask = encoding.form.bits === 64 ? MASK_64 : 0xffff_ffffn
    for (let register = 0; register < 16; register++) this.registers[register] = this.value() & mask
    for (const flag of STATUS_AND_DF) if (random.percent(50)) this.rflags |= flag
    if (random.percent(10)) this.rflags |= random.pick([ID, NT])
    for (let at = 0; at < this.window.length; at += 8) {
      this.window.writeBigUint64LE(random.percent(50) ? this.value() : random.bits(64), at)
    }
    if (this.fpu !== undefined) randomFpuState(random, this.fpu)
    const alignment = random.percent(70) ? alignmentOf(encoding.operandBytes) : 1
    const address = this.chooseAddress(
      alignment,
      encoding.memory?.bits === 32 || encoding.form.bits === 32,
    )
    if (encoding.memory === undefined) return
    this.target = this.aim(address)
    this.layWindow(this.target)
    if (encoding.operandBytes === 16) {
      const vector = Buffer.alloc(16)
      randomVector(random, vector, 0)
      this.put(this.target, vector.readBigUint64LE(0), 8)
      this.put(this.target + 8n, vector.readBigUint64LE(8), 8)
    } else this.put(this.target, this.value(), Math.min(encoding.operandBytes, 8))
  }

  #setAddressRegister(register: number, value: bigint): void {
    const bits = this.encoding.memory!.bits
    this.setLow(register, value, bits)
  }

  #segmentBase(segment: 'fs' | 'gs' | undefined): bigint {
    return segment === undefined ? 0n : segment === 'fs' ? this.fsBase : this.gsBase
  }

  #setSegmentBase(base: bigint): void {
    if (this.encoding.memory!.segment === 'fs') this.fsBase = BigInt.asUintN(64, base)
    else this.gsBase = BigInt.asUintN(64, base)
  }
}

/** What an operand of so many bytes may have to be aligned to: SSE, FXSAVE, XSAVE. */
function alignmentOf(bytes: number): number {
  return bytes === 16 ? 16 : bytes >= 512 ? 64 : 1
}

/** Whether an instruction decides by itself what comes after it. */
export function isStepped({ flowControl }: Encoding): boolean {
  return (
    flowControl !== FlowControl.Next &&
    flowControl !== FlowControl.Exception &&
    flowControl !== FlowControl.Interrupt
  )
}

/** The region of data that an address is nearest to. */
function regionOf(address: bigint): bigint {
  return DATA_REGIONS[address >= DATA_REGIONS[1]! - 0x10_0000n ? 1 : 0]!
}
