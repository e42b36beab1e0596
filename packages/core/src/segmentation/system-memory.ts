import { Cr4 } from '../cpu/control.ts'
import type { AccessOrigin, Cpu } from '../cpu/cpu.ts'
import { joinHalves } from '../halves.ts'
import { AccessKind } from '../cpu/permission.ts'

const IMPLICIT: AccessOrigin = { implicit: true }
const IMPLICIT_READ = AccessKind.ImplicitOffset + AccessKind.Read
const IMPLICIT_WRITE = AccessKind.ImplicitOffset + AccessKind.Write
/** Offset in a page of the last word that does not reach into the next. */
const LAST_WORD = 0xffc

/** The high half of a linear address plus an unsigned offset of up to 32 bits, of which the low half is `(low + offset) | 0`. */
export function highWithCarry(high: number, low: number, offset: number): number {
  return (low >>> 0) + offset >= 2 ** 32 ? (high + 1) | 0 : high
}

/**
 * Reads 32 bits as the processor reads its descriptor tables and task-state segments: an implicit supervisor access at any privilege level (SDM Vol. 3, 4.6). `high` and `low` are the
 * signed halves of the linear address.
 */
export function readSystemWord(cpu: Cpu, high: number, low: number): number {
  if (!isPlainAccess(cpu, high, low)) return cpu.read32(joinHalves(high, low), IMPLICIT) | 0
  const frame = cpu.translateHalves(high, low, IMPLICIT_READ)
  return cpu.machine.memory.readByCpu(frame * 4096 + (low & 0xfff), 4) | 0
}

/** Writes 32 bits, as {@link readSystemWord} reads them. */
export function writeSystemWord(cpu: Cpu, high: number, low: number, value: number): void {
  if (!isPlainAccess(cpu, high, low)) {
    cpu.write32(joinHalves(high, low), value >>> 0, IMPLICIT)
    return
  }
  const frame = cpu.translateHalves(high, low, IMPLICIT_WRITE)
  cpu.machine.memory.writeByCpu(frame * 4096 + (low & 0xfff), 4, value)
}

/** Whether an access to 4 bytes lies within a page, at an address that any mode has, and nobody looks closer at it. */
export function isPlainAccess(cpu: Cpu, high: number, low: number): boolean {
  const sign = high >> 15
  return (
    (low & 0xfff) <= LAST_WORD &&
    (sign === 0 || sign === -1) &&
    !cpu.recordsEveryAccess &&
    (cpu.cr4 & Cr4.LASS) === 0
  )
}
