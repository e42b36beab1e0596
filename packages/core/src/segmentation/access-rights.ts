import type { Cpu } from '../cpu/cpu.ts'
import { SegmentRights } from '../cpu/segment-register.ts'
import {
  type Descriptor,
  findDescriptor,
  isCode,
  isConforming,
  isIa32e,
  isNull,
  isWritableData,
  limitOf,
  privilegeOf,
  systemType,
  SystemType,
} from './descriptor.ts'
import { isReadable } from './segment-load.ts'

/** What LAR shows of a descriptor's second word; bits 19 to 16, of the limit, are undefined (SDM Vol. 2, LAR), and 0 here. */
const SHOWN = 0x00f0_ff00
/** System descriptors that LAR and LSL take (SDM Vol. 2, tables 3-52 and 3-54). */
const LAR_TYPES: ReadonlySet<number> = new Set([
  SystemType.AvailableTss16,
  SystemType.Ldt,
  SystemType.BusyTss16,
  SystemType.CallGate16,
  SystemType.TaskGate,
  SystemType.AvailableTss,
  SystemType.BusyTss,
  SystemType.CallGate,
])
const LAR_TYPES_IA32E: ReadonlySet<number> = new Set([
  SystemType.Ldt,
  SystemType.AvailableTss,
  SystemType.BusyTss,
  SystemType.CallGate,
])
const LSL_TYPES: ReadonlySet<number> = new Set([
  SystemType.AvailableTss16,
  SystemType.Ldt,
  SystemType.BusyTss16,
  SystemType.AvailableTss,
  SystemType.BusyTss,
])
const LSL_TYPES_IA32E: ReadonlySet<number> = new Set([
  SystemType.Ldt,
  SystemType.AvailableTss,
  SystemType.BusyTss,
])

/** LAR: access rights at their places in the descriptor's second word; undefined where the program may not see them. */
export function accessRights(cpu: Cpu, selector: number): number | undefined {
  const descriptor = visible(cpu, selector, isIa32e(cpu) ? LAR_TYPES_IA32E : LAR_TYPES)
  return descriptor === undefined ? undefined : descriptor.high & SHOWN
}

/** LSL: offset of the segment's last byte; undefined where the program may not see it. */
export function segmentLimit(cpu: Cpu, selector: number): number | undefined {
  const descriptor = visible(cpu, selector, isIa32e(cpu) ? LSL_TYPES_IA32E : LSL_TYPES)
  return descriptor === undefined ? undefined : limitOf(descriptor)
}

/** VERR, VERW: whether the program could read, or write, the segment. */
export function isAccessible(cpu: Cpu, selector: number, access: 'read' | 'write'): boolean {
  const descriptor = isNull(selector) ? undefined : findDescriptor(cpu, selector)
  if (descriptor === undefined || systemType(descriptor) !== undefined) return false
  const isUsable = access === 'read' ? isReadable(descriptor) : isWritableData(descriptor)
  return isUsable && isWithinPrivilege(cpu, selector, descriptor)
}

function visible(cpu: Cpu, selector: number, types: ReadonlySet<number>): Descriptor | undefined {
  const descriptor = isNull(selector) ? undefined : findDescriptor(cpu, selector)
  if (descriptor === undefined) return undefined
  const type = systemType(descriptor)
  if (type !== undefined && !types.has(type)) return undefined
  return isWithinPrivilege(cpu, selector, descriptor) ? descriptor : undefined
}

/** Conforming code is anybody's. */
function isWithinPrivilege(cpu: Cpu, selector: number, descriptor: Descriptor): boolean {
  const isSegment = (descriptor.high & SegmentRights.CodeOrData) !== 0
  if (isSegment && isCode(descriptor) && isConforming(descriptor)) return true
  return privilegeOf(descriptor) >= Math.max(cpu.cpl, selector & 3)
}
