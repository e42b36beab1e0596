import type { MemoryDevice } from '@trapdoor/core'

/** Physical addresses that nobody answers: they read as ones, and writes are lost. */
export class Unpopulated implements MemoryDevice {
  readonly name = 'unpopulated'
  readonly start: number
  readonly end: number

  /** From `start` up to `end`, exclusive; both page aligned. */
  constructor(start: number, end: number) {
    this.start = start
    this.end = end
  }

  read(_offset: number, size: 1 | 2 | 4): number {
    return 2 ** (size * 8) - 1
  }

  write(): void {}

  fork(): Unpopulated {
    return this
  }
}
