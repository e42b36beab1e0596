import { ARITHMETIC } from './arithmetic.ts'
import { CONTROL_FLOW } from './control-flow.ts'
import { LOGIC } from './logic.ts'
import { MOVES } from './moves.ts'
import { SHIFTS } from './shifts.ts'
import { STACK } from './stack.ts'
import type { InstructionFamily } from './table.ts'

/** All instructions of this package. */
export const INSTRUCTION_FAMILIES: readonly InstructionFamily[] = [
  ARITHMETIC,
  CONTROL_FLOW,
  LOGIC,
  MOVES,
  SHIFTS,
  STACK,
]
