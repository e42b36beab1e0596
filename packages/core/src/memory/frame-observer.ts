/** Told of what makes invalid what was learnt about frames: for those who keep a frame's words, or what they made of its bytes, beyond one access. */
export interface FrameObserver {
  /** A frame's words are in another array now, or writes to it are watched from now on. */
  frameMoved(frame: number): void
  /** As {@link frameMoved}, for any number of frames. */
  framesMoved(): void
  /** Page tables that a processor has translated through were changed. */
  tablesChanged(): void
  /** The bytes `start` up to `end` (exclusive) of a frame that was given to `watchCode` may have been written to, in place. */
  codeWritten(frame: number, start: number, end: number): void
}
