import { Cr4 } from '@trapdoor/core'

import type { Case, KeyFeatures } from '../cases/case.ts'
import type { TableSet } from '../cases/table-set.ts'
import { PAGE_BYTES } from '../cases/table.ts'
import { controlRegisters, type Outcome } from '../model.ts'
import { writeDescriptors } from './descriptors.ts'
import {
  CASE_BYTES,
  CaseField,
  Header,
  IMAGE_LIMIT,
  PATH_LENGTH,
  Physical,
  RESULT_BYTES,
  ResultField,
  Routine,
  Selector,
} from './layout.ts'
import { guestEntry, writeOwnTables } from './own-tables.ts'
import { assembleProgram, routineAddress } from './program.ts'

const RFLAGS_FIXED = 0x2
const RFLAGS_AC = 0x4_0000

/** A case and what should come out of it. */
export interface Trial {
  readonly subject: Case
  readonly expected: Outcome
}

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
  tables.tables.forEach((table, at) => {
    bytes.writeBigUInt64LE(BigInt(table.address), tableList.start + at * 8)
    const copy = bytes.subarray(
      copies.start + at * PAGE_BYTES,
      copies.start + (at + 1) * PAGE_BYTES,
    )
    copy.set(table.bytes)
    if (!tables.roots.includes(table)) return
    if (layout.entryBytes === 8) copy.writeBigUInt64LE(guestEntry(layout), layout.guestIndex * 8)
    else copy.writeUInt32LE(Number(guestEntry(layout)), layout.guestIndex * 4)
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

/** The record that a guest writes whose machine makes of a case what `outcome` says. */
export function resultRecord(outcome: Outcome): Buffer {
  const record = Buffer.alloc(RESULT_BYTES, 0xff)
  record.writeUInt32LE(outcome.vector, ResultField.Vector)
  record.writeUInt32LE(outcome.errorCode, ResultField.ErrorCode)
  record.writeBigUInt64LE(outcome.cr2, ResultField.Cr2)
  record.writeBigUInt64LE(outcome.rax, ResultField.Rax)
  record.writeBigUInt64LE(outcome.after, ResultField.Target)
  for (let at = 0; at < PATH_LENGTH; at++) {
    record.writeUInt32LE(outcome.path[at]!, ResultField.Path + at * 4)
  }
  record.fill(0xff, ResultField.Path + PATH_LENGTH * 4)
  return record
}

/** What a record says. `target` is what the guest found where the access should have gone. */
export function readRecord(record: Buffer): Omit<Outcome, 'physical' | 'before'> {
  return {
    vector: record.readUInt32LE(ResultField.Vector),
    errorCode: record.readUInt32LE(ResultField.ErrorCode),
    cr2: record.readBigUInt64LE(ResultField.Cr2),
    rax: record.readBigUInt64LE(ResultField.Rax),
    after: record.readBigUInt64LE(ResultField.Target),
    path: Array.from({ length: PATH_LENGTH }, (_, at) =>
      record.readUInt32LE(ResultField.Path + at * 4),
    ),
  }
}

function writeCase(bytes: Buffer, at: number, { subject, expected }: Trial): void {
  const { layout, controls, access, root, path } = subject
  const { longMode } = layout
  const { cr0, cr4, efer } = controlRegisters(controls, layout)
  const field = (offset: number, value: number | bigint) =>
    bytes.writeBigUInt64LE(BigInt(value), at + offset)
  const nowhere = Physical.Header + Header.Scratch
  field(CaseField.Cr3, root.address)
  field(CaseField.Cr0, cr0)
  field(CaseField.Cr4, cr4)
  bytes.writeUInt32LE(efer, at + CaseField.Efer)
  bytes.writeUInt32LE(controls.pkru, at + CaseField.Pkru)
  bytes.writeUInt32LE(controls.pkrs, at + CaseField.Pkrs)
  field(CaseField.Rip, routineAddress(routineOf(subject), access.user, longMode))
  const [user, supervisor] = longMode
    ? [Selector.UserCode, Selector.Code]
    : [Selector.LegacyUserCode, Selector.LegacyCode]
  field(CaseField.Cs, access.user ? user : supervisor)
  field(CaseField.Rflags, RFLAGS_FIXED | (controls.ac ? RFLAGS_AC : 0))
  field(CaseField.Ss, access.user ? Selector.UserData : Selector.Data)
  field(CaseField.Address, subject.address)
  field(CaseField.Value, subject.value)
  field(CaseField.Target, expected.physical ?? nowhere)
  field(CaseField.Original, expected.before)
  for (let step = 0; step < PATH_LENGTH; step++) {
    const entry = path[step]
    field(
      CaseField.Path + step * 8,
      entry === undefined ? nowhere : entry.table.addressOf(entry.index),
    )
  }
}

function routineOf({ access }: Case): Routine {
  switch (access.verb) {
    case 'read':
      return access.stack ? Routine.StackRead : Routine.Read
    case 'write':
      return access.stack ? Routine.StackWrite : Routine.Write
    case 'execute':
      return Routine.Execute
  }
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
