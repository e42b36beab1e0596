/** A range of an e820 map (ACPI 6.5, chapter 15), which loaders hand over beside the EFI memory map; `end` is exclusive, both in bytes. */
interface TypedRange {
  readonly start: number
  readonly end: number
  /** A number, or the name that a kernel prints for it. */
  readonly type: number | string
}

/** Entries of an e820 map in ascending order, those of one type that touch made one. Entries that overlap are left as they are. */
export function mergeE820<Entry extends TypedRange>(entries: readonly Entry[]): Entry[] {
  const merged: Entry[] = []
  for (const entry of entries.toSorted((a, b) => a.start - b.start)) {
    const last = merged.at(-1)
    if (last !== undefined && last.end === entry.start && last.type === entry.type) {
      merged[merged.length - 1] = { ...last, end: entry.end }
    } else {
      merged.push(entry)
    }
  }
  return merged
}
