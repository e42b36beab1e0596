import { Cr4 } from '@trapdoor/core'

import type { KeyFeatures } from '../cases/case.ts'
import type { TableSet } from '../cases/table-set.ts'
import { PAGE_BYTES } from '../cases/table.ts'
import { writeDescriptors } from './descriptors.ts'
import { CASE_BYTES, Header, IMAGE_LIMIT, Physical, RESULT_BYTES } from './layout.ts'
import { GUEST_ENTRY, writeOwnTables } from './own-tables.ts'
import { assembleProgram } from './program.ts'
import { type Trial, writeCase } from './records.ts'

/** Memory of a guest from Physical.Header on, and where in it is what comes back. */
export interface GuestImage {
  readonly bytes: Buffer
  readonly results: Span
  /** Copies of the tables, in the order of the set. */
  readonly tables: Span
}

/** A part of an image: where it begins, in bytes from the image's start, and how long it is. */
export interface Span {
  readonly start: number
  readonly length: number
}

/** Builds the image of a run. */
export function buildImage(
  tables: TableSet,
  trials: readonly Trial[],
  keys: KeyFeatures,
): GuestImage {
  const cases = span(Physical.Buffers - Physical.Header, trials.length * CASE_BYTES)
  const results = span(end(cases), trials.length * RESULT_BYTES)
  const tableList = span(end(results), tables.tables.length * 8)
  const dataList = span(end(tableList), tables.dataFrames.length * 8)
  const copies = span(end(dataList), tables.tables.length * PAGE_BYTES)
  if (Physical.Header + end(copies) > IMAGE_LIMIT) {
    throw new RangeError(`${trials.length} cases do not fit into an image`)
  }
  const bytes = Buffer.alloc(end(copies))
  const { layout } = tables
  const cr4 = Cr4.PAE | (layout.name === '5-level' ? Cr4.LA57 : 0) | (keys.pku ? Cr4.PKE : 0)
  const program = assembleProgram({ ...keys, cr4, longMode: layout.longMode })
  for (const [page, code] of program.pages) putPage(bytes, page, code)
  writeOwnTables(bytes, layout)
  writeDescriptors(bytes, program.handlers, layout.longMode)
  const header = (field: number, value: number | bigint) =>
    bytes.writeBigUInt64LE(BigInt(value), field)
  header(Header.Cr4, cr4)
  header(Header.Root, Physical.Root)
  header(Header.Entry, program.entry)
  header(Header.Cases, Physical.Header + cases.start)
  header(Header.CaseCount, trials.length)
  header(Header.Results, Physical.Header + results.start)
  header(Header.Tables, Physical.Header + tableList.start)
  header(Header.TableCount, tables.tables.length)
  header(Header.TableCopies, Physical.Header + copies.start)
  header(Header.DataFrames, Physical.Header + dataList.start)
  header(Header.DataFrameCount, tables.dataFrames.length)
  const toGuest = GUEST_ENTRY[layout.name]
  tables.tables.forEach((table, at) => {
    bytes.writeBigUInt64LE(BigInt(table.address), tableList.start + at * 8)
    const copy = bytes.subarray(
      copies.start + at * PAGE_BYTES,
      copies.start + (at + 1) * PAGE_BYTES,
    )
    copy.set(table.bytes)
    if (!tables.roots.includes(table)) return
    if (layout.entryBytes === 8) copy.writeBigUInt64LE(toGuest, layout.guestIndex * 8)
    else copy.writeUInt32LE(Number(toGuest), layout.guestIndex * 4)
  })
  tables.dataFrames.forEach((frame, at) => {
    bytes.writeBigUInt64LE(BigInt(frame), dataList.start + at * 8)
  })
  bytes.fill(0xff, results.start, end(results))
  trials.forEach((trial, at) => {
    writeCase(bytes, cases.start + at * CASE_BYTES, trial)
  })
  return { bytes, results, tables: copies }
}

function putPage(bytes: Buffer, physical: number, content: Uint8Array): void {
  if (content.length > PAGE_BYTES) throw new RangeError('the program does not fit into its pages')
  bytes.set(content, physical - Physical.Header)
}

/** A span that begins on a page, or after one. */
function span(after: number, length: number): Span {
  return { start: Math.ceil(after / PAGE_BYTES) * PAGE_BYTES, length }
}

function end({ start, length }: Span): number {
  return start + length
}
