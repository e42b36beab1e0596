import type { PhysicalMemory } from '@trapdoor/core'
import type { WordChange } from '@trapdoor/snapshot'
import { type Compared, type Difference, hex } from './difference.ts'

const WORD = 8

/** Some memory, in whole words of eight bytes. */
export interface MemoryRegion {
  readonly address: number
  readonly bytes: number
}

/** Regions of memory as they were at a moment. */
export class MemoryImage {
  readonly #regions: readonly MemoryRegion[]
  readonly #contents: readonly Uint8Array[]

  constructor(memory: PhysicalMemory, regions: readonly MemoryRegion[]) {
    this.#regions = regions
    this.#contents = regions.map(({ address, bytes }) => memory.read(address, bytes))
  }

  /** The words that are different now, in the order of the regions and of addresses. */
  changes(memory: PhysicalMemory): WordChange[] {
    const found: WordChange[] = []
    for (const [index, { address, bytes }] of this.#regions.entries()) {
      const before = this.#contents[index]!
      const after = memory.read(address, bytes)
      const halves = [new Int32Array(before.buffer), new Int32Array(after.buffer)] as const
      const words = [new BigUint64Array(before.buffer), new BigUint64Array(after.buffer)] as const
      for (let word = 0; word < bytes / WORD; word++) {
        const low = word * 2
        if (halves[0][low] === halves[1][low] && halves[0][low + 1] === halves[1][low + 1]) continue
        found.push({
          address: address + word * WORD,
          before: words[0][word]!,
          after: words[1][word]!,
        })
      }
    }
    return found
  }

  /** Puts memory back to what it was, the words that `isMeant` chooses. */
  restore(memory: PhysicalMemory, isMeant: (address: number) => boolean = () => true): void {
    for (const { address, before } of this.changes(memory)) {
      if (isMeant(address)) memory.write64(address, before)
    }
  }
}

/** The words that were not changed as it was recorded. */
export function compareChanges(
  compared: Compared,
  recorded: readonly WordChange[],
  replayed: readonly WordChange[],
): Difference[] {
  const expected = new Map(recorded.map((change) => [change.address, change]))
  const found = new Map(replayed.map((change) => [change.address, change]))
  const addresses = [...new Set([...expected.keys(), ...found.keys()])].toSorted((a, b) => a - b)
  return addresses.flatMap((address): Difference[] => {
    const [wanted, got] = [expected.get(address), found.get(address)].map(describe)
    if (wanted === got) return []
    return [{ compared, place: hex(address), recorded: wanted!, replayed: got! }]
  })
}

function describe(change: WordChange | undefined): string {
  return change === undefined ? 'unchanged' : `${hex(change.before)} to ${hex(change.after)}`
}
