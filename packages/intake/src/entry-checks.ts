import type { IntakeWarning, MapEntry } from './memory-map-text.ts'

/** What else a line prints of a range. It has to agree with the entry's pages. */
export interface PrintedRange {
  /** Exclusive end in bytes. */
  readonly end?: bigint
  /** The length in units of `bytes` bytes, rounded down. */
  readonly length?: { readonly count: bigint; readonly bytes: bigint }
}

/** What is odd about one entry. */
export function checkEntry(
  file: string,
  entry: MapEntry,
  printed: PrintedRange = {},
): IntakeWarning[] {
  const warnings: IntakeWarning[] = []
  const warn = (code: IntakeWarning['code'], message: string): void => {
    warnings.push({ code, message, file, line: entry.line })
  }
  const { type, start, pages, attribute } = entry
  const bytes = pages * 0x1000n
  if (type > 0xffff_ffff || start >= 1n << 64n || (attribute ?? 0n) >= 1n << 64n) {
    warn('INTAKE_OVERSIZED', 'a number that does not fit its field of a descriptor')
  }
  if (pages === 0n) warn('INTAKE_ZERO_LENGTH', 'an entry of no pages')
  if (start % 0x1000n !== 0n) {
    warn('INTAKE_MISALIGNED', `0x${start.toString(16)} is not the start of a page`)
  }
  if (start + bytes > 1n << 64n) {
    warn('INTAKE_WRAPS', `${pages} pages from 0x${start.toString(16)} run past 2^64`)
  }
  const { end, length } = printed
  if (end !== undefined && BigInt.asUintN(64, start + bytes) !== BigInt.asUintN(64, end)) {
    warn(
      'INTAKE_RANGE',
      `the range ends at 0x${end.toString(16)}, which is not ${pages} pages from 0x${start.toString(16)}`,
    )
  }
  if (length !== undefined && bytes / length.bytes !== length.count) {
    warn(
      'INTAKE_RANGE',
      `the line says that its length is ${length.count * length.bytes} bytes, its range has ${bytes}`,
    )
  }
  return warnings
}

/** A warning for each entry that begins before another has ended. */
export function checkOverlaps(file: string, entries: readonly MapEntry[]): IntakeWarning[] {
  const warnings: IntakeWarning[] = []
  const sorted = entries
    .filter((entry) => entry.pages > 0n)
    .toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
  let [furthest] = sorted
  if (furthest === undefined) return warnings
  for (const entry of sorted.slice(1)) {
    if (entry.start < endOf(furthest)) {
      const { start, line } = furthest
      const other =
        line === 0 ? `the entry at 0x${start.toString(16)}` : `the entry of line ${line}`
      const message = `the entry at 0x${entry.start.toString(16)} overlaps ${other}`
      warnings.push({ code: 'INTAKE_OVERLAP', message, file, line: entry.line })
    }
    if (endOf(entry) > endOf(furthest)) furthest = entry
  }
  return warnings
}

function endOf({ start, pages }: MapEntry): bigint {
  return start + pages * 0x1000n
}
