import { stripVTControlCharacters } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { IntakeError } from './error.ts'

/** A line of a text, without what programs put around it. */
export interface SourceLine {
  readonly text: string
  /** From 1. */
  readonly number: number
  /** Whether the text breaks off here, without the end of the line. */
  readonly unterminated: boolean
}

/** A file or stream as it came. */
export interface Source {
  /** How errors call it. */
  readonly file: string
  readonly bytes: Uint8Array
}

/** The bytes, unpacked where they are gzip. Throws INTAKE_EMPTY, and INTAKE_BINARY on a damaged gzip file. */
export function unpack(source: Source): Uint8Array {
  let { bytes } = source
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    try {
      bytes = gunzipSync(bytes)
    } catch (error) {
      throw new IntakeError('INTAKE_BINARY', {
        file: source.file,
        expected: 'a whole gzip file',
        found: error instanceof Error ? error.message : String(error),
      })
    }
  }
  if (bytes.length > 0) return bytes
  throw new IntakeError('INTAKE_EMPTY', {
    file: source.file,
    expected: 'a text with a memory map',
    found: 'an empty file',
  })
}

/** The lines of a text in UTF-8 or, by its byte-order mark, UTF-16. Throws INTAKE_BINARY where it is no text, INTAKE_EMPTY where it is blank. */
export function readLines(file: string, bytes: Uint8Array): SourceLine[] {
  const text = decode(bytes)
  if (text.includes('\0')) {
    throw new IntakeError('INTAKE_BINARY', {
      file,
      expected: 'text',
      found: 'a binary file',
      hint: 'of binary forms only FreeBSD’s `sysctl -b machdep.efi_map` is known; UTF-16 needs its byte-order mark',
    })
  }
  if (text.trim() === '') {
    throw new IntakeError('INTAKE_EMPTY', {
      file,
      expected: 'a text with a memory map',
      found: 'nothing but blanks',
    })
  }
  const lines = text.split(/\r\n|\n|\r/)
  return lines.map((line, index) => ({
    text: bare(line),
    number: index + 1,
    unterminated: index === lines.length - 1,
  }))
}

function decode(bytes: Uint8Array): string {
  const encoding =
    bytes[0] === 0xff && bytes[1] === 0xfe
      ? 'utf-16le'
      : bytes[0] === 0xfe && bytes[1] === 0xff
        ? 'utf-16be'
        : 'utf-8'
  return new TextDecoder(encoding).decode(bytes)
}

/** `dmesg` stamps, with and without the caller's: "[    0.000000] ", "[    8.71][    T0] ", with -T "[Thu Nov 21 20:40:28 2019] ". */
const STAMP =
  /^\[(?:\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?|[A-Z][a-z]{2} [A-Z][a-z]{2}\s+\d+ [\d:]{8} \d{4}\])\s?/
/** What `dmesg -x` puts first: "kern  :info  : ". */
const FACILITY = /^[a-z]+\d?\s*:[a-z]+\s*: /
/** A syslog head: "Nov 11 14:48:39 host kernel: ", "2024-01-01T00:00:00+00:00 host kernel: ", "[    0.000000] host kernel: ". */
const SYSLOG =
  /^(?:[A-Z][a-z]{2}\s+\d+\s[\d:]{8}|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-][\d:]+)?|\[\s*\d+\.\d+\])\s\S+\s(?:kernel:|\S+\[\d+\]:)\s?/

/** A line without indentation, mail quoting, log heads, stamps, levels, JSON quotes, BBCode and what quoted-printable did to it. */
function bare(line: string): string {
  let text = stripVTControlCharacters(line)
    .replaceAll('\u00a0', ' ')
    .replaceAll('=3D', '=')
    .replaceAll(/\[\/?(?:code|quote|pre|b|i)\]/gi, '')
    .replace(/^\s*(?:>\s?)+/, '')
    .replace(/^\s*"(.*)",?\s*$/, '$1')
    .trimStart()
  for (let last = ''; last !== text;) {
    last = text
    text = text
      .replace(SYSLOG, '')
      .replace(/^<\d{1,2}>/, '')
      .replace(FACILITY, '')
      .replace(STAMP, '')
  }
  return text.trimEnd()
}
