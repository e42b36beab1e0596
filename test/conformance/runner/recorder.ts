/** What a chunk of a set found. It crosses threads. */
export interface ChunkResult {
  readonly combinations: number
  readonly differences: number
  /** The first few differences, decoded. */
  readonly examples: readonly string[]
}

const EXAMPLES = 3

/** Counts combinations and keeps the first few differences. */
export class Recorder {
  combinations = 0
  differences = 0
  /** How many combinations it took to find the first difference; undefined where there is none. */
  firstDifference: number | undefined
  readonly examples: string[] = []

  /** Notes a difference; it is put into words only where there is room for it. */
  differ(describe: () => string): void {
    this.differences++
    this.firstDifference ??= this.combinations
    if (this.examples.length < EXAMPLES) this.examples.push(describe())
  }

  /** Counts one combination and compares texts that say all about its outcome. */
  compare(expected: string, found: string, describe: () => string): void {
    this.combinations++
    if (expected !== found)
      this.differ(() => `${describe()}\n    expected ${expected}\n    found    ${found}`)
  }

  result(): ChunkResult {
    return {
      combinations: this.combinations,
      differences: this.differences,
      examples: this.examples,
    }
  }
}
