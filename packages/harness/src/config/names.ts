import { firmwareArchitectureOf } from '@trapdoor/kernel'
import { type Architecture, ARCHITECTURES } from '@trapdoor/uefi'
import { HarnessError } from '../error.ts'
import { type PluginRegistry, unknownName } from '../plugin/registry.ts'
import type { StrategySelection } from './case-spec.ts'
import type { MemoryMapFile } from './resolved-config.ts'

/** What the firmware of the machines at hand is built for. */
export type Architectures = ReadonlySet<Architecture['name']>

/** What the firmware of these machines is built for; anything where there are none. */
export function architecturesOf(memoryMaps: readonly MemoryMapFile[]): Architectures {
  return new Set(
    memoryMaps.length === 0
      ? (Object.keys(ARCHITECTURES) as Architecture['name'][])
      : memoryMaps.map(({ architecture = 'x64' }) => architecture),
  )
}

/** Whether firmware that is built for one of these can have all of the quirks. */
export function fitsQuirks(
  quirks: readonly string[],
  registry: PluginRegistry,
  architectures: Architectures,
): boolean {
  return quirks.every((id) => {
    const possible = registry.quirk(id).architectures
    return possible === undefined || possible.some((name) => architectures.has(name))
  })
}

/**
 * The quirk sets that an entry stands for: "none", a quirk by id or name, several joined by "+" or in a list, or "*" for
 * none and every quirk alone that these machines can have. Throws HARNESS_UNKNOWN_NAME, and HARNESS_BAD_CONFIG on a quirk that one set has twice.
 */
export function quirkSetsOf(
  entry: string | readonly string[],
  registry: PluginRegistry,
  architectures: Architectures,
): string[][] {
  if (entry === '*') {
    const alone = [...registry.quirks.keys()].map((id) => [id])
    return [[], ...alone.filter((quirks) => fitsQuirks(quirks, registry, architectures))]
  }
  if (entry === 'none') return [[]]
  const names = typeof entry === 'string' ? entry.split('+') : entry
  const ids = names.map((name) => registry.quirk(name).id)
  const twice = ids.find((id, index) => ids.indexOf(id) !== index)
  if (twice !== undefined) {
    throw new HarnessError('HARNESS_BAD_CONFIG', {
      expected: 'each quirk once in a firmware',
      found: `${twice} twice in ${names.join('+')}`,
    })
  }
  return [ids]
}

/**
 * The choice with its options checked against the strategy's, in the strategy's order, and without those that have their
 * default value: one column of the matrix has one name. Throws HARNESS_UNKNOWN_NAME.
 */
export function checkedStrategy(
  choice: StrategySelection,
  registry: PluginRegistry,
): StrategySelection {
  const declared = registry.strategy(choice.name).options ?? {}
  const options: Record<string, string> = {}
  for (const [option, value] of Object.entries(choice.options)) {
    const legal = declared[option]
    if (legal === undefined) {
      return unknownName(`option of strategy "${choice.name}"`, option, Object.keys(declared))
    }
    if (!legal.values.includes(value)) {
      return unknownName(`value of ${choice.name}'s option "${option}"`, value, legal.values)
    }
  }
  for (const [option, { default: fallback }] of Object.entries(declared)) {
    const value = choice.options[option]
    if (value !== undefined && value !== fallback) options[option] = value
  }
  return { name: choice.name, options }
}

/**
 * The strategies that an entry stands for: "*" is all that call firmware as wide as that of one of these machines, with their default options. Throws
 * HARNESS_UNKNOWN_NAME.
 */
export function strategiesOf(
  entry: string | StrategySelection,
  registry: PluginRegistry,
  architectures: Architectures,
): StrategySelection[] {
  if (entry === '*') {
    return [...registry.strategies.values()]
      .filter((definition) => architectures.has(firmwareArchitectureOf({ definition }).name))
      .map(({ name }) => ({ name, options: {} }))
  }
  const choice = typeof entry === 'string' ? { name: entry, options: {} } : entry
  return [checkedStrategy(choice, registry)]
}

/** The scenarios that an entry stands for: "*" is all. Throws HARNESS_UNKNOWN_NAME. */
export function scenariosOf(entry: string, registry: PluginRegistry): string[] {
  return entry === '*' ? [...registry.scenarios.keys()] : [registry.scenario(entry).name]
}

/** One entry for each key, in the order in which the keys come first. */
export function unique<Entry>(entries: readonly Entry[], key: (entry: Entry) => string): Entry[] {
  return [...new Map(entries.map((entry) => [key(entry), entry])).values()]
}
