import {
  CpuException,
  EndlessCode,
  MachineReset,
  SystemManagementInterrupt,
  TripleFault,
} from '@trapdoor/core'
import { MissingInstruction } from '@trapdoor/cpu'
import { FirmwareDeadLoop } from '@trapdoor/firmware'
import { KernelHang, KernelPanic } from '@trapdoor/kernel'

/** Whether an error is what happens on a machine, rather than a mistake in a plugin or in Trapdoor. */
export function isMachineOutcome(error: unknown): boolean {
  return (
    error instanceof CpuException ||
    error instanceof TripleFault ||
    error instanceof MachineReset ||
    error instanceof KernelPanic ||
    error instanceof KernelHang ||
    error instanceof FirmwareDeadLoop ||
    error instanceof EndlessCode ||
    error instanceof SystemManagementInterrupt ||
    // Code that has gone astray decodes what it finds; what the interpreter lacks ends it as an exception would.
    error instanceof MissingInstruction
  )
}

/** Whether an error is one of Trapdoor's own, which say themselves what was expected and found. */
export function explainsItself(error: unknown): boolean {
  return error instanceof Error && 'code' in error && 'expected' in error
}

/** Whether what happened leaves the machine running, to no end. */
export function isHang(error: unknown): boolean {
  return (
    error instanceof FirmwareDeadLoop || error instanceof EndlessCode || error instanceof KernelHang
  )
}
