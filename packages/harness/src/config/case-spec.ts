import { HarnessError } from '../error.ts'

/** The seed of a case whose id names none. */
export const DEFAULT_SEED = 1

/** A strategy with the options that were chosen for it; what is not chosen keeps its default. */
export interface StrategySelection {
  readonly name: string
  readonly options: Readonly<Record<string, string>>
}

/** One cell of the matrix, before it runs. */
export interface CaseSpec {
  /** See {@link caseId}. */
  readonly id: string
  readonly memoryMapId: string
  /** Ids in the order in which they tap; empty for a firmware without quirks. */
  readonly quirks: readonly string[]
  readonly strategy: StrategySelection
  readonly scenario: string
  readonly seed: number
}

/** `Q01+Q20`, or `none` for a firmware without quirks. */
export function firmwareLabel(quirks: readonly string[]): string {
  return quirks.length === 0 ? 'none' : quirks.join('+')
}

/** `name`, or `name:option=value,…` in the order of the options. */
export function strategyLabel({ name, options }: StrategySelection): string {
  const chosen = Object.entries(options).map(([option, value]) => `${option}=${value}`)
  return chosen.length === 0 ? name : `${name}:${chosen.join(',')}`
}

/** Reads what {@link strategyLabel} writes. Throws HARNESS_BAD_CASE_ID on an option without a value. */
export function parseStrategyLabel(label: string): StrategySelection {
  const colon = label.indexOf(':')
  if (colon === -1) return { name: label, options: {} }
  const options: Record<string, string> = {}
  for (const pair of label.slice(colon + 1).split(',')) {
    const [, option, value] = /^([^=]+)=(.+)$/.exec(pair) ?? []
    if (option === undefined || value === undefined) {
      throw new HarnessError('HARNESS_BAD_CASE_ID', {
        expected: 'a strategy as name or name:option=value,…',
        found: `"${label}"`,
      })
    }
    options[option] = value
  }
  return { name: label.slice(0, colon), options }
}

/** The name of a case: `map/firmware/strategy/scenario`, with `#seed` where the seed is not {@link DEFAULT_SEED}. It replays the case. */
export function caseId(spec: Omit<CaseSpec, 'id'>): string {
  const seed = spec.seed === DEFAULT_SEED ? '' : `#${spec.seed}`
  return `${spec.memoryMapId}/${firmwareLabel(spec.quirks)}/${strategyLabel(spec.strategy)}/${spec.scenario}${seed}`
}

/** Reads what {@link caseId} writes; names are not looked up. Throws HARNESS_BAD_CASE_ID. */
export function parseCaseId(id: string): CaseSpec {
  const match = /^([^/]+)\/([^/]+)\/([^/]+)\/([^/#]+)(?:#(\d+))?$/.exec(id)
  if (match === null) {
    throw new HarnessError('HARNESS_BAD_CASE_ID', {
      expected: 'a case as map/firmware/strategy/scenario',
      found: `"${id}"`,
      hint: 'results.json and the lines below the matrix of `trapdoor run` name every case',
    })
  }
  const [, memoryMapId, firmware, strategy, scenario, seed] = match
  const spec = {
    memoryMapId: memoryMapId!,
    quirks: firmware === 'none' ? [] : firmware!.split('+'),
    strategy: parseStrategyLabel(strategy!),
    scenario: scenario!,
    seed: seed === undefined ? DEFAULT_SEED : Number(seed),
  }
  return { id: caseId(spec), ...spec }
}
