import { formatAddress } from '../address.ts'

/** Machine code that was called and does not come back: it has stopped the processor for good, or goes on and on. Nothing that ran goes on. */
export class EndlessCode extends Error {
  override readonly name = 'EndlessCode'
  /** Where it is, and in which image. */
  readonly rip: bigint
  readonly image: string

  constructor(
    code: { readonly name: string; readonly image: string },
    rip: bigint,
    end: 'halted' | 'instruction-limit',
  ) {
    const how = end === 'halted' ? 'has halted the processor' : 'goes on and on, at the last look'
    super(`${code.name} does not return: ${code.image} ${how} at ${formatAddress(rip)}`)
    this.rip = rip
    this.image = code.image
  }
}
