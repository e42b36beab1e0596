import { highHalf, lowHalf } from '../halves.ts'
import type { Cpu } from '../cpu/cpu.ts'
import { isIa32e, selectorFault, SystemType } from '../segmentation/descriptor.ts'
import { highWithCarry, readSystemWord } from '../segmentation/system-memory.ts'
import type { InterruptEvent } from './event.ts'

/** A descriptor of the IDT (SDM Vol. 3, figures 6-2 and 6-8). */
export interface Gate {
  readonly selector: number
  readonly offsetHigh: number
  readonly offsetLow: number
  /** Interrupt-stack table entry, 1 to 7, or 0 for none. */
  readonly ist: number
  /** Whether RFLAGS.IF is cleared. */
  readonly masks: boolean
  /** Bytes of what is pushed. */
  readonly operandBytes: 2 | 4 | 8
  readonly kind: 'handler' | 'task'
}

const IA32E_BYTES = 16
const LEGACY_BYTES = 8
/** Flag of an error code: it names a vector. */
const IN_IDT = 2

/** Reads and checks the gate of an event's vector; throws #GP or #NP with the vector. */
export function readGate(cpu: Cpu, event: InterruptEvent, external: number): Gate {
  const { vector } = event
  const isLong = isIa32e(cpu)
  const bytes = isLong ? IA32E_BYTES : LEGACY_BYTES
  const code = vector * 8 + IN_IDT + external
  const { base, limit } = cpu.idtr
  const offset = vector * bytes
  if (offset + bytes - 1 > limit) throw selectorFault(cpu, '#GP', code)
  const baseLow = lowHalf(base)
  const low = (baseLow + offset) | 0
  const high = highWithCarry(highHalf(base), baseLow, offset)
  const word = (at: number): number =>
    readSystemWord(cpu, highWithCarry(high, low, at), (low + at) | 0)
  const first = word(0)
  const second = word(4)
  const type = (second >>> 8) & 0x1f
  const isHandler =
    type === SystemType.InterruptGate ||
    type === SystemType.TrapGate ||
    (!isLong && (type === SystemType.InterruptGate16 || type === SystemType.TrapGate16))
  const isTask = !isLong && type === SystemType.TaskGate
  if (!isHandler && !isTask) throw selectorFault(cpu, '#GP', code)
  const privilege = (second >>> 13) & 3
  if (event.source === 'software' && privilege < cpu.cpl) throw selectorFault(cpu, '#GP', code)
  if ((second & 0x8000) === 0) throw selectorFault(cpu, '#NP', code)
  const is16Bit = type === SystemType.InterruptGate16 || type === SystemType.TrapGate16
  return {
    selector: first >>> 16,
    offsetHigh: isLong ? word(8) : 0,
    offsetLow: is16Bit ? first & 0xffff : (first & 0xffff) | (second & 0xffff_0000),
    ist: isLong ? second & 7 : 0,
    masks: type === SystemType.InterruptGate || type === SystemType.InterruptGate16,
    operandBytes: isLong ? 8 : is16Bit ? 2 : 4,
    kind: isTask ? 'task' : 'handler',
  }
}
