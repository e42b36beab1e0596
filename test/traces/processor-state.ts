import type { Cpu } from '@trapdoor/core'

/** What is compared of a processor before each instruction, in this order; all of 64 bits. */
export const STATE_NAMES: readonly string[] =
  'RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15 RIP RFLAGS CR0 CR3 CR4 EFER'.split(
    ' ',
  )
export const STATE_WORDS: number = STATE_NAMES.length
/** Where RIP and RFLAGS are among them. */
export const RIP = 16
export const RFLAGS = 17

/** The longest instruction in bytes (SDM Vol. 2, 2.3.11). */
const LONGEST = 15

/** States of a processor, one before each instruction, and the instructions. */
export class Trace {
  /** Bytes from each instruction on, by its address. */
  readonly code: Map<bigint, Uint8Array> = new Map()

  #words = new BigUint64Array(STATE_WORDS * 0x1_0000)
  #count = 0

  get count(): number {
    return this.#count
  }

  /** Notes how a processor is, but for one in the midst of a repeated string instruction, which is stopped at pages here and after each iteration by QEMU. */
  note(cpu: Cpu): void {
    const at = this.#count * STATE_WORDS
    if (this.#count > 0 && this.#words[at - STATE_WORDS + RIP] === cpu.rip) return
    if (at === this.#words.length) {
      const larger = new BigUint64Array(at * 2)
      larger.set(this.#words)
      this.#words = larger
    }
    const words = this.#words
    words.set(cpu.general64.subarray(0, RIP), at)
    words[at + RIP] = cpu.rip
    words[at + RFLAGS] = BigInt(cpu.rflags)
    words[at + 18] = BigInt(cpu.cr0)
    words[at + 19] = BigInt(cpu.cr3)
    words[at + 20] = BigInt(cpu.cr4)
    words[at + 21] = BigInt(cpu.efer)
    this.#count++
    if (!this.code.has(cpu.rip)) this.code.set(cpu.rip, codeAt(cpu, cpu.rip))
  }

  /** The state before the instruction with this index, as a view. */
  state(index: number): BigUint64Array {
    return this.#words.subarray(index * STATE_WORDS, (index + 1) * STATE_WORDS)
  }
}

/** The bytes of an instruction, which may go on in another page. */
function codeAt(cpu: Cpu, rip: bigint): Uint8Array {
  const bytes: number[] = []
  for (let at = 0; at < LONGEST; at++) {
    const physical = cpu.peekPhysical(rip + BigInt(at))
    if (physical === undefined) break
    bytes.push(cpu.machine.memory.read(physical, 1)[0]!)
  }
  return Uint8Array.from(bytes)
}
