import { Cr0, Cr4, DeviceNotAvailable, X87Exception } from '@trapdoor/core'

import type { Execution } from '../../execution.ts'

/** The error-summary flag of the x87 status word. */
const ERROR_SUMMARY = 0x80
const NO_BYTES = new Uint8Array()

/** #UD where CR0.EM is set or CR4.OSFXSR is clear, #NM where CR0.TS is set: before each SSE instruction (SDM Vol. 2, table 2-21; Vol. 3, 13.1). */
export function requireSse(execution: Execution): void {
  const { cpu } = execution
  const { cr0 } = cpu
  if ((cr0 & (Cr0.EM | Cr0.TS)) === 0 && (cpu.cr4 & Cr4.OSFXSR) !== 0) return
  if ((cr0 & Cr0.EM) !== 0 || (cpu.cr4 & Cr4.OSFXSR) === 0) throw execution.invalidOpcode(NO_BYTES)
  throw cpu.raise((site) => new DeviceNotAvailable(site))
}

/** #UD where CR0.EM is set, #NM where CR0.TS is set, #MF where an x87 exception is pending: before each MMX instruction (SDM Vol. 3, 12.1 and 12.5). */
export function requireMmx(execution: Execution): void {
  const { cpu } = execution
  if ((cpu.cr0 & Cr0.EM) !== 0) throw execution.invalidOpcode(NO_BYTES)
  if ((cpu.cr0 & Cr0.TS) !== 0) throw cpu.raise((site) => new DeviceNotAvailable(site))
  raisePending(execution)
}

/** #NM where CR0.EM or CR0.TS is set: before each x87 instruction (SDM Vol. 3, table 2-1). */
export function requireX87({ cpu }: Execution): void {
  if ((cpu.cr0 & (Cr0.EM | Cr0.TS)) !== 0) throw cpu.raise((site) => new DeviceNotAvailable(site))
}

/** #NM for WAIT, which CR0.EM does not stop: where CR0.MP and CR0.TS are set. */
export function requireWait({ cpu }: Execution): void {
  const both = Cr0.MP | Cr0.TS
  if ((cpu.cr0 & both) === both) throw cpu.raise((site) => new DeviceNotAvailable(site))
}

/** #MF for an x87 exception that is not masked and has not been reported. CR0.NE is taken as set: nobody listens to the FERR# pin. */
export function raisePending({ cpu }: Execution): void {
  if ((cpu.floatingPoint.statusWord & ERROR_SUMMARY) === 0) return
  throw cpu.raise((site) => new X87Exception(site))
}
