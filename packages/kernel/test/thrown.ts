/** The error of class `type` that `work` ends in. */
export function thrownBy<E extends Error>(
  type: abstract new (...args: never) => E,
  work: () => unknown,
): E {
  try {
    work()
  } catch (error) {
    if (error instanceof type) return error
    throw error
  }
  throw new Error(`nothing was thrown, although a ${type.name} was due`)
}
