import { expect } from 'vitest'
import { HarnessError } from '../src/index.ts'

/** The HarnessError that `work` ends in. */
export async function thrownBy(work: () => unknown): Promise<HarnessError> {
  try {
    await work()
  } catch (error) {
    expect(error).toBeInstanceOf(HarnessError)
    return error as HarnessError
  }
  throw new Error('nothing was thrown')
}
