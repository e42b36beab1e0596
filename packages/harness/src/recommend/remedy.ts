import type { StrategyOption } from '@trapdoor/kernel'
import {
  caseId,
  type CaseSpec,
  type StrategySelection,
  strategyLabel,
} from '../config/case-spec.ts'
import type { CaseResult } from '../results/results.ts'
import { compareCosts, meanCost } from './exposure.ts'

/** Switches that are tried together at most. */
const MOST_SWITCHES = 3
/** Cells that are run for one strategy's remedy at most, before sets that mend one of each kind are tried on more. */
const MOST_TRIALS = 400
/** Sets that mend all that failed, the least exposed there, and are tried on all cells. */
const MOST_FINALISTS = 8

/** A cell of the matrix, and how it ended. */
export interface RanCell {
  readonly spec: CaseSpec
  readonly result: CaseResult
}

/** A strategy, what can be chosen of it, and the cells that it was run in. */
interface Patient {
  readonly strategy: StrategySelection
  readonly options: Readonly<Record<string, StrategyOption>>
  readonly cells: readonly RanCell[]
}

type Run = (specs: readonly CaseSpec[]) => Promise<readonly CaseResult[]>

/** One option at another value than it has. */
interface Switch {
  readonly option: string
  readonly value: string
}

/** Switches by their index, ascending, with the ways in which a strategy fails under them. */
interface Attempt {
  readonly switches: readonly number[]
  readonly failures: readonly RanCell[]
}

/**
 * A small set of a strategy's switches with which every cell passes, as a strategy label; of those of one size the least exposed. Undefined where all cells pass anyway, and
 * where none was found.
 *
 * Of the cells that fail in the same way (outcome, rule, place, calls made) one stands for all until a set is found that mends one of each. Sets grow by one switch
 * at a time, and only by such as make a difference in how the first of these cells fails: what neither mends it nor brings it further is left out. A remedy none of
 * whose parts changes anything alone is therefore not found.
 */
export async function findRemedy(patient: Patient, run: Run): Promise<string | undefined> {
  const search = new RemedySearch(patient, run)
  let attempts = await search.begin()
  for (let size = 1; size <= MOST_SWITCHES && attempts.length > 0; size++) {
    attempts = await search.extend(attempts)
    const mended = attempts.filter(({ failures }) => failures.length === 0)
    const best = await search.bestOf(mended)
    if (best !== undefined) return best
    attempts = attempts.filter(({ failures }) => failures.length > 0)
  }
  return undefined
}

class RemedySearch {
  readonly #patient: Patient
  readonly #run: Run
  readonly #switches: readonly Switch[]
  readonly #failing: readonly RanCell[]
  /** One cell for each way to fail, those first that the fewest switches make a difference to. */
  #ways: readonly RanCell[]
  /** What was run, by the id of the cell. */
  readonly #ran: Map<string, CaseResult> = new Map()

  constructor(patient: Patient, run: Run) {
    const { strategy, options, cells } = patient
    this.#patient = patient
    this.#run = run
    this.#switches = Object.entries(options).flatMap(([option, { values, default: usual }]) =>
      values
        .filter((value) => value !== (strategy.options[option] ?? usual))
        .map((value) => ({ option, value })),
    )
    this.#failing = cells.filter(({ result }) => fails(result))
    const alike = Map.groupBy(this.#failing, ({ result }) => wayToFail(result))
    this.#ways = [...alike.values()].map(([first]) => first!)
  }

