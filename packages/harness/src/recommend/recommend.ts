import type { CaseEnvironment } from '../case/environment.ts'
import { runCases } from '../case/run-cases.ts'
import { type CaseSpec, strategyLabel } from '../config/case-spec.ts'
import { type CaseFilters, planCases } from '../config/plan.ts'
import type { CaseResult, StrategyCost } from '../results/results.ts'
import { compareCosts, meanCost } from './exposure.ts'
import { findRemedy, type RanCell } from './remedy.ts'

/**
 * What is asked: which firmware and which scenarios a strategy has to survive. Without `firmware` a firmware without quirks and each known quirk alone; without
 * `strategies` all that are known, with their default options.
 */
export type RecommendRequest = CaseFilters

/** Runs cells and gives their results in their order. `options` names the strategy whose options are tried, undefined for the cells that were asked for. */
export type CellRunner = (
  specs: readonly CaseSpec[],
  options: string | undefined,
) => Promise<readonly CaseResult[]>

/** A strategy with everything that was run under it. */
export interface RankedStrategy {
  readonly label: string
  readonly title: string
  readonly cells: readonly CaseResult[]
  readonly failed: readonly CaseResult[]
  /** Means over the cells that came far enough to call; undefined where none did. */
  readonly cost: StrategyCost | undefined
  /** The set of switches that {@link findRemedy} came to, as a strategy label; undefined where it passes as it is, or none was found. */
  readonly remedy: string | undefined
}

/**
 * Runs every strategy on the firmware and the scenarios that are asked for, and ranks them: first those with fewer cells that end badly, then the less exposed (writable and
 * executable bytes, page 0, boot services, conflicting memory types), then the cheaper calls. For one that fails it looks for a small set of its options that passes.
 * `run` defaults to all cells at once, in this thread; what it throws ends the work.
 */
export async function recommend(
  environment: CaseEnvironment,
  request: RecommendRequest = {},
  run: CellRunner = (specs) => Promise.resolve(runCases(environment, specs)),
): Promise<RankedStrategy[]> {
  const specs = planCases(environment.config, {
    ...request,
    firmware: request.firmware ?? ['*'],
    strategies: request.strategies ?? ['*'],
  })
  const results = await run(specs, undefined)
  const cells = specs.map((spec, index): RanCell => ({ spec, result: results[index]! }))
  const ranked: RankedStrategy[] = []
  for (const [label, own] of Map.groupBy(cells, ({ spec }) => strategyLabel(spec.strategy))) {
    ranked.push(await rankOne(environment, { label, cells: own }, run))
  }
  return ranked.toSorted(compareRanked)
}

/** Whether a strategy survives everything that it was asked to. */
export function passes({ failed }: RankedStrategy): boolean {
  return failed.length === 0
}

async function rankOne(
  environment: CaseEnvironment,
  { label, cells }: { readonly label: string; readonly cells: readonly RanCell[] },
  run: CellRunner,
): Promise<RankedStrategy> {
  const { strategy } = cells[0]!.spec
  const { title, options = {} } = environment.config.registry.strategy(strategy.name)
  const results = cells.map(({ result }) => result)
  return {
    label,
    title,
    cells: results,
    failed: results.filter(({ outcome }) => outcome !== 'ok'),
    cost: meanCost(results.flatMap(({ cost }) => cost ?? [])),
    remedy: await findRemedy({ strategy, options, cells }, (specs) => run(specs, label)),
  }
}

/** The rule of {@link recommend}. */
function compareRanked(a: RankedStrategy, b: RankedStrategy): number {
  return (
    a.failed.length - b.failed.length ||
    compareCosts(a.cost, b.cost) ||
    a.label.localeCompare(b.label)
  )
}
