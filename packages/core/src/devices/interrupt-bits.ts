/** One bit for each of 256 interrupt vectors, as IRR, ISR and TMR of an APIC have them. */
export class InterruptBits {
  readonly #words: Int32Array = new Int32Array(8)

  set(vector: number): void {
    this.#words[vector >>> 5]! |= 1 << (vector & 31)
  }

  clear(vector: number): void {
    this.#words[vector >>> 5]! &= ~(1 << (vector & 31))
  }

  has(vector: number): boolean {
    return (this.#words[vector >>> 5]! & (1 << (vector & 31))) !== 0
  }

  clearAll(): void {
    this.#words.fill(0)
  }

  copyFrom(other: InterruptBits): void {
    this.#words.set(other.#words)
  }

  /** Bits 32n to 32n + 31. */
  word(index: number): number {
    return this.#words[index]!
  }

  /** The highest vector that is set, or -1. */
  highest(): number {
    for (let index = 7; index >= 0; index--) {
      const word = this.#words[index]!
      if (word !== 0) return index * 32 + 31 - Math.clz32(word)
    }
    return -1
  }
}
