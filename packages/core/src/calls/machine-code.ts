import { formatAddress, PAGE_SIZE } from '../address.ts'
import type { Cpu } from '../cpu/cpu.ts'
import type { ActiveCall } from './function-calls.ts'

/** What stands for the image of machine code in a page that nobody owns, or that is not mapped. */
export const UNKNOWN_IMAGE = 'unknown code'

/** A call of machine code that has not returned. */
export class MachineCode implements ActiveCall {
  /** Where the code stands while other code that it has called runs. */
  standsAt: bigint | undefined
  readonly #cpu: Cpu
  readonly #name: string

  /** A call of the function at `entry`, whose name the machine may know. */
  constructor(cpu: Cpu, entry: bigint) {
    this.#cpu = cpu
    const physical = cpu.peekPhysical(entry)
    const known = physical === undefined ? undefined : cpu.machine.functionNames.get(physical)
    this.#name = known ?? formatAddress(entry)
  }

  get rip(): bigint {
    return this.standsAt ?? this.#cpu.rip
  }

  /** The function that was called, and the owner of the page that the code is in now. */
  get gate(): { readonly name: string; readonly image: string } {
    const physical = this.#cpu.peekPhysical(this.rip)
    const { owners } = this.#cpu.machine.memory
    const owner = physical === undefined ? undefined : owners.get(Math.floor(physical / PAGE_SIZE))
    return { name: this.#name, image: owner?.name ?? UNKNOWN_IMAGE }
  }
}
