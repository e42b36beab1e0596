import { is64BitMode, isRealMode } from '@trapdoor/core'
import type { Operation } from '../../decode/block.ts'
import type { DecodedInstruction } from '../../decode/decoded-instruction.ts'
import type { Execution } from '../../execution.ts'
import { join } from '../../halves.ts'

/** The operation behind a check that the CPU is at privilege level 0; anybody else gets #GP(0). */
export function supervisorOnly(name: string, operation: Operation): Operation {
  const reason = `${name} is for the supervisor`
  return (general, execution) => {
    if (execution.cpu.cpl !== 0) throw execution.generalProtection(reason)
    operation(general, execution)
  }
}

/** The operation in protected mode; in real-address mode and virtual-8086 mode the instruction does not exist. */
export function protectedModeOnly({ bytes }: DecodedInstruction, operation: Operation): Operation {
  return (general, execution) => {
    if (isRealMode(execution.cpu)) throw execution.invalidOpcode(bytes)
    operation(general, execution)
  }
}

/** The operation in 64-bit mode; elsewhere the instruction does not exist. */
export function longModeOnly({ bytes }: DecodedInstruction, operation: Operation): Operation {
  return (general, execution) => {
    if (!is64BitMode(execution.cpu)) throw execution.invalidOpcode(bytes)
    operation(general, execution)
  }
}

/** The address of the instruction behind the last one of a block, from within its operation. */
export function nextRip(general: Int32Array, { bits }: Execution, next: number): bigint {
  return BigInt.asUintN(bits === 64 ? 64 : 32, join(general[33]!, general[32]!) + BigInt(next))
}
