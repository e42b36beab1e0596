import type { Architecture } from '@trapdoor/uefi'

/** What running code knows of its own image: offsets, which are the same wherever it is mapped. */
export interface ImageLayout {
  readonly name: string
  readonly architecture: Architecture
  /** Offset in bytes of each pointer slot. */
  readonly slots: ReadonlyMap<string, number>
}

/** Pages of an image: code, which nobody writes, and data, which nobody executes, as the sections of a PE image are. */
export const IMAGE_PAGES = 2
/** Offset of the first call gate in an image. */
export const GATES_OFFSET = 0x40
/** Offset of the data words, which hold no pointers. The first tells whether ExitBootServices was called. */
export const DATA_OFFSET = 0x1000
/** Offset of the first pointer slot. */
export const SLOTS_OFFSET = 0x1800
