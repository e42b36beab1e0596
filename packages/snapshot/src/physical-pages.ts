import type { PageRun } from './snapshot.ts'

const PAGE = 4096
/** Bytes between places that a search reports: nothing that is looked for lies closer. */
const ALIGNMENT = 4

/** The memory of a snapshot, to be read; what it does not hold reads as zero. */
export class PhysicalPages {
  readonly #runs: readonly PageRun[]
  readonly #pages: Map<number, Uint8Array> = new Map()

  constructor(runs: readonly PageRun[]) {
    this.#runs = runs
    for (const { address, bytes } of runs) {
      for (let at = 0; at < bytes.length; at += PAGE) {
        this.#pages.set((address + at) / PAGE, bytes.subarray(at, at + PAGE))
      }
    }
  }

  /** A copy of `length` bytes. */
  read(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length;) {
      const at = address + done
      const offset = at % PAGE
      const count = Math.min(length - done, PAGE - offset)
      const page = this.#pages.get((at - offset) / PAGE)
      if (page !== undefined) bytes.set(page.subarray(offset, offset + count), done)
      done += count
    }
    return bytes
  }

  read32(address: number): number {
    return new DataView(this.read(address, 4).buffer).getUint32(0, true)
  }

  /** A pointer of `size` bytes. One that no memory can have is 0. */
  readPointer(address: number, size: 4 | 8): number {
    const view = new DataView(this.read(address, 8).buffer)
    const value = size === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true))
    return value < 2 ** 52 ? value : 0
  }

  /** Whether a page is there. */
  has(page: number): boolean {
    return this.#pages.has(page / PAGE)
  }

  /** Where bytes begin, at addresses that are multiples of four, in one run. */
  *find(bytes: Uint8Array): Generator<number> {
    for (const { address, bytes: run } of this.#runs) {
      const buffer = Buffer.from(run.buffer, run.byteOffset, run.byteLength)
      for (let at = buffer.indexOf(bytes); at !== -1; at = buffer.indexOf(bytes, at + 1)) {
        if (at % ALIGNMENT === 0) yield address + at
      }
    }
  }
}
