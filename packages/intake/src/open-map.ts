import { MemoryAttribute, MemoryType } from '@trapdoor/uefi'
import { checkEntry, checkOverlaps } from './entry-checks.ts'
import type {
  IntakeWarning,
  MapEntry,
  MapFormat,
  MapKind,
  MemoryMapText,
} from './memory-map-text.ts'
import type { MapReader, ReadEntry, ReadNote } from './readers/reader.ts'

/** A map whose entries are still being read. */
export class OpenMap {
  readonly reader: MapReader
  readonly format: MapFormat
  readonly entries: MapEntry[] = []
  readonly warnings: IntakeWarning[] = []
  readonly #file: string
  readonly #kind: MapKind
  readonly #totals: { type: number; pages: bigint; line: number }[] = []
  readonly #hasHeader: boolean
  #mapBytes: number | undefined
  #stride: number | undefined
  #lastNumber: number | undefined
  #missing: string | undefined
  #sawEnd = false
  #sawNextLine = false

  /** A map that begins with `first`; `header` is what the lines before it said. */
  constructor(file: string, reader: MapReader, first: ReadEntry, header: ReadNote | undefined) {
    this.#file = file
    this.reader = reader
    this.format = first.format
    this.#kind = first.kind ?? header?.kind ?? 'firmware'
    this.#hasHeader = header?.begins === true
    this.#mapBytes = header?.mapBytes
    this.#stride = header?.stride
    if (first.number !== undefined && first.number > 0) {
      this.#missing =
        first.number === 1
          ? 'entry 0, which is not in this text'
          : `entries 0 to ${first.number - 1}, which are not in this text`
    }
  }

  /** Whether `next` goes on with this map rather than beginning another. */
  continues(next: ReadEntry): boolean {
    if (next.format !== this.format) return false
    return (
      next.number === undefined || this.#lastNumber === undefined || next.number >= this.#lastNumber
    )
  }

