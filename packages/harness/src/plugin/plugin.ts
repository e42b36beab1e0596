import type { Quirk } from '@trapdoor/firmware'
import type { StrategyDefinition } from '@trapdoor/kernel'
import type { Rule } from '../rules/rule.ts'
import type { Scenario } from '../scenario/scenario.ts'
import { checkPlugin } from './check.ts'

/** The plugin interface that this version of the harness speaks. */
export const PLUGIN_API_VERSION = 1

/** What a package adds to Trapdoor: a plain object, checked when it is loaded. It never knows what else runs with it. */
export interface Plugin {
  /** Name of the package, such as "trapdoor-plugin-acme". Errors name it. */
  readonly name: string
  /** The interface that it was written against: always 1. */
  readonly apiVersion: typeof PLUGIN_API_VERSION
  /** Version of the package. Two plugins of one name and version are the same plugin. */
  readonly version?: string
  /** Habits of firmware, each a row of the matrix. */
  readonly quirks?: readonly Quirk[]
  /** Ways to build and switch page tables, each a column of the matrix. */
  readonly strategies?: readonly StrategyDefinition[]
  readonly scenarios?: readonly Scenario[]
  readonly rules?: readonly Rule[]
}

/** What the module of a plugin exports by default when the plugin takes options. */
export type PluginFactory = (options: unknown) => Plugin

/**
 * Checks a plugin and hands it back unchanged. Throws HARNESS_BAD_PLUGIN, naming the plugin and the place in it, on an
 * unknown key or hook, a value of the wrong kind, another `apiVersion`, or one name used twice.
 */
export function definePlugin(plugin: Plugin): Plugin {
  checkPlugin(plugin)
  return plugin
}
