import type { CaseEnvironment } from '../case/environment.ts'
import { runCase } from '../case/run-case.ts'
import {
  caseId,
  type CaseSpec,
  type StrategySelection,
  strategyLabel,
} from '../config/case-spec.ts'
import { planCases } from '../config/plan.ts'
import type { CaseResult, StrategyCost } from '../results/results.ts'

/** What is asked: which firmware and which scenarios a strategy has to survive. */
export interface RecommendRequest {
  /** Quirks, sets of them, or "none"; undefined for a firmware without quirks and each known quirk alone. */
  readonly firmware?: readonly string[] | undefined
  readonly scenarios?: readonly string[] | undefined
  /** Strategies to choose among; undefined for all that are known, with their default options. */
  readonly strategies?: readonly string[] | undefined
}

/** A strategy with everything that was run under it. */
export interface RankedStrategy {
  readonly label: string
  readonly title: string
  readonly cells: readonly CaseResult[]
  readonly failed: readonly CaseResult[]
  /** Means over the cells that came far enough to call; undefined where none did. */
  readonly cost: StrategyCost | undefined
  /** The smallest set of switches with which every cell passes, as a strategy label; undefined where it passes as it is, or none was found. */
  readonly remedy: string | undefined
}

/** Switches that are tried together at most. */
const MOST_SWITCHES = 3
/** Cells that are run for one strategy's remedy at most. */
const MOST_TRIALS = 4000

/**
 * Runs every strategy on the firmware and the scenarios that are asked for, and ranks them: first those with fewer cells that end badly, then the less exposed (writable and
 * executable bytes, page 0, boot services, conflicting memory types), then the cheaper calls. For one that fails it looks for the smallest set of its options that passes.
 */
export function recommend(
  environment: CaseEnvironment,
  request: RecommendRequest = {},
): RankedStrategy[] {
  const { config } = environment
  const names = request.strategies ?? ['*']
  const specs = planCases(config, {
    firmware: request.firmware ?? ['*'],
    strategies: names,
    scenarios: request.scenarios,
  })
  const byStrategy = Map.groupBy(specs, (spec) => strategyLabel(spec.strategy))
  return [...byStrategy]
    .map(([label, own]) => rankOne(environment, label, own))
    .toSorted(compareRanked)
}

/** Whether a strategy survives everything that it was asked to. */
export function passes({ failed }: RankedStrategy): boolean {
  return failed.length === 0
}

function rankOne(
  environment: CaseEnvironment,
  label: string,
  specs: readonly CaseSpec[],
): RankedStrategy {
  const cells = specs.map((spec) => runCase(environment, spec))
  const failed = cells.filter(({ outcome }) => outcome !== 'ok')
  const { strategy } = specs[0]!
  const failing = specs.filter((_, index) => cells[index]!.outcome !== 'ok')
  return {
    label,
    title: environment.config.registry.strategy(strategy.name).title,
    cells,
    failed,
    cost: meanCost(cells.flatMap(({ cost }) => cost ?? [])),
    remedy: failing.length === 0 ? undefined : findRemedy(environment, strategy, failing, specs),
  }
}

/** The smallest set of switches that makes all cells pass, the least exposed of those of one size; cells that failed are tried first. */
function findRemedy(
  environment: CaseEnvironment,
  strategy: StrategySelection,
  failing: readonly CaseSpec[],
  all: readonly CaseSpec[],
): string | undefined {
  const { options = {} } = environment.config.registry.strategy(strategy.name)
  const switches = Object.entries(options).flatMap(([option, { values, default: usual }]) =>
    values
      .filter((value) => value !== (strategy.options[option] ?? usual))
      .map((value) => ({ option, value })),
  )
  let trials = 0
  const run = (spec: CaseSpec, selection: StrategySelection): CaseResult => {
    trials++
    const changed = { ...spec, strategy: selection }
    return runCase(environment, { ...changed, id: caseId(changed) })
  }
  for (let size = 1; size <= Math.min(MOST_SWITCHES, switches.length); size++) {
    const found: { label: string; rank: number[] }[] = []
    for (const chosen of combinations(switches, size)) {
      if (new Set(chosen.map(({ option }) => option)).size < size) continue
      if (trials > MOST_TRIALS) break
      const values = Object.fromEntries(chosen.map(({ option, value }) => [option, value]))
      const selection = { name: strategy.name, options: { ...strategy.options, ...values } }
      if (failing.some((spec) => run(spec, selection).outcome !== 'ok')) continue
      const cells = all.map((spec) => run(spec, selection))
      if (cells.some(({ outcome }) => outcome !== 'ok')) continue
      const cost = meanCost(cells.flatMap((cell) => cell.cost ?? []))
      found.push({ label: strategyLabel(selection), rank: rankOf({ failed: [], cost }) })
    }
    const [best] = found.toSorted((a, b) => compareRanks(a.rank, b.rank))
    if (best !== undefined) return best.label
  }
  return undefined
}

/** All ways to take `size` of `items`, in their order. */
function combinations<Item>(items: readonly Item[], size: number): Item[][] {
  if (size === 0) return [[]]
  return items.flatMap((item, index) =>
    combinations(items.slice(index + 1), size - 1).map((rest) => [item].concat(rest)),
  )
}

function meanCost(costs: readonly StrategyCost[]): StrategyCost | undefined {
  if (costs.length === 0) return undefined
  const mean = (read: (cost: StrategyCost) => number): number =>
    costs.reduce((sum, cost) => sum + read(cost), 0) / costs.length
  return {
    tablePages: mean((cost) => cost.tablePages),
    mappedBytes: mean((cost) => cost.mappedBytes),
    writableExecutableBytes: mean((cost) => cost.writableExecutableBytes),
    pageZeroMapped: costs.some(({ pageZeroMapped }) => pageZeroMapped),
    bootServicesBytes: mean((cost) => cost.bootServicesBytes),
    conflictingTypeBytes: mean((cost) => cost.conflictingTypeBytes),
    perCall: {
      cr3Writes: mean(({ perCall }) => perCall.cr3Writes),
      globalFlushes: mean(({ perCall }) => perCall.globalFlushes),
      tlbMisses: mean(({ perCall }) => perCall.tlbMisses),
      walkReferences: mean(({ perCall }) => perCall.walkReferences),
    },
    price: null,
  }
}

/** The rule of {@link recommend}. */
function compareRanked(a: RankedStrategy, b: RankedStrategy): number {
  return compareRanks(rankOf(a), rankOf(b)) || a.label.localeCompare(b.label)
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const other = b[index] ?? 0
    if (value !== other) return value < other ? -1 : 1
  }
  return 0
}

function rankOf({ failed, cost }: Pick<RankedStrategy, 'failed' | 'cost'>): number[] {
  if (cost === undefined) return [failed.length, Infinity]
  const { perCall } = cost
  return [
    failed.length,
    cost.writableExecutableBytes,
    Number(cost.pageZeroMapped),
    cost.bootServicesBytes,
    cost.conflictingTypeBytes,
    perCall.cr3Writes + perCall.globalFlushes,
    perCall.tlbMisses,
    perCall.walkReferences,
  ]
}
