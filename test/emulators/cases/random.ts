/** A seeded generator of pseudo-random numbers (sfc32): the same words give the same numbers on every machine. */
export class Random {
  #a = 0
  #b = 0
  #c = 0
  #counter = 1

  /** A stream of its own for each list of words. */
  constructor(...words: readonly number[]) {
    for (const word of words) {
      this.#a = Math.imul(this.#a ^ word, 0x9e37_79b1)
      this.#b = (this.#b ^ Math.trunc(word / 0x1_0000_0000)) | 0
      this.#c = (this.#c + words.length) | 0
      this.#scramble()
    }
  }

  /** 32 random bits, unsigned. */
  word(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  /** A whole number from 0 up to `limit` (exclusive, at most 2^32). */
  below(limit: number): number {
    return Math.floor((this.word() / 0x1_0000_0000) * limit)
  }

  /** True in so many of 100 cases. */
  percent(chance: number): boolean {
    return this.word() < chance * (0x1_0000_0000 / 100)
  }

  /** `bits` random bits, at most 64. */
  bits(bits: number): bigint {
    return BigInt.asUintN(bits, (BigInt(this.word()) << 32n) | BigInt(this.word()))
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!
  }

  /** `count` different numbers from 0 up to `limit` (exclusive), in ascending order. */
  distinct(count: number, limit: number): number[] {
    const chosen = new Set<number>()
    while (chosen.size < count) chosen.add(this.below(limit))
    return [...chosen].toSorted((left, right) => left - right)
  }

  #scramble(): void {
    for (let round = 0; round < 12; round++) this.word()
  }
}
