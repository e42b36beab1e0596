import { dirname, join, relative, resolve } from 'node:path'
import { HarnessError } from '../error.ts'
import { loadPlugin } from '../plugin/load.ts'
import type { Plugin } from '../plugin/plugin.ts'
import { PluginRegistry } from '../plugin/registry.ts'
import {
  DEFAULT_SEED,
  parseStrategyLabel,
  type StrategySelection,
  strategyLabel,
} from './case-spec.ts'
import { findConfig, type FoundConfig } from './find.ts'
import { argumentMaps, configuredMaps, refuseSharedIds } from './memory-maps.ts'
import { architecturesOf, quirkSetsOf, scenariosOf, strategiesOf, unique } from './names.ts'
import type { ResolvedConfig } from './resolved-config.ts'
import { placeOf } from './source.ts'

/** More than twenty times what the longest recorded call of OVMF takes. */
const DEFAULT_INSTRUCTION_LIMIT = 100_000_000

/** What a caller says over what the configuration file says. Relative paths start from the working directory. */
export interface ConfigOverrides {
  /** `FILE`, `id=FILE`, `ia32:FILE` or `id=ia32:FILE`; they replace the configuration's. */
  readonly memoryMaps?: readonly string[]
  /** `FOLDER` or `id=FOLDER` of real firmwares; they replace the configuration's memory maps, too. */
  readonly snapshots?: readonly string[]
  readonly commandLine?: string
  readonly seed?: number
  readonly instructionLimit?: number
  readonly output?: string
}

/** How to come to a {@link ResolvedConfig}. */
export interface LoadConfigOptions {
  /** Working directory: where a configuration is looked for. */
  readonly directory: string
  /** The configuration file, when it was named. */
  readonly file?: string | undefined
  /** Plugins that are always there. */
  readonly builtIn?: readonly Plugin[]
  readonly overrides?: ConfigOverrides
}

/**
 * Finds a configuration, loads its plugins and looks every name up. Without a file everything has its default and there
 * are no memory maps but those of the overrides. Throws a HarnessError that names file, line or property, and the nearest
 * legal name.
 */
export async function loadConfig(options: LoadConfigOptions): Promise<ResolvedConfig> {
  const { directory, builtIn = [], overrides = {} } = options
  const named = options.file === undefined ? undefined : resolve(directory, options.file)
  const found = await findConfig(directory, named)
  const config = found?.config ?? {}
  const base = found === undefined ? directory : dirname(found.source.file)

  const plugins: Plugin[] = [...builtIn]
  for (const [index, reference] of (config.plugins ?? []).entries()) {
    plugins.push(
      await located(found, ['plugins', index], () =>
        loadPlugin(reference, join(base, 'trapdoor.config'), builtIn),
      ),
    )
  }
  const registry = await located(found, ['plugins'], () => new PluginRegistry(plugins))

  const memoryMaps =
    overrides.memoryMaps === undefined && overrides.snapshots === undefined
      ? configuredMaps(config.memoryMaps ?? [], { base, working: directory })
      : argumentMaps(overrides.memoryMaps ?? [], overrides.snapshots ?? [], directory)
  refuseSharedIds(memoryMaps, found)
  const architectures = architecturesOf(memoryMaps)

  const quirkSets = await lookUp(found, 'firmware', config.firmware, (entry) =>
    quirkSetsOf(entry, registry, architectures),
  )
  const strategies = await lookUp(found, 'strategies', config.strategies, (entry) =>
    strategiesOf(
      entry === '*' ? entry : typeof entry === 'string' ? parseStrategyLabel(entry) : chosen(entry),
      registry,
      architectures,
    ),
  )
  const scenarios = await lookUp(found, 'scenarios', config.scenarios, (entry) =>
    scenariosOf(entry, registry),
  )
  return {
    file: found?.source.file,
    memoryMaps,
    registry,
    quirkSets: unique(quirkSets, (set) => set.join('+')),
    strategies: unique(strategies, strategyLabel),
    scenarios: unique(scenarios, (name) => name),
    commandLine: overrides.commandLine ?? config.kernel?.commandLine ?? '',
    cpu: config.cpu,
    seed: overrides.seed ?? config.seed ?? DEFAULT_SEED,
    instructionLimit:
      overrides.instructionLimit ?? config.instructionLimit ?? DEFAULT_INSTRUCTION_LIMIT,
    ...(config.expect === undefined ? {} : { expect: resolve(base, config.expect) }),
    output:
      overrides.output === undefined
        ? resolve(base, config.output ?? 'results.json')
        : resolve(directory, overrides.output),
    commandArguments: [
      ...(named === undefined ? [] : ['--config', relative(directory, named)]),
      ...(overrides.commandLine === undefined ? [] : ['--command-line', overrides.commandLine]),
      ...(overrides.instructionLimit === undefined
        ? []
        : ['--instruction-limit', String(overrides.instructionLimit)]),
    ],
  }
}

function chosen([name, options]: readonly [
  string,
  Readonly<Record<string, string>>,
]): StrategySelection {
  return { name, options }
}

/** Looks up a list of names, all ("*") where the configuration has none. */
async function lookUp<Entry, Value>(
  found: FoundConfig | undefined,
  property: string,
  entries: readonly Entry[] | undefined,
  read: (entry: Entry | '*') => Value[],
): Promise<Value[]> {
  if (entries === undefined) return read('*')
  const values: Value[] = []
  for (const [index, entry] of entries.entries()) {
    values.push(...(await located(found, [property, index], () => read(entry))))
  }
  return values
}

/** Does `work`; a HarnessError that does not know its place gets the one of `path`. */
async function located<Value>(
  found: FoundConfig | undefined,
  path: readonly (string | number)[],
  work: () => Value | Promise<Value>,
): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof HarnessError) || found === undefined || error.line !== undefined) {
      throw error
    }
    const { file, line, property } = placeOf(found.source, path)
    throw new HarnessError(error.code, {
      expected: error.expected,
      found: `${error.found} in ${property}`,
      hint: error.hint,
      file,
      line,
      cause: error,
    })
  }
}
