import type { Case } from '../cases/case.ts'
import { controlRegisters, type Outcome } from '../model.ts'
import {
  CaseField,
  Header,
  PATH_LENGTH,
  Physical,
  RESULT_BYTES,
  ResultField,
  Routine,
  Selector,
} from './layout.ts'
import { routineAddress } from './program.ts'

const RFLAGS_FIXED = 0x2
const RFLAGS_AC = 0x4_0000

/** A case and what should come out of it. */
export interface Trial {
  readonly subject: Case
  readonly expected: Outcome
}

/** What a guest tells of a case: `after` is what it found where the access should have gone. */
export type Reading = Omit<Outcome, 'physical' | 'before'>

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

/** What a record says. */
export function readRecord(record: Buffer): Reading {
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

/** Writes the record of a case into `bytes` at an offset. */
export function writeCase(bytes: Buffer, at: number, { subject, expected }: Trial): void {
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

function routineOf({ access: { verb, stack } }: Case): Routine {
  if (verb === 'execute') return Routine.Execute
  if (verb === 'write') return stack ? Routine.StackWrite : Routine.Write
  return stack ? Routine.StackRead : Routine.Read
}
