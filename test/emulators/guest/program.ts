import { PAGE_BYTES } from '../cases/table.ts'
import { Assembler, Condition, Register } from '@trapdoor/assembler'
import { emitHandlers, emitRoutines } from './entries.ts'
import {
  CASE_BYTES,
  CaseField,
  CR2_BEFORE,
  dataAt,
  guestAddress,
  Header,
  PATH_LENGTH,
  Physical,
  RESULT_BYTES,
  ResultField,
  ROUTINE_BYTES,
  type Routine,
  Selector,
} from './layout.ts'
import { assembleLegacyCode } from './legacy.ts'
import { Msr } from './registers.ts'

/** The port of QEMU's isa-debug-exit, and what the guest writes there: QEMU ends with twice that and one. */
export const EXIT_PORT = 0xf4
export const EXIT_VALUE = 0x10

/** What the program must know of the processor that it runs on, and of its cases. */
export interface ProgramOptions {
  /** CR4 between two cases. */
  readonly cr4: number
  /** Whether there are protection keys for user pages and supervisor pages. */
  readonly pku: boolean
  readonly pks: boolean
  /** Whether the cases run in IA-32e mode. */
  readonly longMode: boolean
}

/** The guest's program. */
export interface Program {
  /** What pages hold, by physical address. */
  readonly pages: ReadonlyMap<number, Uint8Array>
  readonly entry: bigint
  /** Where an exception's or interrupt's handler begins, by vector. */
  readonly handlers: readonly bigint[]
}

/** Linear address of the routine that makes an access, for a user or a supervisor. */
export function routineAddress(routine: Routine, user: boolean, longMode: boolean): bigint {
  const [userCode, code] = longMode
    ? [Physical.UserCode, Physical.Code]
    : [Physical.LegacyUserCode, Physical.LegacyCode]
  return guestAddress(user ? userCode : code, longMode) + BigInt(routine * ROUTINE_BYTES)
}

const { A, B, C, D, SP, BP, SI, DI, R8, R9, R10, R11, R12, R13, R14, R15 } = Register
/** What the entries on the way held before the access. */
const SAVED: readonly Register[] = [R8, R9, R10, R11, R12]
const LONG_REGISTERS: readonly Register[] = [R8, R9, R10, R11, R12, R13, R14, R15]
const CASE = R15
const RESULT = R14
const LEFT = R13

/**
 * Assembles the program: it copies the tables of the image to where they belong, fills the data frames, and runs case after case: load the registers of the case, go to a
 * routine by IRET, come back by the exception or by INT 20h, note what came out, put back what the access changed. For cases of a legacy mode it goes there and comes back each time.
 */
export function assembleProgram(options: ProgramOptions): Program {
  const { longMode } = options
  const userCode = new Assembler(guestAddress(Physical.UserCode, longMode), 64)
  emitRoutines(userCode)
  const code = new Assembler(guestAddress(Physical.Code, longMode), 64)
  emitRoutines(code)
  code.label('entry')
  emitStart(code, options)
  emitTableCopies(code, 'out')
  emitDataFrames(code)
  emitCases(code, options)
  emitTableCopies(code, 'back')
  emitEnd(code)
  const handlers = emitHandlers(code, () => emitReturn(code, options))
  const pages = new Map([
    [Physical.UserCode, userCode.assemble()],
    [Physical.Code, code.assemble()],
  ])
  const entry = code.addressOf('entry')
  if (longMode) return { pages, entry, handlers }
  const legacy = assembleLegacyCode(options.cr4, code.addressOf('after legacy'))
  return { pages: new Map([...pages, ...legacy.pages]), entry, handlers: legacy.handlers }
}

function emitStart(code: Assembler, { longMode }: ProgramOptions): void {
  code.moveImmediate(64, SP, guestAddress(Physical.Stack, longMode) + BigInt(PAGE_BYTES))
  code.moveImmediate(64, B, Physical.Header)
  code.lgdt(B, Header.GlobalDescriptorTable)
  code.lidt(B, Header.InterruptDescriptorTable)
  code.moveImmediate(32, A, Selector.UserData)
  code.moveToSegment('ds', A)
  code.moveToSegment('es', A)
  if (!longMode) return
  code.moveImmediate(32, A, Selector.Task)
  code.ltr(A)
}

/** Copies all tables: `out` to their places, or `back` into the image. */
function emitTableCopies(code: Assembler, direction: 'out' | 'back'): void {
  code.moveImmediate(64, B, Physical.Header)
  code.load(64, D, B, Header.Tables)
  code.load(64, A, B, Header.TableCopies)
  code.load(64, LEFT, B, Header.TableCount)
  code.label(`copy ${direction}`)
  code.load(64, direction === 'out' ? DI : SI, D)
  code.move(64, direction === 'out' ? SI : DI, A)
  code.moveImmediate(64, C, PAGE_BYTES / 8)
  code.repMovsq()
  code.add(64, D, 8)
  code.add(64, A, PAGE_BYTES)
  code.sub(64, LEFT, 1)
  code.jumpIf(Condition.NotEqual, `copy ${direction}`)
}

/** Fills the data frames with what dataAt() says. */
function emitDataFrames(code: Assembler): void {
  code.moveImmediate(64, B, Physical.Header)
  code.load(64, D, B, Header.DataFrames)
  code.load(64, LEFT, B, Header.DataFrameCount)
  code.moveImmediate(64, SI, dataAt(0))
  code.label('frame')
  code.load(64, DI, D)
  code.moveImmediate(64, C, PAGE_BYTES / 8)
  code.label('slot')
  code.move(64, A, DI)
  code.shiftRight(64, A, 3)
  code.move(32, A, A)
  code.shiftLeft(64, A, 8)
  code.orRegister(64, A, SI)
  code.store(64, DI, 0, A)
  code.add(64, DI, 8)
  code.sub(64, C, 1)
  code.jumpIf(Condition.NotEqual, 'slot')
  code.add(64, D, 8)
  code.sub(64, LEFT, 1)
  code.jumpIf(Condition.NotEqual, 'frame')
}