  /** The strategy as it is; nothing where no switch makes a difference to one of the ways in which it fails. */
  async begin(): Promise<Attempt[]> {
    if (this.#ways.length === 0 || this.#switches.length === 0) return []
    const single = this.#switches.map((_, index) => [index])
    const counted: { way: RanCell; differences: number }[] = []
    for (const way of this.#ways) {
      const tried = await this.#try(single, [way.spec])
      const differences = tried.filter(([after]) => isDifferent(way, after!)).length
      if (differences === 0) return []
      counted.push({ way, differences })
    }
    this.#ways = counted.toSorted((a, b) => a.differences - b.differences).map(({ way }) => way)
    return [{ switches: [], failures: this.#ways }]
  }

  /** Each attempt with one more switch, where that makes a difference. */
  async extend(attempts: readonly Attempt[]): Promise<Attempt[]> {
    const found = new Map<string, Attempt>()
    for (const { switches, failures } of attempts) {
      if (this.#ran.size > MOST_TRIALS) break
      const worst = failures[0]!
      const sets = this.#withOneMore(switches).filter((set) => !found.has(set.join()))
      const tried = await this.#try(sets, [worst.spec])
      const different = sets.filter((_, index) => isDifferent(worst, tried[index]![0]!))
      const specs = this.#ways.map(({ spec }) => spec)
      const results = await this.#try(different, specs)
      for (const [index, set] of different.entries()) {
        const cells = specs.map((spec, way) => ({ spec, result: results[index]![way]! }))
        const left = cells.filter(({ result }) => fails(result))
        found.set(set.join(), { switches: set, failures: left })
      }
    }
    return [...found.values()]
  }

  /** The least exposed of those with which every cell passes. */
  async bestOf(attempts: readonly Attempt[]): Promise<string | undefined> {
    const mended = await this.#leastExposed(
      attempts.map(({ switches }) => switches),
      this.#failing,
    )
    const [best] = await this.#leastExposed(mended.slice(0, MOST_FINALISTS), this.#patient.cells)
    return best === undefined ? undefined : strategyLabel(this.#selection(best))
  }

  /** Sets of switches with which all of the cells pass, the least exposed first. */
  async #leastExposed(
    sets: readonly (readonly number[])[],
    cells: readonly RanCell[],
  ): Promise<(readonly number[])[]> {
    const tried = await this.#try(
      sets,
      cells.map(({ spec }) => spec),
    )
    return sets
      .map((set, index) => ({ set, results: tried[index]! }))
      .filter(({ results }) => !results.some(fails))
      .map(({ set, results }) => ({
        set,
        cost: meanCost(results.flatMap(({ cost }) => cost ?? [])),
      }))
      .toSorted((a, b) => compareCosts(a.cost, b.cost))
      .map(({ set }) => set)
  }

  /** All cells under each set of switches. What was run before is not run again. */
  async #try(
    sets: readonly (readonly number[])[],
    specs: readonly CaseSpec[],
  ): Promise<CaseResult[][]> {
    const cells = sets.map((set) => {
      const strategy = this.#selection(set)
      return specs.map((spec) => {
        const changed = { ...spec, strategy }
        return { ...changed, id: caseId(changed) }
      })
    })
    const unknown = cells.flat().filter(({ id }) => !this.#ran.has(id))
    if (unknown.length > 0) {
      const results = await this.#run(unknown)
      for (const [index, { id }] of unknown.entries()) this.#ran.set(id, results[index]!)
    }
    return cells.map((row) => row.map(({ id }) => this.#ran.get(id)!))
  }

  #selection(set: readonly number[]): StrategySelection {
    const { name, options } = this.#patient.strategy
    const chosen = set.map((index) => this.#switches[index]!)
    const values = Object.fromEntries(chosen.map(({ option, value }) => [option, value]))
    return { name, options: { ...options, ...values } }
  }

  #withOneMore(set: readonly number[]): number[][] {
    const taken = new Set(set.map((index) => this.#switches[index]!.option))
    return this.#switches.flatMap(({ option }, index) =>
      taken.has(option) ? [] : [[...set, index].toSorted((a, b) => a - b)],
    )
  }
}

function fails({ outcome }: CaseResult): boolean {
  return outcome !== 'ok'
}

function isDifferent(before: RanCell, after: CaseResult): boolean {
  return wayToFail(before.result) !== wayToFail(after)
}

/** How a cell ended, without addresses: with them every other placement of a region would seem to be another way. */
function wayToFail({ outcome, reason, findings, services }: CaseResult): string {
  const worst = findings.find((each) => each.outcome === outcome)
  const where =
    worst === undefined
      ? [reason]
      : [worst.rule, worst.kernel, worst.phase, worst.service, worst.actor]
  return [outcome, services.length, ...where].join('/')
}
