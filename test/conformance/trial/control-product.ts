import type { RegisterState } from '../oracle/register-state.ts'

/** The product of values for some registers, each combined with the rest of `base`; the first key varies slowest. */
export function stateProduct(
  base: RegisterState,
  dimensions: Partial<{ [Key in keyof RegisterState]: readonly RegisterState[Key][] }>,
): RegisterState[] {
  let states: RegisterState[] = [base]
  for (const [key, values] of Object.entries(dimensions))
    states = states.flatMap((state) => withEach(state, key, values))
  return states
}

export const BOTH: readonly boolean[] = [false, true]

function withEach(state: RegisterState, key: string, values: readonly unknown[]): RegisterState[] {
  const states: RegisterState[] = []
  for (const value of values) states.push({ ...state, [key]: value })
  return states
}
