import type { PrintedRange } from '../entry-checks.ts'
import type { MapEntry, MapFormat, MapKind } from '../memory-map-text.ts'
import { memoryTypeOf } from '../vocabulary.ts'

/** A descriptor that a line holds. */
export interface ReadEntry {
  readonly format: MapFormat
  readonly kind?: MapKind
  readonly entry: Omit<MapEntry, 'line'>
  readonly printed?: PrintedRange
  /** The number that the form gives it. */
  readonly number?: number
  /** What the printing program itself found wrong. */
  readonly mark?: string
}

/** What a line says of the map that follows or that has just ended. */
export interface ReadNote {
  /** Such a line stands before the first entry: a new map begins. */
  readonly begins?: true
  /** The kind of the map that begins, where the line tells. */
  readonly kind?: MapKind
  /** Such a line stands after the last entry: the map ends here. */
  readonly ends?: true
  /** Bytes of the whole map, and from one descriptor to the next: together they say how many entries it has. */
  readonly mapBytes?: number
  readonly stride?: number
  /** How many pages all entries of a type have together. */
  readonly pages?: { readonly type: number; readonly pages: bigint }
}

/** How the end of a map shows in a form. */
type EndOfMap =
  /** By a line after it that says so. */
  | 'footer'
  /** By any other line after it. */
  | 'next-line'
  /** Not at all: the form never holds the whole map. */
  | 'partial'

/** Knows one printed form, line by line. */
export interface MapReader {
  readonly formats: readonly MapFormat[]
  readonly end: EndOfMap
  /** Whether a whole map begins with a line that {@link MapReader.note} knows. */
  readonly needsHeader: boolean
  /** Whether a line of this form, cut short, can still look like a whole one that says something else. */
  readonly openEnded?: true
  /** What a form that is `partial` leaves out. */
  readonly leavesOut?: string
  /** The descriptor in a line; undefined where the line is something else. */
  readonly entry: (line: string) => ReadEntry | undefined
  readonly note?: (line: string) => ReadNote | undefined
  /** Whether a line has a part of an entry: one that {@link MapReader.entry} does not understand was torn. */
  readonly torn: (line: string) => boolean
}

/** Pages of the range from `start` to `end`, which is exclusive; counted round the 64-bit address space where it lies before `start`, as firmware that wraps does. */
export function pagesBetween(start: bigint, end: bigint): bigint {
  const bytes = end >= start ? end - start : BigInt.asUintN(64, end - start)
  return (bytes + 0xfffn) >> 12n
}

const UNITS: Readonly<Record<string, bigint>> = {
  K: 1n << 10n,
  M: 1n << 20n,
  G: 1n << 30n,
  T: 1n << 40n,
}

/** A printed length such as `964` and `K`. Undefined where there is none. */
export function lengthOf(count: string | undefined, unit: string | undefined): PrintedRange {
  const bytes = UNITS[(unit ?? '').toUpperCase()]
  return count === undefined || bytes === undefined
    ? {}
    : { length: { count: BigInt(count), bytes } }
}

/** Whether the two numbers of a range were printed with at least `width` digits, or neither was: where one has fewer, it has lost some. */
export function sameWidth(first: string, second: string, width: number): boolean {
  return first.length >= width === second.length >= width
}

/** A part of "0x…-0x… [Runtime Code|RUN|", as Linux prints ranges. */
export const NAMED_RANGE: RegExp = /[0-9a-f]-0x[0-9a-f]+ \[[^\]|]+\|/i

/** The two addresses of a table's row. */
const BARE_RANGE = /[0-9a-f]{12}-[0-9a-f]{12}/i

/** Whether a line has a part of a table's row: its range, or its beginning. */
export function hasPartOfRow(line: string): boolean {
  return BARE_RANGE.test(line) || beginsRow(line)
}

/** Whether a line begins with the name of a memory type and has a number or nothing behind it. */
export function beginsRow(line: string): boolean {
  const words = line.trim().split(/\s+/, 5)
  return [1, 2, 3].some(
    (count) =>
      memoryTypeOf(words.slice(0, count).join(' ')) !== undefined &&
      /^(?:\d|$)/.test(words[count] ?? ''),
  )
}

/** Hex digits as a number. */
export function hex(digits: string): bigint {
  return BigInt(`0x${digits}`)
}
