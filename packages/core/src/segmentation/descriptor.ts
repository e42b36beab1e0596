import { highHalf, lowHalf } from '../halves.ts'
import { Efer } from '../cpu/control.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { type CpuException, DescriptorFault } from '../cpu/exception.ts'
import { type SegmentRegister, SegmentRights } from '../cpu/segment-register.ts'
import { highWithCarry, readSystemWord, writeSystemWord } from './system-memory.ts'

/** A descriptor of 8 bytes as two words (SDM Vol. 3, figure 3-8), with the linear address of the first. */
export interface Descriptor {
  readonly low: number
  readonly high: number
  readonly atHigh: number
  readonly atLow: number
}

/** Exceptions whose error code is a selector. */
export type SelectorFault = '#TS' | '#NP' | '#SS' | '#GP'

/** Types of system segments and gates (SDM Vol. 3, table 3-2); in IA-32e mode the 16-bit ones and the task gate do not exist. */
export const SystemType = {
  AvailableTss16: 0x1,
  Ldt: 0x2,
  BusyTss16: 0x3,
  CallGate16: 0x4,
  TaskGate: 0x5,
  InterruptGate16: 0x6,
  TrapGate16: 0x7,
  AvailableTss: 0x9,
  BusyTss: 0xb,
  CallGate: 0xc,
  InterruptGate: 0xe,
  TrapGate: 0xf,
} as const

/** The bits of a descriptor's second word that a segment register keeps as its rights. */
const RIGHTS = 0x00f0_ff00
const TABLE_INDICATOR = 4

/** The exception for a selector that cannot be used; `errorCode` is the selector without RPL, plus EXT. */
export function selectorFault(cpu: Cpu, mnemonic: SelectorFault, errorCode: number): CpuException {
  return cpu.raise((site) => new DescriptorFault(mnemonic, errorCode, site))
}

/** Whether a selector names no segment at all. */
export function isNull(selector: number): boolean {
  return (selector & 0xfffc) === 0
}

/** Reads what a selector names from the GDT or the LDT. One beyond the table's limit is `mnemonic` with the selector; `external` is the EXT flag of the error code. */
export function readDescriptor(
  cpu: Cpu,
  selector: number,
  mnemonic: SelectorFault = '#GP',
  external = 0,
): Descriptor {
  const descriptor = findDescriptor(cpu, selector)
  if (descriptor === undefined) {
    throw selectorFault(cpu, mnemonic, (selector & 0xfffc) + external)
  }
  return descriptor
}

/** Reads what a selector names; undefined where it is beyond the table's limit. */
export function findDescriptor(cpu: Cpu, selector: number): Descriptor | undefined {
  const isLocal = (selector & TABLE_INDICATOR) !== 0
  const { base, limit } = isLocal ? cpu.ldtr : cpu.gdtr
  const offset = selector & 0xfff8
  if (offset + 7 > limit || (isLocal && cpu.ldtr.rights === 0)) return undefined
  const baseLow = lowHalf(base)
  const atLow = (baseLow + offset) | 0
  const atHigh = highWithCarry(highHalf(base), baseLow, offset)
  const low = readSystemWord(cpu, atHigh, atLow)
  const high = readSystemWord(cpu, highWithCarry(atHigh, atLow, 4), (atLow + 4) | 0)
  return { low, high, atHigh, atLow }
}

/** The second half of a descriptor of 16 bytes, which system segments and gates have in IA-32e mode: the high half of the base or offset, and what must be 0. */
export function readSecondHalf(
  cpu: Cpu,
  { atHigh, atLow }: Descriptor,
): { readonly low: number; readonly high: number } {
  const low = (atLow + 8) | 0
  const high = highWithCarry(atHigh, atLow, 8)
  return {
    low: readSystemWord(cpu, high, low),
    high: readSystemWord(cpu, highWithCarry(high, low, 4), (low + 4) | 0),
  }
}

/** Sets bits in the second word of a descriptor in its table: the accessed flag of a segment, the busy flag of a TSS. */
export function markDescriptor(cpu: Cpu, { high, atHigh, atLow }: Descriptor, bits: number): void {
  if ((high & bits) === bits) return
  writeSystemWord(cpu, highWithCarry(atHigh, atLow, 4), (atLow + 4) | 0, high | bits)
}

/** The hidden part of a segment register for a descriptor. */
export function segmentOf(selector: number, descriptor: Descriptor): SegmentRegister {
  const { high } = descriptor
  const base = baseOf(descriptor)
  return { selector, base: BigInt(base), limit: limitOf(descriptor), rights: high & RIGHTS }
}

/** The 32-bit base of a segment, unsigned. */
export function baseOf({ low, high }: Descriptor): number {
  return ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0
}

/** Offset of the last byte of a segment. */
export function limitOf({ low, high }: Descriptor): number {
  const limit = (low & 0xffff) | (high & 0xf_0000)
  return (high & SegmentRights.Granularity) === 0 ? limit : limit * 4096 + 4095
}

export function privilegeOf({ high }: Descriptor): number {
  return (high >>> SegmentRights.PrivilegeShift) & 3
}

export function isPresent({ high }: Descriptor): boolean {
  return (high & SegmentRights.Present) !== 0
}

/** Whether it is a code segment. */
export function isCode({ high }: Descriptor): boolean {
  const wanted = SegmentRights.CodeOrData | SegmentRights.Code
  return (high & wanted) === wanted
}

export function isConforming({ high }: Descriptor): boolean {
  return (high & SegmentRights.ConformingOrExpandDown) !== 0
}

/** Whether it is a data segment that can be written. */
export function isWritableData({ high }: Descriptor): boolean {
  const asked = SegmentRights.CodeOrData | SegmentRights.Code | SegmentRights.ReadableOrWritable
  return (high & asked) === (SegmentRights.CodeOrData | SegmentRights.ReadableOrWritable)
}

/** Type of a system segment or gate, or undefined for a code or data segment. */
export function systemType({ high }: Descriptor): number | undefined {
  return (high & SegmentRights.CodeOrData) === 0 ? (high >>> 8) & 0xf : undefined
}

/** Whether the CPU is in IA-32e mode, where gates and system descriptors have 16 bytes. */
export function isIa32e(cpu: Cpu): boolean {
  return (cpu.efer & Efer.LMA) !== 0
}

/** Whether the CPU executes in 64-bit mode. */
export function is64BitMode(cpu: Cpu): boolean {
  return cpu.codeSegmentLong && isIa32e(cpu)
}
