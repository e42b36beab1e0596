/** One measured row. */
export interface Measured {
  readonly row: string
  /** Of one operation, in the fastest window: other load on the machine only ever adds to a time. */
  readonly nanoseconds: number
  /** What the operations came to: C must come to the same. */
  readonly checksum: string
}

/** Runs `window` so many times, each time `operations` operations, and prints the fastest as the C programs do. */
export function measure(
  row: string,
  windows: number,
  operations: number,
  window: () => number | bigint,
): void {
  let fastest = Infinity
  let checksum: number | bigint = 0
  for (let run = 0; run < windows; run++) {
    const start = performance.now()
    checksum = window()
    fastest = Math.min(fastest, performance.now() - start)
  }
  console.log(`${row} ${((fastest * 1e6) / operations).toFixed(4)} ${checksum}`)
}

/** The rows that a program printed. */
export function parseRows(text: string): Measured[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [row, nanoseconds, checksum] = line.split(' ')
      return { row: row!, nanoseconds: Number(nanoseconds), checksum: checksum! }
    })
}
