import { IntakeError } from './error.ts'
import type { IntakeWarning, MemoryMapText } from './memory-map-text.ts'
import { OpenMap } from './open-map.ts'
import { readFreebsdBinary } from './readers/freebsd-binary.ts'
import { MAP_READERS } from './readers/index.ts'
import type { MapReader, ReadNote } from './readers/reader.ts'
import { readRuntimeMapSysfs } from './readers/runtime-map-sysfs.ts'
import { readLines, type Source, type SourceLine, unpack } from './source-text.ts'
import { attributesOf } from './vocabulary.ts'

/** The memory maps of a text, in the order in which they begin. */
export interface ReadMaps {
  readonly maps: readonly MemoryMapText[]
  /** What concerns the text and none of its maps. */
  readonly warnings: readonly IntakeWarning[]
}

/**
 * Finds every memory map in a kernel log, a shell session or a dump; gzip is unpacked. What the lines look like decides how they are read, never the file's
 * name. Throws INTAKE_EMPTY, INTAKE_BINARY, and INTAKE_NO_MAP where there is none.
 */
export function readMemoryMaps(source: Source): ReadMaps {
  const bytes = unpack(source)
  const binary = readFreebsdBinary(source.file, bytes)
  if (binary !== undefined) return { maps: [binary], warnings: [] }
  const lines = readLines(source.file, bytes)
  const scan = new Scan(source.file)
  for (const line of lines) scan.line(line)
  const sysfs = readRuntimeMapSysfs(source.file, lines)
  const maps = [...scan.finish(), ...(sysfs === undefined ? [] : [sysfs])]
  if (maps.length > 0) return { maps, warnings: scan.warnings }
  throw new IntakeError('INTAKE_NO_MAP', {
    file: source.file,
    ...(scan.warnings[0] === undefined ? {} : { line: scan.warnings[0].line }),
    expected: 'an EFI memory map',
    found: `${lines.length} lines without one`,
    hint: 'Linux prints its map with efi=debug on the command line; `memmap` of the UEFI shell works, too',
  })
}

/** A run through the lines of a text. */
class Scan {
  readonly warnings: IntakeWarning[] = []
  readonly #file: string
  readonly #closed: OpenMap[] = []
  readonly #open: Map<MapReader, OpenMap> = new Map()
  readonly #headers: Map<MapReader, ReadNote> = new Map()
  /** The form of the last line, where that was an entry. */
  #entryBefore: MapReader | undefined

  constructor(file: string) {
    this.#file = file
  }

  line(line: SourceLine): void {
    const { text, number } = line
    if (text === '') return
    const before = this.#entryBefore
    this.#entryBefore = undefined
    // What is left of a row of one form can look like a row of another: the form whose map is being read goes first.
    const torn = this.#understands(text)
      ? undefined
      : MAP_READERS.find(
          (reader) =>
            this.#expects(reader) &&
            (reader.torn(text) ||
              (reader === before && reader.openEnded === true && isEndOfRow(text))),
        )
    if (torn !== undefined) {
      this.#torn(torn, number)
      return
    }
    for (const reader of MAP_READERS) {
      if (this.#offer(reader, line)) return
    }
    // A line that no form understands may be what is left of an entry of one.
    for (const reader of MAP_READERS) {
      if (reader.needsHeader || !reader.torn(text)) continue
      this.#torn(reader, number)
      return
    }
    // Half a line may be the beginning of one more entry.
    if (line.unterminated) return
    for (const map of this.#open.values()) map.sawOtherLine()
    // Another kernel boots: whatever it prints begins anew.
    if (/^Linux version \d/.test(text)) {
      this.#closeAll()
      this.#headers.clear()
    }
  }

  finish(): MemoryMapText[] {
    this.#closeAll()
    return this.#closed.map((map) => map.finish()).toSorted((a, b) => a.line - b.line)
  }

  /** Whether the next line may well be an entry of this form. */
  #expects(reader: MapReader): boolean {
    return this.#open.has(reader) || this.#headers.has(reader)
  }

  /** Whether the line is an entry of a form that can be meant here. */
  #understands(text: string): boolean {
    return MAP_READERS.some(
      (reader) =>
        (!reader.needsHeader || this.#expects(reader)) && reader.entry(text) !== undefined,
    )
  }

  /** Whether the line is one of this form. */
  #offer(reader: MapReader, { text, number, unterminated }: SourceLine): boolean {
    const found = reader.entry(text)
    if (found !== undefined) {
      let map = this.#open.get(reader)
      if (map === undefined || !map.continues(found)) {
        this.#close(reader)
        map = new OpenMap(this.#file, reader, found, this.#headers.get(reader))
        this.#headers.delete(reader)
        this.#open.set(reader, map)
      }
      map.add(found, number)
      this.#entryBefore = reader
      if (unterminated && reader.openEnded === true) map.addCut(number)
      for (const [other, open] of this.#open) if (other !== reader) open.sawOtherLine()
      return true
    }
    const note = reader.note?.(text)
    if (note === undefined) return false
    this.#note(reader, note, number)
    return note.ends !== true
  }

  #torn(reader: MapReader, line: number): void {
    const map = this.#open.get(reader)
    if (map !== undefined) {
      map.addTorn(line)
      return
    }
    this.warnings.push({
      code: 'INTAKE_TORN_LINE',
      message: 'this line begins as an entry of a memory map and does not end as one',
      file: this.#file,
      line,
    })
  }

  #note(reader: MapReader, note: ReadNote, number: number): void {
    if (note.begins === true) {
      for (const open of this.#open.keys()) this.#close(open)
      for (const other of this.#headers.keys()) if (other !== reader) this.#headers.delete(other)
    }
    const map = this.#open.get(reader)
    if (map === undefined) {
      if (note.ends !== true) {
        this.#headers.set(reader, { ...this.#headers.get(reader), ...note })
      }
      return
    }
    map.addNote(note, number)
    if (note.ends === true) this.#close(reader)
  }

  #close(reader: MapReader): void {
    const map = this.#open.get(reader)
    if (map === undefined) return
    map.sawOtherLine()
    this.#closed.push(map)
    this.#open.delete(reader)
  }

  #closeAll(): void {
    for (const [reader, map] of this.#open) {
      this.#closed.push(map)
      this.#open.delete(reader)
    }
  }
}

/** Whether a line is what a row that was wrapped can end with: digits, or words of attributes. */
function isEndOfRow(text: string): boolean {
  return /^[0-9a-f]+$/i.test(text) || attributesOf(text) !== undefined
}
