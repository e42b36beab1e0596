import { PAGE_BYTES } from '../cases/table.ts'
import { Assembler, Register } from '@trapdoor/assembler'
import { emitHandlers, emitRoutines } from './entries.ts'
import { CaseField, CR2_BEFORE, Physical, Selector } from './layout.ts'
import { CR0_BETWEEN, EFER_BETWEEN, Msr } from './registers.ts'

const CR0_NOT_PG = 0x7fff_ffff
/** Where the type of the task-state segment's descriptor is. */
const TASK_DESCRIPTOR_HIGH = Selector.Task + 4
/** High half of a descriptor of a 32-bit TSS that is available, with a base below 16 MiB. */
const TASK_AVAILABLE = 0x8900

const { A, B, C, D, BP, SI, DI, SP } = Register

/** The guest's part that runs in legacy modes. */
export interface LegacyCode {
  readonly pages: ReadonlyMap<number, Uint8Array>
  readonly handlers: readonly bigint[]
}

/** Where the code is entered, in compatibility mode, with the case's physical address in ESI. */
export const LEGACY_ENTRY = 0x100

/**
 * Assembles the code that leaves IA-32e mode, makes the access of a case in the paging mode that its registers select, and goes back to IA-32e mode and the
 * 64-bit code at `back`, with vector, error code, CR2 and RAX where that expects them. `cr4` is what CR4 is there.
 */
export function assembleLegacyCode(cr4: number, back: bigint): LegacyCode {
  const userCode = new Assembler(BigInt(Physical.LegacyUserCode), 32)
  emitRoutines(userCode)
  const code = new Assembler(BigInt(Physical.LegacyCode), 32)
  emitRoutines(code)
  code.padTo(LEGACY_ENTRY)
  emitAccess(code)
  const handlers = emitHandlers(code, () => emitReturn(code, cr4, back))
  return {
    pages: new Map([
      [Physical.LegacyUserCode, userCode.assemble()],
      [Physical.LegacyCode, code.assemble()],
    ]),
    handlers,
  }
}

function emitPagingOff(code: Assembler, scratch: Register): void {
  code.moveFromControl(scratch, 0)
  code.and(32, scratch, CR0_NOT_PG)
  code.moveToControl(0, scratch)
}

/** With paging off, the case's record and everything else is reached as it lies in memory. */
function emitAccess(code: Assembler): void {
  emitPagingOff(code, A)
  code.moveImmediate(32, C, Msr.Efer)
  code.load(32, A, SI, CaseField.Efer)
  code.xorRegister(32, D, D)
  code.wrmsr()
  code.load(32, A, SI, CaseField.Cr4)
  code.moveToControl(4, A)
  code.moveImmediate(32, A, CR2_BEFORE)
  code.moveToControl(2, A)
  // LTR wants a task that is not busy, and makes it busy.
  code.moveImmediate(32, B, Physical.Descriptors)
  code.moveImmediate(32, A, TASK_AVAILABLE | (Physical.Descriptors >>> 16))
  code.store(32, B, TASK_DESCRIPTOR_HIGH, A)
  code.moveImmediate(32, A, Selector.Task)
  code.ltr(A)
  code.moveImmediate(32, SP, Physical.Stack + PAGE_BYTES)
  code.pushMemory(SI, CaseField.Ss)
  code.pushImmediate(0)
  code.pushMemory(SI, CaseField.Rflags)
  code.pushMemory(SI, CaseField.Cs)
  code.pushMemory(SI, CaseField.Rip)
  code.load(32, B, SI, CaseField.Address)
  code.move(32, BP, B)
  code.load(32, DI, SI, CaseField.Value)
  code.load(32, A, SI, CaseField.Cr3)
  code.moveToControl(3, A)
  code.load(32, A, SI, CaseField.Cr0)
  code.moveToControl(0, A)
  code.move(32, A, DI)
  code.iretd()
}

function emitReturn(code: Assembler, cr4: number, back: bigint): void {
  code.load(32, D, SP)
  code.load(32, C, SP, 4)
  code.moveFromControl(SI, 2)
  emitPagingOff(code, DI)
  code.moveImmediate(32, DI, cr4)
  code.moveToControl(4, DI)
  code.moveImmediate(32, DI, Physical.Root)
  code.moveToControl(3, DI)
  // WRMSR takes the registers that hold what came out.
  code.move(32, B, A)
  code.move(32, BP, D)
  code.move(32, DI, C)
  code.moveImmediate(32, C, Msr.Efer)
  code.moveImmediate(32, A, EFER_BETWEEN)
  code.xorRegister(32, D, D)
  code.wrmsr()
  code.moveImmediate(32, A, CR0_BETWEEN)
  code.moveToControl(0, A)
  code.move(32, A, B)
  code.move(32, D, BP)
  code.move(32, C, DI)
  code.jumpFar(Selector.Code, 'long mode')
  code.bits = 64
  code.label('long mode')
  code.moveImmediate(64, B, back)
  code.jumpRegister(B)
}
