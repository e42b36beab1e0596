/**
 * Whether something that a scenario does at many points of a call is done at point `number`, counted from 1: at each of the first `dense` points, at every second one up to twice as many, at
 * every fourth up to four times as many, and so on. Modelled firmware has few points, and all of them count; machine code makes hundreds of thousands of accesses in a call.
 */
export function isSample(number: number, dense: number): boolean {
  let stride = 1
  for (let end = dense; number > end; end *= 2) stride *= 2
  return number % stride === 0
}
