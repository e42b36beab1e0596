import { isCanonical } from '../address.ts'
import { highHalf, lowHalf } from '../halves.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { supportedLinearBits } from '../cpu/features.ts'
import { CoreError } from '../error.ts'
import {
  baseOf,
  type Descriptor,
  isIa32e,
  isNull,
  isPresent,
  limitOf,
  markDescriptor,
  readDescriptor,
  readSecondHalf,
  segmentOf,
  selectorFault,
  SystemType,
  systemType,
} from './descriptor.ts'
import { NO_LDT } from '../cpu/segment-register.ts'
import { highWithCarry, readSystemWord } from './system-memory.ts'

/** GDTR and IDTR. */
export interface DescriptorTable {
  /** Linear address of the first byte. */
  readonly base: bigint
  /** Offset of the last byte, as the SDM counts limits. */
  readonly limit: number
}

/** TR: the selector of the task-state segment, and what LTR read from its descriptor. */
export interface TaskRegister extends DescriptorTable {
  readonly selector: number
}

/** Bit 41 of a TSS descriptor, in its second word. */
const BUSY = 0x200
const TABLE_INDICATOR = 4

/** LTR: reads the descriptor of a task-state segment from the GDT, marks it busy, and loads TR (SDM Vol. 2, LTR). A 16-bit one is not modelled: CORE_NOT_MODELLED. */
export function loadTaskRegister(cpu: Cpu, selector: number): void {
  if (isNull(selector)) throw selectorFault(cpu, '#GP', 0)
  const code = selector & 0xfffc
  if ((selector & TABLE_INDICATOR) !== 0) throw selectorFault(cpu, '#GP', code)
  const descriptor = readDescriptor(cpu, selector)
  const type = systemType(descriptor)
  if (type === SystemType.AvailableTss16 && !isIa32e(cpu)) {
    throw new CoreError('CORE_NOT_MODELLED', {
      expected: 'a 32-bit or 64-bit task-state segment',
      found: `a 16-bit one, selector 0x${selector.toString(16)}`,
    })
  }
  if (type !== SystemType.AvailableTss) throw selectorFault(cpu, '#GP', code)
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  const base = systemBase(cpu, selector, descriptor)
  markDescriptor(cpu, descriptor, BUSY)
  cpu.taskRegister = { selector, base, limit: limitOf(descriptor) }
}

/** LLDT: reads the descriptor of a local descriptor table from the GDT; a null selector leaves the CPU without one (SDM Vol. 2, LLDT). */
export function loadLocalDescriptorTable(cpu: Cpu, selector: number): void {
  if (isNull(selector)) {
    cpu.ldtr = { ...NO_LDT, selector }
    return
  }
  const code = selector & 0xfffc
  if ((selector & TABLE_INDICATOR) !== 0) throw selectorFault(cpu, '#GP', code)
  const descriptor = readDescriptor(cpu, selector)
  if (systemType(descriptor) !== SystemType.Ldt) throw selectorFault(cpu, '#GP', code)
  if (!isPresent(descriptor)) throw selectorFault(cpu, '#NP', code)
  const base = systemBase(cpu, selector, descriptor)
  cpu.ldtr = { ...segmentOf(selector, descriptor), base }
}

/** The base of a system segment, which has 64 bits in IA-32e mode; the upper half of the descriptor must have no type there. */
function systemBase(cpu: Cpu, selector: number, descriptor: Descriptor): bigint {
  const base = BigInt(baseOf(descriptor))
  if (!isIa32e(cpu)) return base
  // The second half has to lie within the limit, too.
  if ((selector & 0xfff8) + 15 > cpu.gdtr.limit) {
    throw selectorFault(cpu, '#GP', selector & 0xfffc)
  }
  const { low, high } = readSecondHalf(cpu, descriptor)
  if ((high & 0x1f00) !== 0) throw selectorFault(cpu, '#GP', selector & 0xfffc)
  const wide = base | (BigInt(low >>> 0) << 32n)
  // Not in the SDM; "the 64-bit system-segment base address must be in canonical form" (APM Vol. 2, 4.8.3).
  if (!isCanonical(wide, supportedLinearBits(cpu.machine.features))) {
    throw selectorFault(cpu, '#GP', selector & 0xfffc)
  }
  return wide
}

/** Reads 32 bits of the task-state segment. What lies beyond its limit is #TS with the selector of TR; `external` is the EXT flag of the error code. */
export function readTaskWord(cpu: Cpu, offset: number, external: number): number {
  const { base, limit, selector } = cpu.taskRegister
  if (offset + 3 > limit) throw selectorFault(cpu, '#TS', (selector & 0xfffc) + external)
  const low = lowHalf(base)
  return readSystemWord(cpu, highWithCarry(highHalf(base), low, offset), (low + offset) | 0)
}
