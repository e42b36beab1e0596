import { type Assembler, Register } from '@trapdoor/assembler'
import { COMPLETED, ROUTINE_BYTES, Routine } from './layout.ts'

const { A, B, BP } = Register
/** Exceptions that push an error code. */
const WITH_ERROR_CODE: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21])

/** The routines that make an access, to where RBX and RBP point, of RAX, and tell that it was completed. */
export function emitRoutines(code: Assembler): void {
  const width = code.bits === 64 ? 64 : 32
  const bodies: Record<Routine, () => void> = {
    [Routine.Read]: () => code.load(width, A, B),
    [Routine.Write]: () => code.store(width, B, 0, A),
    [Routine.Execute]: () => code.jumpRegister(B),
    [Routine.StackRead]: () => code.load(width, A, BP),
    [Routine.StackWrite]: () => code.store(width, BP, 0, A),
  }
  for (const routine of Object.values(Routine)) {
    code.padTo(routine * ROUTINE_BYTES)
    bodies[routine]()
    code.int(COMPLETED)
  }
  code.padTo(Object.values(Routine).length * ROUTINE_BYTES)
}

/** An entry for each vector, which leaves the vector and the error code on the stack, and what they have in common. Returns their addresses. */
export function emitHandlers(code: Assembler, emitCommon: () => void): bigint[] {
  const handlers: bigint[] = []
  for (let vector = 0; vector <= COMPLETED; vector++) {
    code.label(`vector ${vector}`)
    handlers.push(code.addressOf(`vector ${vector}`))
    if (!WITH_ERROR_CODE.has(vector)) code.pushImmediate(0)
    code.pushImmediate(vector)
    code.jump('handler')
  }
  code.label('handler')
  emitCommon()
  return handlers
}
