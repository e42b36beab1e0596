import { execa } from 'execa'

import { QEMU } from '../guests/qemu.ts'
import { STATE_WORDS } from './processor-state.ts'

const WORD = '([0-9a-f]{16})'
/** What `-d cpu` prints of a processor in 64-bit mode (QEMU, target/i386/cpu-dump.c, x86_cpu_dump_state()). */
const STATE = new RegExp(
  [
    `RAX=${WORD} RBX=${WORD} RCX=${WORD} RDX=${WORD}\n`,
    `RSI=${WORD} RDI=${WORD} RBP=${WORD} RSP=${WORD}\n`,
    `R8 =${WORD} R9 =${WORD} R10=${WORD} R11=${WORD}\n`,
    `R12=${WORD} R13=${WORD} R14=${WORD} R15=${WORD}\n`,
    `RIP=${WORD} RFL=([0-9a-f]{8}) [^]*?\n`,
    `CR0=([0-9a-f]{8}) CR2=[0-9a-f]{16} CR3=${WORD} CR4=([0-9a-f]{8})\n`,
    `[^]*?EFER=${WORD}\n`,
  ].join(''),
  'g',
)
/** Which group of {@link STATE} has each word of a state. */
const GROUPS = [1, 3, 4, 2, 8, 7, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]
const ACCESS = /^.*memory_region_ops_(?:read|write).*$/gm

/** The states of QEMU's processor, out of its log: one before each instruction. */
export class QemuTrace {
  /** What QEMU is to be started with. */
  readonly arguments: readonly string[]
  readonly #onState: (state: BigUint64Array) => void
  readonly #accesses: string[] = []
  /** What of the log has come, and no whole state yet. */
  #rest = ''

  private constructor(args: readonly string[], onState: (state: BigUint64Array) => void) {
    this.arguments = args
    this.#onState = onState
  }

  /** For the QEMU that is installed. `onState` gets each state, in an array that is used again. */
  static async create(onState: (state: BigUint64Array) => void): Promise<QemuTrace> {
    const { stdout } = await execa(QEMU, ['--version'])
    const [, major, minor] = /version (\d+)\.(\d+)/.exec(stdout) ?? []
    // One instruction for each block; until 8.1 under another name.
    const isOld = Number(major) < 8 || (Number(major) === 8 && Number(minor) < 1)
    const alone = isOld ? ['-singlestep'] : ['-accel', 'tcg,one-insn-per-tb=on']
    return new QemuTrace([...alone, '-d', 'cpu,nochain'], onState)
  }

  /** What the log has of accesses to devices. */
  get otherText(): string {
    return this.#accesses.join('\n')
  }

  /** Takes a piece of the log. */
  read(text: string): void {
    const all = this.#rest + text
    let end = 0
    for (const match of all.matchAll(STATE)) {
      this.#noteAccesses(all.slice(end, match.index))
      end = match.index + match[0].length
      for (let word = 0; word < STATE_WORDS; word++) {
        state[word] = BigInt(`0x${match[GROUPS[word]!]!}`)
      }
      this.#onState(state)
    }
    // What comes behind the last state may be cut off anywhere.
    const begun = all.indexOf('RAX=', end)
    const cut = begun < 0 ? Math.max(end, all.lastIndexOf('\n') + 1) : begun
    this.#noteAccesses(all.slice(end, cut))
    this.#rest = all.slice(cut)
  }

  #noteAccesses(text: string): void {
    for (const [line] of text.matchAll(ACCESS)) this.#accesses.push(line)
  }
}

const state = new BigUint64Array(STATE_WORDS)
