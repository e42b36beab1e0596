import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Execution, explore, oneOfAlike } from '../src/index.ts'

/** A step of a toy process: reads one variable, and writes a function of it and its register to another. */
interface Step {
  readonly from: number
  readonly to: number
  readonly add: number
}

class Toy implements Execution {
  readonly memory: number[] = [0, 0, 0]
  readonly registers: number[]
  readonly programs: readonly (readonly Step[])[]
  readonly #at: number[]

  constructor(programs: readonly (readonly Step[])[]) {
    this.programs = programs
    this.#at = programs.map(() => 0)
    this.registers = programs.map(() => 1)
  }

  enabled(): number[] {
    return this.programs.flatMap((program, process) =>
      this.#at[process]! < program.length ? [process] : [],
    )
  }

  isOver(): boolean {
    return false
  }

  step(process: number): { reads: Set<string>; writes: Set<string> } {
    const { from, to, add } = this.programs[process]![this.#at[process]!++]!
    this.registers[process] = (this.registers[process]! * 3 + this.memory[from]!) % 101
    this.memory[to] = (this.registers[process] + add) % 101
    return { reads: new Set([String(from)]), writes: new Set([String(to)]) }
  }

  hasBegun(process: number): boolean {
    return this.#at[process]! > 0
  }

  get state(): string {
    return JSON.stringify([this.memory, this.registers])
  }
}

/** Processes of which one may end all: the one that writes a multiple of four. */
class Mortal extends Toy {
  end = 'none'

  override isOver(): boolean {
    return this.end !== 'none'
  }

  override step(process: number): { reads: Set<string>; writes: Set<string> } {
    const touched = super.step(process)
    const wrote = this.memory[Number([...touched.writes][0])]!
    if (wrote % 4 === 0) this.end = `process ${process} wrote ${wrote}`
    return touched
  }
}

/** Of processes with one program that have not begun only the first may. */
class Twins extends Toy {
  override enabled(): number[] {
    return oneOfAlike(super.enabled(), (process) =>
      this.hasBegun(process) ? undefined : this.programs[process],
    )
  }
}

/** A state in which processes with the same program have no names. */
function nameless(programs: readonly (readonly Step[])[], { memory, registers }: Toy): string {
  const named = registers.map((register, process) => [
    programs.indexOf(programs[process]!),
    register,
  ])
  return JSON.stringify([memory, named.map(String).toSorted()])
}

/** What every schedule ends in, one by one. */
function endsOf<Run extends Execution>(start: () => Run): Run[] {
  const runs: Run[] = []
  const visit = (schedule: readonly number[]): void => {
    const run = start()
    for (const process of schedule) run.step(process)
    const enabled = run.isOver() ? [] : run.enabled()
    if (enabled.length === 0) runs.push(run)
    for (const process of enabled) visit([...schedule, process])
  }
  visit([])
  return runs
}

const toyStep = fc.record({
  from: fc.integer({ min: 0, max: 2 }),
  to: fc.integer({ min: 0, max: 2 }),
  add: fc.integer({ min: 0, max: 9 }),
})
const programs = fc.array(fc.array(toyStep, { minLength: 1, maxLength: 3 }), {
  minLength: 2,
  maxLength: 3,
})

describe('exploring', () => {
  test('reaches every state that any schedule ends in, in no more runs than there are schedules', () => {
    fc.assert(
      fc.property(programs, (toys) => {
        const all = endsOf(() => new Toy(toys))
        const explored = [...explore(() => new Toy(toys))]
        const ends = new Set(all.map(({ state }) => state))
        expect(new Set(explored.map(({ run }) => run.state))).toEqual(ends)
        expect(explored.length).toBeLessThanOrEqual(all.length)
        const schedules = explored.map(({ schedule }) => schedule.join(''))
        expect(new Set(schedules).size).toBe(schedules.length)
      }),
      { numRuns: 500 },
    )
  })

  test('finds every way in which one process ends all, though what ends a run keeps others from their steps', () => {
    fc.assert(
      fc.property(programs, (toys) => {
        const explored = [...explore(() => new Mortal(toys))]
        const ends = new Set(explored.map(({ run }) => run.end))
        expect(ends).toEqual(new Set(endsOf(() => new Mortal(toys)).map(({ end }) => end)))
      }),
      { numRuns: 500 },
    )
  })

  test('of processes that are alike reaches every state that any schedule ends in, but for their names', () => {
    fc.assert(
      fc.property(programs, fc.integer({ min: 0, max: 2 }), (toys, which) => {
        const twice = [...toys.slice(0, 2), toys[which % Math.min(toys.length, 2)]!]
        const explored = [...explore(() => new Twins(twice))]
        const named = (states: Iterable<Toy>): Set<string> =>
          new Set(Array.from(states, (toy) => nameless(twice, toy)))
        expect(named(explored.map(({ run }) => run))).toEqual(named(endsOf(() => new Toy(twice))))
      }),
      { numRuns: 500 },
    )
  })

  test('runs one order of processes that are alike', () => {
    const step = [{ from: 0, to: 0, add: 1 }]
    const alike = [step, step, step]
    expect([...explore(() => new Twins(alike))]).toHaveLength(1)
    expect([...explore(() => new Toy(alike))]).toHaveLength(6)
  })

  test('runs independent processes once', () => {
    const apart = [0, 1, 2].map((place) =>
      Array.from({ length: 4 }, () => ({ from: place, to: place, add: 1 })),
    )
    expect([...explore(() => new Toy(apart))]).toHaveLength(1)
  })

  test('ends after as many runs as it is given', () => {
    const together = [0, 1].map(() => Array.from({ length: 3 }, () => ({ from: 0, to: 0, add: 1 })))
    expect([...explore(() => new Toy(together), 4)]).toHaveLength(4)
  })
})

/** Processes that each take a lock, touch one variable, and give the lock back. */
class Locked implements Execution {
  readonly order: number[] = []
  readonly #at: number[]
  #holder: number | undefined

  constructor(count: number) {
    this.#at = Array.from({ length: count }, () => 0)
  }

  enabled(): number[] {
    return this.#at.flatMap((step, process) =>
      step === 3 || (step === 0 && this.#holder !== undefined) ? [] : [process],
    )
  }

  isOver(): boolean {
    return false
  }

  step(process: number): { reads: Set<string>; writes: Set<string> } {
    const at = this.#at[process]!++
    if (at === 0) this.#holder = process
    if (at === 1) this.order.push(process)
    if (at === 2) this.#holder = undefined
    return { reads: new Set(), writes: new Set([at === 1 ? 'variable' : 'lock']) }
  }
}

test('processes that wait for a lock come in every order', () => {
  const orders = [...explore(() => new Locked(3))].map(({ run }) => run.order.join(''))
  expect(orders.toSorted()).toEqual(['012', '021', '102', '120', '201', '210'])
})
