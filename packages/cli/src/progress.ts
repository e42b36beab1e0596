import type { CliIo } from './io.ts'
import { plural } from './text/layout.ts'

/** Where nobody watches a line being rewritten, a line for so many. */
const MANY = 1000

/** Says how far a long work is: one line that is rewritten on a terminal, a line for each part and each thousand elsewhere. */
export class Progress {
  readonly #io: CliIo
  readonly #total: number | undefined
  #done = 0
  #part = ''
  #partDone = 0

  /** Without a total it is not known how much there is to do. */
  constructor(io: CliIo, total?: number) {
    this.#io = io
    this.#total = total
    if (total !== undefined && total >= MANY) {
      io.stderr.write(`${plural(total, 'case')} to run: -f, -s and --scenario choose fewer\n`)
    }
  }

  /** One more is done, in `part`: parts follow one another. */
  step(part: string): void {
    if (part !== this.#part) {
      this.#closePart()
      this.#part = part
    }
    this.#done++
    this.#partDone++
    const far = this.#total === undefined ? this.#done : `${this.#done}/${this.#total}`
    if (this.#io.isTTY) {
      if (this.#done % 8 === 1) this.#io.stderr.write(`\r\u001B[2K${far} ${part}`)
    } else if (this.#done % MANY === 0) this.#io.stderr.write(`${far} ${part}\n`)
  }

  /** No more will come. */
  finish(): void {
    if (this.#io.isTTY) this.#io.stderr.write('\r\u001B[2K')
    this.#closePart()
  }

  #closePart(): void {
    if (this.#partDone > 0 && !this.#io.isTTY) {
      this.#io.stderr.write(`${this.#part}: ${plural(this.#partDone, 'case')} run\n`)
    }
    this.#partDone = 0
  }
}
