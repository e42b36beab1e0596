import { PAGE_SIZE } from '../address.ts'

const WORDS_PER_FRAME = PAGE_SIZE / 4
/** Frames are cut from arrays of so many: one allocation a frame would cost more than the frame's use. */
const FRAMES_PER_CHUNK = 32
/** Frames that are kept for another use at most: 64 MiB. */
const MOST_SPARE = 16_384

/** Words for frames, new ones or such as nobody uses any more. A memory and its forks share a pool. */
export class FramePool {
  #chunk: Int32Array | undefined
  #used = 0
  readonly #spare: Int32Array[] = []

  /** The words of a frame that nobody has. What they hold is the caller's to overwrite. */
  take(): Int32Array {
    const spare = this.#spare.pop()
    if (spare !== undefined) return spare
    if (this.#chunk === undefined || this.#used === FRAMES_PER_CHUNK) {
      this.#chunk = new Int32Array(FRAMES_PER_CHUNK * WORDS_PER_FRAME)
      this.#used = 0
    }
    const start = this.#used++ * WORDS_PER_FRAME
    return this.#chunk.subarray(start, start + WORDS_PER_FRAME)
  }

  /** As {@link take}, all zero. */
  takeZero(): Int32Array {
    const words = this.#spare.pop()
    return words === undefined ? this.take() : words.fill(0)
  }

  /** Takes back the words of a frame, which nobody may use any more. */
  give(words: Int32Array): void {
    if (this.#spare.length < MOST_SPARE) this.#spare.push(words)
  }
}
