import { MachineReset, TripleFault } from '@trapdoor/core'
import { GuestExit } from './devices/debug-exit.ts'
import type { GuestMachine } from './machine.ts'

/** How a run of a guest ended, or that it goes on. */
export type GuestOutcome =
  /** The guest wrote to the exit port. */
  | { readonly kind: 'exit'; readonly value: number }
  /** It reset the machine, or switched it off. */
  | { readonly kind: 'reset'; readonly type: MachineReset['type'] }
  | { readonly kind: 'triple-fault'; readonly fault: TripleFault; readonly rip: bigint }
  /** It halted, and nothing can wake it. */
  | { readonly kind: 'hang'; readonly rip: bigint; readonly interrupts: 'on' | 'off' }
  /** It would go on. */
  | { readonly kind: 'instruction-limit' }

/** Runs a guest for so many instructions more. An instruction that the interpreter lacks is thrown. */
export function runGuest(guest: GuestMachine, maxInstructions: number): GuestOutcome {
  const { cpu, events } = guest
  try {
    const end = events.run({ maxInstructions })
    if (end !== 'halted') return { kind: 'instruction-limit' }
    return { kind: 'hang', rip: cpu.rip, interrupts: cpu.interruptFlag ? 'on' : 'off' }
  } catch (error) {
    if (error instanceof GuestExit) return { kind: 'exit', value: error.value }
    if (error instanceof MachineReset) return { kind: 'reset', type: error.type }
    if (error instanceof TripleFault) return { kind: 'triple-fault', fault: error, rip: cpu.rip }
    throw error
  }
}
