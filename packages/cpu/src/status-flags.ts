import { Rflags, STATUS_FLAGS } from '@trapdoor/core'

/** Where operands of a kind's size begin in the words that hold them, by (kind >> 4). */
const SHIFT: readonly number[] = [0, 0, 16, 24]

/**
 * CF, PF, AF, ZF, SF and OF, kept as the first operand and the result of the operation that set them, as most are overwritten before anybody looks. Operations are done
 * here: each takes its operands as signed halves, returns the low half of its result, and leaves the high one in {@link high}.
 *
 * `kind` is the operation: 0, all flags are in `word`; 1 addition; 2 subtraction; 3 logic; 4 and 5 the same with a carry or borrow, which went in in bit 0 of `word`; 6 INC and 7 DEC, with
 * the CF that they leave in `word`; 8, SF, ZF and PF by the result and the others in `word`. Added to it is the size: 0 for 32 bits, 0x10 for 64, 0x20 for 16, 0x30 for 8; operands of 16 and 8
 * bits are kept in the upper bits of a word. These are numbers in the code, as V8 would load a constant of the module each time.
 */
export class StatusFlags {
  /** High half of the last 64-bit result. */
  high = 0
  protected kind = 0
  protected first = 0
  protected firstHigh = 0
  protected result = 0
  protected resultHigh = 0
  protected word = 0

  /** The flags at their places in RFLAGS. */
  get statusFlags(): number {
    return (
      (this.carry ? Rflags.CF : 0) |
      (this.parity ? Rflags.PF : 0) |
      (this.adjust ? Rflags.AF : 0) |
      (this.zero ? Rflags.ZF : 0) |
      (this.sign ? Rflags.SF : 0) |
      (this.overflow ? Rflags.OF : 0)
    )
  }

  set statusFlags(value: number) {
    this.kind = 0
    this.word = value & STATUS_FLAGS
  }

  get carry(): boolean {
    const { kind } = this
    switch (kind & 0xf) {
      case 1:
        return this.#isResultBelow(kind, 0)
      case 2:
        return this.#isResultAbove(kind, 0)
      case 3:
        return false
      case 4:
        return this.#isResultBelow(kind, this.word & 1)
      case 5:
        return this.#isResultAbove(kind, this.word & 1)
      default:
        return (this.word & 1) !== 0
    }
  }

  get zero(): boolean {
    const { kind } = this
    if (kind === 0) return (this.word & 0x40) !== 0
    return ((kind & 0x30) === 0x10 ? this.result | this.resultHigh : this.result) === 0
  }

  get sign(): boolean {
    const { kind } = this
    if (kind === 0) return (this.word & 0x80) !== 0
    return ((kind & 0x30) === 0x10 ? this.resultHigh : this.result) < 0
  }

  get overflow(): boolean {
    const { kind } = this
    const operation = kind & 0xf
    if (operation === 3) return false
    if (operation === 0 || operation === 8) return (this.word & 0x800) !== 0
    const isSubtraction = operation === 2 || operation === 5 || operation === 7
    if ((kind & 0x30) === 0x10) {
      const second = this.#secondHigh(isSubtraction)
      const { firstHigh, resultHigh } = this
      return (
        (isSubtraction
          ? (firstHigh ^ second) & (firstHigh ^ resultHigh)
          : (firstHigh ^ resultHigh) & (second ^ resultHigh)) < 0
      )
    }
    const { first, result } = this
    const second = this.#second(isSubtraction)
    return (
      (isSubtraction ? (first ^ second) & (first ^ result) : (first ^ result) & (second ^ result)) <
      0
    )
  }

  get parity(): boolean {
    const { kind } = this
    if (kind === 0) return (this.word & 0x4) !== 0
    let low = this.result >>> SHIFT[kind >>> 4]!
    low ^= low >>> 4
    return ((0x9669 >>> (low & 0xf)) & 1) !== 0
  }

  get adjust(): boolean {
    const operation = this.kind & 0xf
    if (operation === 0 || operation === 8) return (this.word & 0x10) !== 0
    if (operation === 3) return false
    const isSubtraction = operation === 2 || operation === 5 || operation === 7
    const bits = this.first ^ this.#second(isSubtraction) ^ this.result
    return ((bits >>> SHIFT[this.kind >>> 4]!) & 0x10) !== 0
  }

