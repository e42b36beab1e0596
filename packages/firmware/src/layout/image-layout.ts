/** What running code knows of its own image: offsets, which are the same wherever it is mapped. */
export interface ImageLayout {
  readonly name: string
  /** Offset in bytes of each pointer slot. */
  readonly slots: ReadonlyMap<string, number>
}

/** Offset of the first call gate in an image. */
export const GATES_OFFSET = 0x40
/** Offset of the data words, which hold no pointers. The first tells whether ExitBootServices was called. */
export const DATA_OFFSET = 0x400
/** Offset of the first pointer slot. */
export const SLOTS_OFFSET = 0x800