function emitCases(code: Assembler, options: ProgramOptions): void {
  code.moveImmediate(64, B, Physical.Header)
  code.load(64, CASE, B, Header.Cases)
  code.load(64, LEFT, B, Header.CaseCount)
  code.load(64, RESULT, B, Header.Results)
  code.label('case')
  SAVED.forEach((saved, at) => {
    code.load(64, DI, CASE, CaseField.Path + 8 * at)
    code.load(32, saved, DI)
  })
  emitKeys(code, options)
  if (options.longMode) emitAccess(code)
  else emitLegacyAccess(code)

  code.label('after')
  code.store(32, RESULT, ResultField.Vector, D)
  code.store(32, RESULT, ResultField.ErrorCode, C)
  code.store(64, RESULT, ResultField.Cr2, SI)
  code.store(64, RESULT, ResultField.Rax, A)
  code.load(64, DI, CASE, CaseField.Target)
  code.load(64, C, DI)
  code.store(64, RESULT, ResultField.Target, C)
  // All are read before any is put back: the same entry may be there twice, and the target may be one.
  for (let at = 0; at < PATH_LENGTH; at++) {
    code.load(64, DI, CASE, CaseField.Path + 8 * at)
    code.load(32, C, DI)
    code.store(32, RESULT, ResultField.Path + 4 * at, C)
  }
  code.load(64, DI, CASE, CaseField.Target)
  code.load(64, C, CASE, CaseField.Original)
  code.store(64, DI, 0, C)
  SAVED.forEach((saved, at) => {
    code.load(64, DI, CASE, CaseField.Path + 8 * at)
    code.store(32, DI, 0, saved)
  })
  code.add(64, CASE, CASE_BYTES)
  code.add(64, RESULT, RESULT_BYTES)
  code.sub(64, LEFT, 1)
  code.jumpIf(Condition.NotEqual, 'case')
}

/** The registers that only 64-bit code or IA-32e mode can write. */
function emitKeys(code: Assembler, { pku, pks }: ProgramOptions): void {
  code.xorRegister(32, D, D)
  if (pks) {
    code.moveImmediate(32, C, Msr.Pkrs)
    code.load(32, A, CASE, CaseField.Pkrs)
    code.wrmsr()
  }
  if (pku) {
    code.xorRegister(32, C, C)
    code.load(32, A, CASE, CaseField.Pkru)
    code.wrpkru()
  }
}

/** Goes to a routine with the case's registers. From the write to CR3 on, only the guest's own pages are there. */
function emitAccess(code: Assembler): void {
  code.xorRegister(32, D, D)
  code.moveImmediate(32, C, Msr.Efer)
  code.load(32, A, CASE, CaseField.Efer)
  code.wrmsr()
  code.load(64, A, CASE, CaseField.Cr0)
  code.moveToControl(0, A)
  code.load(64, A, CASE, CaseField.Cr4)
  code.moveToControl(4, A)
  code.moveImmediate(64, A, CR2_BEFORE)
  code.moveToControl(2, A)
  code.pushMemory(CASE, CaseField.Ss)
  code.pushImmediate(0)
  code.pushMemory(CASE, CaseField.Rflags)
  code.pushMemory(CASE, CaseField.Cs)
  code.pushMemory(CASE, CaseField.Rip)
  code.load(64, B, CASE, CaseField.Address)
  code.move(64, BP, B)
  code.load(64, A, CASE, CaseField.Value)
  code.load(64, C, CASE, CaseField.Cr3)
  code.moveToControl(3, C)
  code.iretq()
}

/** Goes to the code that leaves IA-32e mode, and comes back from it. Registers that a legacy mode does not have are kept in memory. */
function emitLegacyAccess(code: Assembler): void {
  code.moveImmediate(64, B, Physical.Header)
  LONG_REGISTERS.forEach((register, at) => {
    code.store(64, B, Header.Saved + 8 * at, register)
  })
  code.move(64, SI, CASE)
  code.jumpFarMemory(B, Header.LegacyEntry)
  code.label('after legacy')
  code.moveImmediate(64, B, Physical.Header)
  LONG_REGISTERS.forEach((register, at) => {
    code.load(64, register, B, Header.Saved + 8 * at)
  })
  // What the upper halves are after a legacy mode is not defined.
  for (const register of [A, C, D, SI] as const) code.move(32, register, register)
}

/** QEMU leaves at the port, Bochs stops at XCHG BX, BX. */
function emitEnd(code: Assembler): void {
  code.moveImmediate(32, A, EXIT_VALUE)
  code.out(EXIT_PORT)
  code.exchangeBxBx()
  code.label('halt')
  code.hlt()
  code.jump('halt')
}

/** Back to the guest's own tables, with the vector in EDX, the error code in ECX, CR2 in RSI. */
function emitReturn(code: Assembler, { cr4 }: ProgramOptions): void {
  code.load(64, D, SP)
  code.load(64, C, SP, 8)
  code.moveFromControl(SI, 2)
  code.moveImmediate(64, DI, cr4)
  code.moveToControl(4, DI)
  code.moveImmediate(64, DI, Physical.Root)
  code.moveToControl(3, DI)
  code.jump('after')
}
