import { CpuException, MachineReset, TripleFault } from '@trapdoor/core'
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
    error instanceof FirmwareDeadLoop
  )
}

/** Whether an error is one of Trapdoor's own, which say themselves what was expected and found. */
export function explainsItself(error: unknown): boolean {
  return error instanceof Error && 'code' in error && 'expected' in error
}

/** Whether what happened leaves the machine running, to no end. */
export function isHang(error: unknown): boolean {
  return error instanceof FirmwareDeadLoop || error instanceof KernelHang
}
