import { formatAddress } from '../address.ts'
import type { Cpu } from '../cpu/cpu.ts'

/** Machine code that was called and does not come back: it has stopped the processor for good, or goes on and on. Nothing that ran goes on. */
export class EndlessCode extends Error {
  override readonly name = 'EndlessCode'
  readonly end: 'halted' | 'instruction-limit'
  /** On which processor, where it is, and in which image. */
  readonly cpu: number
  readonly rip: bigint
  readonly image: string

  constructor(
    code: { readonly name: string; readonly image: string },
    { id, rip, machine }: Pick<Cpu, 'id' | 'rip' | 'machine'>,
    end: 'halted' | 'instruction-limit',
  ) {
    const instructions = machine.instructionLimit.toLocaleString('en')
    const how =
      end === 'halted'
        ? 'has halted the processor'
        : `goes on and on, after ${instructions} instructions`
    super(`${code.name} does not return: ${code.image} ${how} at ${formatAddress(rip)}`)
    this.end = end
    this.cpu = id
    this.rip = rip
    this.image = code.image
  }
}
