import type { Cpu } from '../cpu/cpu.ts'
import { Rflags, STATUS_FLAGS } from '../cpu/rflags.ts'
import type { OperandBytes } from './stack.ts'

const IOPL: number = 3 << Rflags.IoplShift
/** Flags that any program may set. */
const ANYBODYS: number = STATUS_FLAGS | Rflags.TF | Rflags.DF | Rflags.NT
/** Those above bit 15. */
const WIDE: number = Rflags.AC | Rflags.ID
const VIRTUAL_INTERRUPT: number = Rflags.VIF | Rflags.VIP

/** I/O privilege level, from RFLAGS. */
export function ioPrivilegeLevel(cpu: Cpu): number {
  return (cpu.controlFlags >>> Rflags.IoplShift) & 3
}

/**
 * Takes over flags from a stack as POPF and IRET do: IF where the privilege level is not above IOPL, IOPL at level 0 alone; an operand of 2 bytes leaves the flags above bit 15 as they are (SDM Vol. 2, POPF and
 * IRET). RF, which decides about instruction breakpoints alone, is not kept: there are none. Called at the level that the instruction is carried out at.
 */
export function loadFlags(
  cpu: Cpu,
  image: number,
  operandBytes: OperandBytes,
  { byInterruptReturn }: { readonly byInterruptReturn: boolean },
): void {
  const isWide = operandBytes !== 2
  const mask =
    ANYBODYS |
    (isWide ? WIDE : 0) |
    (cpu.cpl <= ioPrivilegeLevel(cpu) ? Rflags.IF : 0) |
    (cpu.cpl === 0 ? IOPL | (byInterruptReturn && isWide ? VIRTUAL_INTERRUPT : 0) : 0)
  cpu.rflags = ((cpu.rflags & ~mask) | (image & mask)) & ~Rflags.RF
}
