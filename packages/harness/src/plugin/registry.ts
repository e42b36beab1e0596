import type { Quirk } from '@trapdoor/firmware'
import type { StrategyDefinition } from '@trapdoor/kernel'
import { HarnessError } from '../error.ts'
import { nameHint } from '../nearest.ts'
import type { Rule } from '../rules/rule.ts'
import type { Scenario } from '../scenario/scenario.ts'
import { checkPlugin } from './check.ts'
import type { Plugin } from './plugin.ts'

/** What a name can stand for. */
export type PluginPart = 'quirk' | 'strategy' | 'scenario' | 'rule'

/** Everything that the plugins of a run bring, by name and in their order. */
export class PluginRegistry {
  /** Each once. */
  readonly plugins: readonly Plugin[]
  /** By id, such as "Q06". */
  readonly quirks: ReadonlyMap<string, Quirk>
  readonly strategies: ReadonlyMap<string, StrategyDefinition>
  readonly scenarios: ReadonlyMap<string, Scenario>
  /** By id, such as "H9". */
  readonly rules: ReadonlyMap<string, Rule>
  readonly #owners: ReadonlyMap<string, string>

  /**
   * A plugin that comes twice, with the same name, version and parts, counts once. Throws HARNESS_BAD_PLUGIN, and
   * HARNESS_DUPLICATE_NAME when two plugins bring one name.
   */
  constructor(plugins: readonly Plugin[]) {
    const owners = new Map<string, string>()
    this.plugins = distinct(plugins)
    this.quirks = collect(this.plugins, 'quirk', owners, (plugin) =>
      (plugin.quirks ?? []).map((quirk) => [quirk.id, quirk]),
    )
    this.strategies = collect(this.plugins, 'strategy', owners, (plugin) =>
      (plugin.strategies ?? []).map((strategy) => [strategy.name, strategy]),
    )
    this.scenarios = collect(this.plugins, 'scenario', owners, (plugin) =>
      (plugin.scenarios ?? []).map((scenario) => [scenario.name, scenario]),
    )
    this.rules = collect(this.plugins, 'rule', owners, (plugin) =>
      (plugin.rules ?? []).map((rule) => [rule.id, rule]),
    )
    this.#owners = owners
  }

  /** Name of the plugin that brings `name`. */
  pluginOf(part: PluginPart, name: string): string | undefined {
    return this.#owners.get(`${part} ${name}`)
  }

  /** A quirk by its id or name ("Q06", "svam-required"). Throws HARNESS_UNKNOWN_NAME. */
  quirk(name: string): Quirk {
    const found =
      this.quirks.get(name) ?? [...this.quirks.values()].find((quirk) => quirk.name === name)
    const legal = [...this.quirks.values()].flatMap((quirk) => [quirk.id, quirk.name])
    return found ?? unknownName('quirk', name, ['none', ...legal])
  }

  /** Throws HARNESS_UNKNOWN_NAME. */
  strategy(name: string): StrategyDefinition {
    return this.strategies.get(name) ?? unknownName('strategy', name, this.strategies.keys())
  }

  /** Throws HARNESS_UNKNOWN_NAME. */
  scenario(name: string): Scenario {
    return this.scenarios.get(name) ?? unknownName('scenario', name, this.scenarios.keys())
  }
}

/** Throws HARNESS_UNKNOWN_NAME with the nearest legal name. */
export function unknownName(kind: string, name: string, legal: Iterable<string>): never {
  throw new HarnessError('HARNESS_UNKNOWN_NAME', {
    expected: `${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind}`,
    found: `"${name}"`,
    hint: nameHint(name, [...legal]),
  })
}

function distinct(plugins: readonly Plugin[]): Plugin[] {
  const byIdentity = new Map<string, Plugin>()
  for (const plugin of plugins) {
    checkPlugin(plugin)
    const parts = [
      ...(plugin.quirks ?? []).map(({ id }) => id),
      ...(plugin.strategies ?? []).map(({ name }) => name),
      ...(plugin.scenarios ?? []).map(({ name }) => name),
      ...(plugin.rules ?? []).map(({ id }) => id),
    ]
    const identity = JSON.stringify([plugin.name, plugin.version, parts])
    if (!byIdentity.has(identity)) byIdentity.set(identity, plugin)
  }
  const kept = [...byIdentity.values()]
  const names = kept.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice === undefined) return kept
  throw new HarnessError('HARNESS_DUPLICATE_NAME', {
    expected: 'each plugin in one version',
    found: `two different plugins named "${twice}"`,
    hint: 'name yours after its package, and load one version of it',
  })
}

function collect<Part>(
  plugins: readonly Plugin[],
  part: PluginPart,
  owners: Map<string, string>,
  entries: (plugin: Plugin) => readonly (readonly [string, Part])[],
): ReadonlyMap<string, Part> {
  const all = new Map<string, Part>()
  for (const plugin of plugins) {
    for (const [name, value] of entries(plugin)) {
      const other = owners.get(`${part} ${name}`)
      if (other !== undefined) {
        throw new HarnessError('HARNESS_DUPLICATE_NAME', {
          expected: `${part} "${name}" from one plugin`,
          found: `it in "${other}" and in "${plugin.name}"`,
          hint: 'rename one of them; names identify cells of the matrix',
        })
      }
      owners.set(`${part} ${name}`, plugin.name)
      all.set(name, value)
    }
  }
  return all
}
