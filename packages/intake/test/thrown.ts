import { IntakeError } from '../src/index.ts'

/** The IntakeError that a function throws. */
export function thrownBy(action: () => unknown): IntakeError {
  try {
    action()
  } catch (error) {
    if (error instanceof IntakeError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
