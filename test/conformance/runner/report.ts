import type { FinishedChunk } from './chunk.ts'
import type { ConformanceSet, Size } from './conformance-set.ts'

const EXAMPLES = 5

interface SetTotals {
  chunksLeft: number
  combinations: number
  differences: number
  seconds: number
  readonly examples: string[]
}

/** Adds chunks up, and prints a line for each set as soon as it and those before it are complete. */
export class Report {
  readonly #sets: readonly ConformanceSet[]
  readonly #size: Size
  readonly #totals = new Map<string, SetTotals>()
  readonly #print: (line: string) => void
  #printed = 0
  #combinations = 0
  #failures = 0

  constructor(sets: readonly ConformanceSet[], size: Size, print: (line: string) => void) {
    this.#sets = sets
    this.#size = size
    this.#print = print
    for (const set of sets)
      this.#totals.set(set.name, {
        chunksLeft: set.chunks(size),
        combinations: 0,
        differences: 0,
        seconds: 0,
        examples: [],
      })
    print(line('set', 'combinations', 'differences', 'CPU s'))
  }

  add(finished: FinishedChunk): void {
    const totals = this.#totals.get(finished.task.set)
    if (totals === undefined) throw new Error(`no set ${finished.task.set}`)
    totals.chunksLeft--
    totals.combinations += finished.combinations
    totals.differences += finished.differences
    totals.seconds += finished.seconds
    totals.examples.push(...finished.examples)
    this.#printComplete()
  }

  /** Prints the last line; tells whether everything agreed. */
  finish(seconds: number): boolean {
    this.#print(
      `${count(this.#combinations)} combinations in ${this.#sets.length} sets: ` +
        `${count(this.#combinations - this.#failures)} passed, ${count(this.#failures)} failed (${seconds.toFixed(1)} s)`,
    )
    return this.#failures === 0
  }

  #printComplete(): void {
    for (; this.#printed < this.#sets.length; this.#printed++) {
      const set = this.#sets[this.#printed]!
      const totals = this.#totals.get(set.name)!
      if (totals.chunksLeft > 0) return
      this.#print(
        line(
          set.name,
          count(totals.combinations),
          count(totals.differences),
          totals.seconds.toFixed(1),
        ),
      )
      for (const example of totals.examples.slice(0, EXAMPLES)) this.#print(`  ${example}`)
      const expected = set.combinations?.(this.#size)
      const miscounted = expected !== undefined && expected !== totals.combinations
      if (miscounted) this.#print(`  there must be ${count(expected)} combinations`)
      this.#combinations += totals.combinations
      this.#failures += totals.differences + (miscounted ? 1 : 0)
    }
  }
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function line(name: string, combinations: string, differences: string, seconds: string): string {
  return `${name.padEnd(34)}${combinations.padStart(14)}${differences.padStart(13)}${seconds.padStart(9)}`
}
