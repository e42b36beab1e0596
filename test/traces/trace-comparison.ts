import {
  Code,
  Decoder,
  DecoderOptions,
  Formatter,
  FormatterSyntax,
  type Instruction,
  RflagsBits,
} from 'iced-x86'

import { RFLAGS, RIP, STATE_NAMES, STATE_WORDS, type Trace } from './processor-state.ts'

/** RFLAGS as iced-x86 has them. */
const FLAGS: readonly (readonly [number, bigint])[] = [
  [RflagsBits.OF, 0x800n],
  [RflagsBits.SF, 0x80n],
  [RflagsBits.ZF, 0x40n],
  [RflagsBits.AF, 0x10n],
  [RflagsBits.CF, 0x1n],
  [RflagsBits.PF, 0x4n],
]
/** QEMU begins with interrupts off, as nobody would take them. */
const IF = 0x200n

/** Flags that an instruction leaves undefined, and those that it surely sets. */
interface FlagUse {
  readonly opens: bigint
  readonly settles: bigint
}

/** Compares the states of QEMU's processor with those of ours, as they come. */
export class TraceComparison {
  readonly #trace: Trace
  readonly #uses: Map<bigint, FlagUse> = new Map()
  /** Flags that are undefined by now, and nobody has set since (SDM Vol. 2, of each instruction). */
  #open = IF
  #difference: string | undefined
  #compared = 0
  /** States of QEMU's within repeated string instructions, which are one instruction here. */
  #iterations = 0

  constructor(trace: Trace) {
    this.#trace = trace
  }

  /** Instructions before which all registers agreed. */
  get compared(): number {
    return this.#compared
  }

  get iterations(): number {
    return this.#iterations
  }

  /** What is different, at the first instruction after which something is; undefined where all agree. */
  get difference(): string | undefined {
    if (this.#difference !== undefined) return this.#difference
    const { count } = this.#trace
    return this.#compared === count
      ? undefined
      : `QEMU came to ${this.#compared} of ${count} instructions`
  }

  /** Takes QEMU's next state. */
  compare(theirs: BigUint64Array): void {
    const index = this.#compared
    if (this.#difference !== undefined || index === this.#trace.count) return
    const ours = this.#trace.state(index)
    if (index === 0 && theirs[RIP] !== ours[RIP]) return
    if (index > 0) {
      const last = this.#trace.state(index - 1)[RIP]!
      if (theirs[RIP] === last) {
        this.#iterations++
        return
      }
      const { opens, settles } = this.#useOf(last)
      this.#open = (this.#open & ~settles) | opens | IF
    }
    for (let word = 0; word < STATE_WORDS; word++) {
      const mask = word === RFLAGS ? ~this.#open : -1n
      if (((ours[word]! ^ theirs[word]!) & mask) === 0n) continue
      this.#difference = this.#describe(index, word, theirs[word]!)
      return
    }
    this.#compared++
  }

  #describe(index: number, word: number, theirs: bigint): string {
    const ours = this.#trace.state(index)[word]!
    const after =
      index === 0 ? 'before the first instruction' : this.#describeInstruction(index - 1)
    return `${STATE_NAMES[word]} ${hex(ours)} here, ${hex(theirs)} on QEMU, ${after}`
  }

  #describeInstruction(index: number): string {
    const rip = this.#trace.state(index)[RIP]!
    const formatter = new Formatter(FormatterSyntax.Nasm)
    try {
      const text = this.#decode(rip, (instruction) => formatter.format(instruction))
      return `after instruction ${index + 1}, ${text} at ${hex(rip)}`
    } finally {
      formatter.free()
    }
  }

  #useOf(rip: bigint): FlagUse {
    const known = this.#uses.get(rip)
    if (known !== undefined) return known
    const use = this.#decode(rip, flagUse)
    this.#uses.set(rip, use)
    return use
  }

  #decode<T>(rip: bigint, look: (instruction: Instruction) => T): T {
    const decoder = new Decoder(64, this.#trace.code.get(rip)!, DecoderOptions.None)
    decoder.ip = rip
    const instruction = decoder.decode()
    try {
      return look(instruction)
    } finally {
      instruction.free()
      decoder.free()
    }
  }
}

function flagUse(instruction: Instruction): FlagUse {
  const opens = flagsOf(instruction.rflagsUndefined)
  const sets = instruction.rflagsWritten | instruction.rflagsCleared | instruction.rflagsSet
  // By a count that may be 0, which leaves all flags as they were.
  const isShiftByRegister = Code[instruction.code].endsWith('_CL')
  return { opens, settles: isShiftByRegister ? 0n : flagsOf(sets) }
}

function flagsOf(bits: number): bigint {
  return FLAGS.reduce((all, [bit, flag]) => ((bits & bit) === 0 ? all : all | flag), 0n)
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`
}
