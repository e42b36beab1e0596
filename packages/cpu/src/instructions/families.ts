import { ARITHMETIC } from './integer/arithmetic.ts'
import { ATOMICS } from './integer/atomics.ts'
import { BIT_MANIPULATION } from './integer/bit-manipulation.ts'
import { BITS } from './integer/bits.ts'
import { CONTROL_FLOW } from './integer/control-flow.ts'
import { CONVERSIONS } from './integer/conversions.ts'
import { FLAGS } from './integer/flags.ts'
import { HINTS } from './integer/hints.ts'
import { LEGACY } from './integer/legacy.ts'
import { LOGIC } from './integer/logic.ts'
import { MOVES } from './integer/moves.ts'
import { MULTIPLY_DIVIDE } from './integer/multiply-divide.ts'
import { PORTS } from './integer/ports.ts'
import { SHIFTS } from './integer/shifts.ts'
import { STACK } from './integer/stack.ts'
import { STRINGS } from './integer/strings.ts'
import { CONTROL_REGISTERS } from './system/control-registers.ts'
import { DESCRIPTOR_TABLES } from './system/descriptor-tables.ts'
import { FAR_TRANSFERS } from './system/far-transfers.ts'
import { PROCESSOR } from './system/processor.ts'
import { SEGMENTS } from './system/segments.ts'
import { VIRTUALIZATION } from './system/virtualization.ts'
import { PACKED_INTEGER } from './sse/packed-integer.ts'
import { SSE_ARITHMETIC } from './sse/arithmetic.ts'
import { SSE_CONVERSIONS } from './sse/conversions.ts'
import { EXTENDED_STATE } from './sse/extended-state.ts'
import { VECTOR_MOVES } from './sse/moves.ts'
import { FLOATING_POINT_STATE } from './sse/state.ts'
import type { InstructionFamily } from './table.ts'
import { X87_ARITHMETIC } from './x87/arithmetic.ts'
import { X87_COMPARISONS } from './x87/comparison.ts'
import { X87_CONTROL } from './x87/control.ts'
import { X87_MOVES } from './x87/load-store.ts'

/** All instructions of this package. */
export const INSTRUCTION_FAMILIES: readonly InstructionFamily[] = [
  ARITHMETIC,
  ATOMICS,
  BIT_MANIPULATION,
  BITS,
  CONTROL_FLOW,
  CONVERSIONS,
  FLAGS,
  HINTS,
  LEGACY,
  LOGIC,
  MOVES,
  MULTIPLY_DIVIDE,
  PORTS,
  SHIFTS,
  STACK,
  STRINGS,
  CONTROL_REGISTERS,
  DESCRIPTOR_TABLES,
  FAR_TRANSFERS,
  PROCESSOR,
  SEGMENTS,
  VIRTUALIZATION,
  PACKED_INTEGER,
  SSE_ARITHMETIC,
  SSE_CONVERSIONS,
  VECTOR_MOVES,
  FLOATING_POINT_STATE,
  EXTENDED_STATE,
  X87_ARITHMETIC,
  X87_COMPARISONS,
  X87_CONTROL,
  X87_MOVES,
]
