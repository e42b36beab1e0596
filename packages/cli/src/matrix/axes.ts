import { type CaseResult, firmwareLabel, type Results } from '@trapdoor/harness'

/** The cases of a run by their place in the matrix. */
export interface Matrix {
  readonly memoryMaps: readonly string[]
  /** Labels of the rows. */
  readonly firmware: readonly string[]
  /** Labels of the columns. */
  readonly strategies: readonly string[]
  readonly scenarios: readonly string[]
  cell(
    memoryMap: string,
    firmware: string,
    strategy: string,
    scenario: string,
  ): CaseResult | undefined
}

/** Arranges results; each axis is in the order in which the cases have it. */
export function arrange(results: Results): Matrix {
  const { cases } = results
  const cells = new Map(
    cases.map((result) => [
      cellKey(result.memoryMap, firmwareLabel(result.quirks), result.strategy, result.scenario),
      result,
    ]),
  )
  return {
    memoryMaps: distinct(cases.map(({ memoryMap }) => memoryMap)),
    firmware: distinct(cases.map(({ quirks }) => firmwareLabel(quirks))),
    strategies: distinct(cases.map(({ strategy }) => strategy)),
    scenarios: distinct(cases.map(({ scenario }) => scenario)),
    cell: (...place) => cells.get(cellKey(...place)),
  }
}

/** One letter or digit for each scenario: the first of its name that no scenario before it has, a capital where these are taken. */
export function scenarioLetters(scenarios: readonly string[]): Map<string, string> {
  const letters = new Map<string, string>()
  const taken = new Set<string>()
  for (const scenario of scenarios) {
    const own = scenario.replaceAll(/[^a-z\d]/g, '')
    const candidates = `${own}${own.toUpperCase()}0123456789`.split('')
    const letter = candidates.find((each) => !taken.has(each)) ?? '?'
    taken.add(letter)
    letters.set(scenario, letter)
  }
  return letters
}

function cellKey(memoryMap: string, firmware: string, strategy: string, scenario: string): string {
  return [memoryMap, firmware, strategy, scenario].join('\n')
}

/** Each once, in the order of their first appearance. */
export function distinct(names: readonly string[]): string[] {
  return [...new Set(names)]
}

/** A reason as it is the same on other memory maps: addresses differ from one to the next. */
export function withoutAddresses(reason: string): string {
  return reason.replaceAll(/0x[0-9a-f]+/g, '0x…')
}

/** The names of an axis that occur, told shortly where they are many. `kind` is the axis in the plural. */
export function some(names: readonly string[], all: readonly string[], kind: string): string {
  const present = all.filter((name) => names.includes(name))
  if (present.length === all.length && all.length > 1) {
    return all.length === 2 ? `both ${kind}` : `all ${all.length} ${kind}`
  }
  if (present.length <= 4) return present.join(', ')
  const missing = all.filter((name) => !present.includes(name))
  if (missing.length <= 2) return `all ${kind} but ${missing.join(', ')}`
  return `${present.slice(0, 3).join(', ')} and ${present.length - 3} more`
}