  add({ entry: read, number, mark, printed }: ReadEntry, line: number): void {
    const entry = { ...read, line }
    const last = this.entries.at(-1)
    if (number !== undefined && number === this.#lastNumber && last !== undefined) {
      // Boot loaders that log to two consoles print each line twice.
      if (saysTheSame(last, entry)) return
      this.#missing ??= `what entry ${number} is: lines ${last.line} and ${line} say two things`
      this.#warn('INTAKE_CONFLICT', line, `entry ${number} comes twice and says two things`)
    }
    if (number !== undefined && this.#lastNumber !== undefined && number > this.#lastNumber + 1) {
      const gap =
        number === this.#lastNumber + 2
          ? `entry ${number - 1}`
          : `entries ${this.#lastNumber + 1} to ${number - 1}`
      this.#missing ??= `${gap}, which should stand before line ${line}`
      this.#warn('INTAKE_GAP', line, `${gap} missing before this line`)
    }
    this.#lastNumber = number
    this.entries.push(entry)
    if (mark !== undefined) this.#warn('INTAKE_MARKED', line, mark)
    this.warnings.push(...checkEntry(this.#file, entry, printed))
  }

  /** The text breaks off in the line of the last entry, and a part of a number would look like a number. */
  addCut(line: number): void {
    this.#missing ??= `the end of line ${line}: the text breaks off in it`
    this.#warn('INTAKE_CUT', line, 'the text breaks off in this line: what it says may be cut')
  }

  /** A line that looks like an entry and is none. */
  addTorn(line: number): void {
    this.#missing ??= `what line ${line} would say: it is torn`
    this.#warn('INTAKE_TORN_LINE', line, 'this line begins as an entry and does not end as one')
  }

  addNote(note: ReadNote, line: number): void {
    if (note.pages !== undefined) this.#totals.push({ ...note.pages, line })
    if (note.mapBytes !== undefined) this.#mapBytes = note.mapBytes
    if (note.stride !== undefined) this.#stride = note.stride
    if (note.ends === true) this.#sawEnd = true
  }

  /** Some other line came after the last entry. */
  sawOtherLine(): void {
    this.#sawNextLine = true
  }

  /** The map as it is now. */
  finish(): MemoryMapText {
    this.#checkTotals()
    this.warnings.push(...checkOverlaps(this.#file, this.entries))
    const missing = this.#missing ?? this.#missingAtTheEnd()
    return {
      format: this.format,
      kind: this.#kind,
      complete: missing === undefined,
      ...(missing === undefined ? {} : { missing }),
      entries: this.entries,
      warnings: this.warnings,
      file: this.#file,
      line: this.entries[0]?.line ?? 0,
    }
  }

  #missingAtTheEnd(): string | undefined {
    const { reader, entries } = this
    if (reader.end === 'partial') return reader.leavesOut ?? 'a part of the map'
    if (this.#kind === 'runtime-copy') return 'everything but the runtime regions'
    const lastLine = entries.at(-1)?.line ?? 0
    const count =
      this.#mapBytes === undefined || this.#stride === undefined || this.#stride === 0
        ? undefined
        : Math.floor(this.#mapBytes / this.#stride)
    if (count !== undefined) {
      if (entries.length === count) return undefined
      this.#warn(
        'INTAKE_CUT',
        lastLine,
        `the head line says ${count} entries, here are ${entries.length}`,
      )
      return entries.length < count
        ? `${count - entries.length} of ${count} entries`
        : `nothing, but ${entries.length - count} of its entries are not of this map`
    }
    if (reader.needsHeader && !this.#hasHeader) return 'the beginning: its head line is not here'
    if (reader.end === 'footer' && !this.#sawEnd) {
      this.#warn(
        'INTAKE_CUT',
        lastLine,
        'the text ends before the map does',
        'keep what was printed after the map, up to the next prompt',
      )
      return 'the end: its last lines are not here'
    }
    if (!entries.some((each) => ((each.attribute ?? 0n) & MemoryAttribute.RUNTIME) !== 0n)) {
      this.#warn(
        'INTAKE_CUT',
        lastLine,
        'no entry has the RUNTIME attribute, which every firmware needs',
      )
      return 'the runtime regions: the map is cut'
    }
    if (!entries.some((each) => each.type === MemoryType.ConventionalMemory)) {
      this.#warn(
        'INTAKE_CUT',
        lastLine,
        'no entry is conventional memory, without which nothing boots',
      )
      return 'conventional memory: this is what a kernel passes to the next one, or a part of the map'
    }
    if (reader.end === 'next-line' && !this.#sawNextLine) {
      if (entries.length < FEWEST_ENTRIES) return 'most of it: the text ends inside the map'
      this.#warn(
        'INTAKE_END_UNSEEN',
        lastLine,
        'the text ends with this entry: whether more followed cannot be seen',
        'keep some lines of the log after the map',
      )
    }
    return undefined
  }

  #checkTotals(): void {
    for (const total of this.#totals) {
      const sum = this.entries
        .filter((entry) => entry.type === total.type)
        .reduce((pages, entry) => pages + entry.pages, 0n)
      if (sum === total.pages) continue
      this.#missing ??= `entries of type ${total.type}: ${sum} of ${total.pages} pages are here`
      this.#warn(
        'INTAKE_CHECKSUM',
        total.line,
        `the footer says ${total.pages} pages of type ${total.type}, the entries have ${sum}`,
      )
    }
  }

  #warn(code: IntakeWarning['code'], line: number, message: string, hint?: string): void {
    this.warnings.push({
      code,
      message,
      file: this.#file,
      line,
      ...(hint === undefined ? {} : { hint }),
    })
  }
}

function saysTheSame(a: MapEntry, b: MapEntry): boolean {
  return (
    a.type === b.type &&
    a.start === b.start &&
    a.pages === b.pages &&
    a.attribute === b.attribute &&
    a.virtualStart === b.virtualStart
  )
}

/** No machine's map has fewer. */
const FEWEST_ENTRIES = 4
