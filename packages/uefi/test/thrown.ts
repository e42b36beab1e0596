import { UefiError } from '../src/index.ts'

/** The code and the text of the UefiError that a function throws. */
export function thrownBy(action: () => unknown): { code: string; message: string } {
  try {
    action()
  } catch (error) {
    if (error instanceof UefiError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was thrown')
}