  /** SF differs from OF: after a comparison, the first operand is less as a signed number. */
  get less(): boolean {
    const { kind } = this
    if (kind === 0x12) {
      const second = this.#secondHigh(true)
      if (this.firstHigh !== second) return this.firstHigh < second
      return this.first >>> 0 < (this.first - this.result) >>> 0
    }
    if ((kind & 0xf) === 2) return this.first < ((this.first - this.result) | 0)
    return this.sign !== this.overflow
  }

  /** The condition that an instruction encodes in its low four bits (SDM Vol. 2, table B-10). */
  condition(code: number): boolean {
    switch (code) {
      case 0:
        return this.overflow
      case 1:
        return !this.overflow
      case 2:
        return this.carry
      case 3:
        return !this.carry
      case 4:
        return this.zero
      case 5:
        return !this.zero
      case 6:
        return this.carry || this.zero
      case 7:
        return !this.carry && !this.zero
      case 8:
        return this.sign
      case 9:
        return !this.sign
      case 10:
        return this.parity
      case 11:
        return !this.parity
      case 12:
        return this.less
      case 13:
        return !this.less
      case 14:
        return this.zero || this.less
      default:
        return !this.zero && !this.less
    }
  }

  add32(first: number, second: number): number {
    const result = (first + second) | 0
    this.kind = 1
    this.first = first
    this.result = result
    return result
  }

  /** Of 8 bits with `shift` 24, of 16 with 16: the result has bits above these, which are nothing. */
  addSmall(first: number, second: number, shift: number): number {
    this.kind = shift === 24 ? 0x31 : 0x21
    this.first = first << shift
    this.result = (first + second) << shift
    return first + second
  }

  add64(low: number, high: number, secondLow: number, secondHigh: number): number {
    const result = (low + secondLow) | 0
    const resultHigh = (high + secondHigh + (result >>> 0 < low >>> 0 ? 1 : 0)) | 0
    this.kind = 0x11
    this.first = low
    this.firstHigh = high
    this.result = result
    this.resultHigh = resultHigh
    this.high = resultHigh
    return result
  }

  adc32(first: number, second: number): number {
    const carried = this.carry ? 1 : 0
    const result = (first + second + carried) | 0
    this.kind = 4
    this.word = carried
    this.first = first
    this.result = result
    return result
  }

  adcSmall(first: number, second: number, shift: number): number {
    const carried = this.carry ? 1 : 0
    this.kind = shift === 24 ? 0x34 : 0x24
    this.word = carried
    this.first = first << shift
    this.result = (first + second + carried) << shift
    return first + second + carried
  }

  adc64(low: number, high: number, secondLow: number, secondHigh: number): number {
    const carried = this.carry ? 1 : 0
    const sum = (low >>> 0) + (secondLow >>> 0) + carried
    const result = sum | 0
    const resultHigh = (high + secondHigh + (sum > 0xffff_ffff ? 1 : 0)) | 0
    this.kind = 0x14
    this.word = carried
    this.first = low
    this.firstHigh = high
    this.result = result
    this.resultHigh = resultHigh
    this.high = resultHigh
    return result
  }

  sub32(first: number, second: number): number {
    const result = (first - second) | 0
    this.kind = 2
    this.first = first
    this.result = result
    return result
  }

  subSmall(first: number, second: number, shift: number): number {
    this.kind = shift === 24 ? 0x32 : 0x22
    this.first = first << shift
    this.result = (first - second) << shift
    return first - second
  }

  sub64(low: number, high: number, secondLow: number, secondHigh: number): number {
    const result = (low - secondLow) | 0
    const resultHigh = (high - secondHigh - (low >>> 0 < secondLow >>> 0 ? 1 : 0)) | 0
    this.kind = 0x12
    this.first = low
    this.firstHigh = high
    this.result = result
    this.resultHigh = resultHigh
    this.high = resultHigh
    return result
  }

  sbb32(first: number, second: number): number {
    const carried = this.carry ? 1 : 0
    const result = (first - second - carried) | 0
    this.kind = 5
    this.word = carried
    this.first = first
    this.result = result
    return result
  }

  sbbSmall(first: number, second: number, shift: number): number {
    const carried = this.carry ? 1 : 0
    this.kind = shift === 24 ? 0x35 : 0x25
    this.word = carried
    this.first = first << shift
    this.result = (first - second - carried) << shift
    return first - second - carried
  }

  sbb64(low: number, high: number, secondLow: number, secondHigh: number): number {
    const carried = this.carry ? 1 : 0
    const difference = (low >>> 0) - (secondLow >>> 0) - carried
    const result = difference | 0
    const resultHigh = (high - secondHigh - (difference < 0 ? 1 : 0)) | 0
    this.kind = 0x15
    this.word = carried
    this.first = low
    this.firstHigh = high
    this.result = result
    this.resultHigh = resultHigh
    this.high = resultHigh
    return result
  }

