import type { Rewind } from '@trapdoor/core'
import type { Kernel } from '@trapdoor/kernel'

/** What a rule knows of a kernel at first, and how that is copied. */
export interface RuleState<State> {
  readonly initial: () => State
  readonly copy: (state: State) => State
}

interface Store {
  states: Map<Kernel, unknown>
  readonly copyAll: (states: Map<Kernel, unknown>) => Map<Kernel, unknown>
}

/** What rules know of the kernels of one case at a time. */
export class RuleMemory {
  readonly #stores: Store[] = []

  /** A place for what a rule knows of each kernel. */
  perKernel<State>({ initial, copy }: RuleState<State>): (kernel: Kernel) => State {
    const store: Store = {
      states: new Map(),
      copyAll: (states) =>
        new Map([...states].map(([kernel, state]) => [kernel, copy(state as State)])),
    }
    this.#stores.push(store)
    return (kernel) => {
      if (!store.states.has(kernel)) store.states.set(kernel, initial())
      return store.states.get(kernel) as State
    }
  }

  /** Another case begins. */
  forget(): void {
    for (const store of this.#stores) store.states.clear()
  }

  /** Remembers what is known at this moment. */
  checkpoint(): Rewind {
    const saved = this.#stores.map(({ states, copyAll }) => copyAll(states))
    return () => {
      for (const [index, store] of this.#stores.entries()) {
        store.states = store.copyAll(saved[index]!)
      }
    }
  }
}