  inc32(first: number): number {
    this.word = this.carry ? 1 : 0
    this.kind = 6
    this.first = first
    this.result = (first + 1) | 0
    return this.result
  }

  incSmall(first: number, shift: number): number {
    this.word = this.carry ? 1 : 0
    this.kind = shift === 24 ? 0x36 : 0x26
    this.first = first << shift
    this.result = (first + 1) << shift
    return first + 1
  }

  inc64(low: number, high: number): number {
    const carried = this.carry ? 1 : 0
    const result = this.add64(low, high, 1, 0)
    this.kind = 0x16
    this.word = carried
    return result
  }

  dec32(first: number): number {
    this.word = this.carry ? 1 : 0
    this.kind = 7
    this.first = first
    this.result = (first - 1) | 0
    return this.result
  }

  decSmall(first: number, shift: number): number {
    this.word = this.carry ? 1 : 0
    this.kind = shift === 24 ? 0x37 : 0x27
    this.first = first << shift
    this.result = (first - 1) << shift
    return first - 1
  }

  dec64(low: number, high: number): number {
    const carried = this.carry ? 1 : 0
    const result = this.sub64(low, high, 1, 0)
    this.kind = 0x17
    this.word = carried
    return result
  }

  /** AND, OR, XOR, TEST: CF, OF and AF are cleared (AF is undefined by the SDM). */
  logic32(result: number): number {
    this.kind = 3
    this.result = result
    return result
  }

  logicSmall(result: number, shift: number): number {
    this.kind = shift === 24 ? 0x33 : 0x23
    this.result = result << shift
    return result
  }

  logic64(low: number, high: number): number {
    this.kind = 0x13
    this.result = low
    this.resultHigh = high
    this.high = high
    return low
  }

  /** SF, ZF and PF by a result of `bits` bits, CF and OF as given, AF clear. */
  setResult(
    bits: 8 | 16 | 32 | 64,
    low: number,
    high: number,
    carry: boolean,
    overflow: boolean,
  ): void {
    this.word = (carry ? 1 : 0) | (overflow ? 0x800 : 0)
    this.kind = bits === 32 ? 0x8 : bits === 64 ? 0x18 : bits === 16 ? 0x28 : 0x38
    this.result = bits === 8 ? low << 24 : bits === 16 ? low << 16 : low
    this.resultHigh = high
  }

  /** Sets the flags of `mask` to those of `value`, and leaves the others. */
  replaceFlags(mask: number, value: number): void {
    this.statusFlags = (this.statusFlags & ~mask) | (value & mask)
  }

  /** The second operand, low half, worked out again. */
  #second(isSubtraction: boolean): number {
    const operation = this.kind & 0xf
    const carried =
      operation === 4 || operation === 5 ? (this.word & 1) << SHIFT[this.kind >>> 4]! : 0
    return isSubtraction
      ? (this.first - this.result - carried) | 0
      : (this.result - this.first - carried) | 0
  }

  #secondHigh(isSubtraction: boolean): number {
    const operation = this.kind & 0xf
    const carried = operation === 4 || operation === 5 ? this.word & 1 : 0
    const first = this.first >>> 0
    const result = this.result >>> 0
    if (isSubtraction) {
      return (this.firstHigh - this.resultHigh - (first < result + carried ? 1 : 0)) | 0
    }
    return (this.resultHigh - this.firstHigh - (result < first + carried ? 1 : 0)) | 0
  }

  /** Whether an addition carried: its result is below its first operand, or the same though a carry went in. */
  #isResultBelow(kind: number, carried: number): boolean {
    const first = this.first >>> 0
    const result = this.result >>> 0
    if ((kind & 0x30) === 0x10) {
      const firstHigh = this.firstHigh >>> 0
      const resultHigh = this.resultHigh >>> 0
      if (firstHigh !== resultHigh) return resultHigh < firstHigh
    }
    return carried === 0 ? result < first : result <= first
  }

  #isResultAbove(kind: number, carried: number): boolean {
    const first = this.first >>> 0
    const result = this.result >>> 0
    if ((kind & 0x30) === 0x10) {
      const firstHigh = this.firstHigh >>> 0
      const resultHigh = this.resultHigh >>> 0
      if (firstHigh !== resultHigh) return resultHigh > firstHigh
    }
    return carried === 0 ? result > first : result >= first
  }
}
